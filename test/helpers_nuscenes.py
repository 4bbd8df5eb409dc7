# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Small folders in nuScenes' layout, whose places are worked out with matrices alone."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

VERSION = "v1.0-mini"
CATEGORIES = (
    "vehicle.car",
    "vehicle.truck",
    "human.pedestrian.child",
    "vehicle.bicycle",
    "movable_object.trafficcone",
    "movable_object.barrier",
    "static_object.bicycle_rack",
    "animal",
)
STEP_US = 500_000
# How long before a sample the unlabelled sweep before it is.
BEFORE_US = 50_000
START_US = 1_532_402_927_647_951
CAR = (4.0, 2.0, 1.5)
# The LiDAR looks along its y axis, as nuScenes' does: x is to the right.
RIGHT_LEFT = np.array([[0, 1, 0, 0.9], [-1, 0, 0, 0.1], [0, 0, 1, 1.8], [0, 0, 0, 1.0]])


@dataclass(frozen=True)
class Thing:
    """An object in one sample: its place in the world, [4, 4], and its length, width, height."""

    name: str
    category: str
    place: np.ndarray
    size: tuple[float, float, float]
    lidar: int = 5
    radar: int = 0


@dataclass(frozen=True)
class Shot:
    """A sample: where the vehicle is, [4, 4], what the LiDAR saw, and what was there.

    `before` is the pose and the points of the unlabelled sweep before it; its file is not there
    where that is None.
    """

    stamp_us: int
    pose: np.ndarray
    points: np.ndarray = field(default_factory=lambda: np.ones((3, 5), np.float32))
    things: Sequence[Thing] = ()
    before: tuple[np.ndarray, np.ndarray] | None = None


def turn(axis: int, angle: float) -> np.ndarray:
    """Return the rotation by an angle about x, y or z, [4, 4]."""
    first, second = (axis + 1) % 3, (axis + 2) % 3
    matrix = np.eye(4)
    matrix[first, first] = matrix[second, second] = math.cos(angle)
    matrix[second, first] = math.sin(angle)
    matrix[first, second] = -math.sin(angle)
    return matrix


def at(x: float, y: float, z: float, yaw: float = 0.0, pitch: float = 0.0, roll: float = 0.0):
    """Return the place of what stands at x, y, z and is turned, [4, 4]."""
    matrix = turn(2, yaw) @ turn(1, pitch) @ turn(0, roll)
    matrix[:3, 3] = x, y, z
    return matrix


def quaternion(matrix: np.ndarray) -> list[float]:
    """Return w, x, y, z of a rotation: an eigenvector (Bar-Itzhack, 2000)."""
    (a, b, c), (d, e, f), (g, h, i) = matrix[:3, :3]
    symmetric = np.array(
        [
            [a + e + i, h - f, c - g, d - b],
            [h - f, a - e - i, b + d, c + g],
            [c - g, b + d, e - a - i, f + h],
            [d - b, c + g, f + h, i - a - e],
        ]
    )
    return np.linalg.eigh(symmetric)[1][:, -1].tolist()


def boxed(shot: Shot, mounting: np.ndarray, box: Sequence[float], **more: Any) -> Thing:
    """Return what stands in a box of the LiDAR's frame: x, y, z, length, width, height, yaw."""
    x, y, z, *size, yaw = box
    more = {"name": f"at {x} {y}", "category": "vehicle.car", **more}
    return Thing(place=shot.pose @ mounting @ at(x, y, z, yaw), size=tuple(size), **more)


def write_nuscenes(
    root: Path,
    scenes: Mapping[str, Sequence[Shot]],
    mounting: np.ndarray = RIGHT_LEFT,
    version: str = VERSION,
) -> Path:
    """Write scenes with a LiDAR, whose unlabelled sweeps lie between its key frames, and a camera.

    The LiDAR's stamps are 1 ms after the samples'.
    """
    tables: dict[str, list[dict[str, Any]]] = {
        "scene": [],
        "sample": [],
        "sample_data": [],
        "ego_pose": [],
        "sample_annotation": [],
        "sensor": [
            {"token": "lidar", "channel": "LIDAR_TOP", "modality": "lidar"},
            {"token": "camera", "channel": "CAM_FRONT", "modality": "camera"},
        ],
        "calibrated_sensor": [
            {"token": "lidar set", "sensor_token": "lidar", **_placed(mounting)},
            {"token": "camera set", "sensor_token": "camera", **_placed(np.eye(4))},
        ],
        "category": [{"token": f"kind {name}", "name": name} for name in CATEGORIES],
        "instance": [],
    }
    for name, shots in scenes.items():
        _write_scene(root, tables, name, shots)
    for name in ("attribute", "visibility", "log", "map"):
        tables[name] = []
    (root / version).mkdir(parents=True)
    for name, rows in tables.items():
        (root / version / f"{name}.json").write_text(json.dumps(rows, indent=0))
    return root


def change(root: Path, table: str, token: str, **changes: Any) -> None:
    """Change a record; a value of ... takes the key away."""
    path = root / VERSION / f"{table}.json"
    rows = json.loads(path.read_text())
    (row,) = [row for row in rows if row["token"] == token]
    row.update(changes)
    for key in [key for key, value in changes.items() if value is ...]:
        del row[key]
    path.write_text(json.dumps(rows))


def _placed(matrix: np.ndarray) -> dict[str, Any]:
    return {"translation": matrix[:3, 3].tolist(), "rotation": quaternion(matrix)}


def _write_scene(
    root: Path, tables: dict[str, list[dict[str, Any]]], scene: str, shots: Sequence[Shot]
) -> None:
    tables["scene"].append({"token": f"token of {scene}", "name": scene})
    last_sweep = ""
    held: dict[str, list[dict[str, Any]]] = {}
    for number, shot in enumerate(shots):
        sample = f"{scene} {number}"
        tables["sample"].append(
            {"token": sample, "timestamp": shot.stamp_us, "scene_token": f"token of {scene}"}
        )
        key = f"samples/LIDAR_TOP/{scene}-{number}.pcd.bin"
        unlabelled = f"sweeps/LIDAR_TOP/{scene}-{number}.pcd.bin"
        _write_points(root / key, shot.points)
        if shot.before is not None:
            _write_points(root / unlabelled, shot.before[1])
        for sensor, is_key, stamp, file in (
            ("lidar", False, shot.stamp_us - BEFORE_US, unlabelled),
            ("lidar", True, shot.stamp_us + 1000, key),
            ("camera", True, shot.stamp_us, f"samples/CAM_FRONT/{scene}-{number}.jpg"),
        ):
            token = f"{sample} {sensor} {'key' if is_key else 'sweep'}"
            lidar = sensor == "lidar"
            row = {
                "token": token,
                "sample_token": sample,
                "ego_pose_token": f"pose of {token}",
                "calibrated_sensor_token": f"{sensor} set",
                "timestamp": stamp,
                "is_key_frame": is_key,
                "filename": file,
                "prev": last_sweep if lidar else "",
                "next": "",
            }
            last_sweep = token if lidar else last_sweep
            tables["sample_data"].append(row)
            pose = shot.pose if is_key and lidar else np.eye(4)
            if file == unlabelled and shot.before is not None:
                pose = shot.before[0]
            tables["ego_pose"].append({"token": f"pose of {token}", **_placed(pose)})
        for thing in shot.things:
            row = _annotation(thing, f"{scene} {thing.name}", sample)
            held.setdefault(thing.name, []).append(row)
    for name, rows in held.items():
        (category,) = {row.pop("category") for row in rows}
        tables["instance"].append(
            {"token": f"{scene} {name}", "category_token": f"kind {category}"}
        )
        for one, following in pairwise(rows):
            one["next"], following["prev"] = following["token"], one["token"]
        tables["sample_annotation"] += rows


def _write_points(path: Path, points: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    points.astype("<f4").tofile(path)


def _annotation(thing: Thing, instance: str, sample: str) -> dict[str, Any]:
    length, width, height = thing.size
    return {
        "token": f"{sample}: {thing.name}",
        "sample_token": sample,
        "instance_token": instance,
        "category": thing.category,
        **_placed(thing.place),
        "size": [width, length, height],
        "num_lidar_pts": thing.lidar,
        "num_radar_pts": thing.radar,
        "prev": "",
        "next": "",
    }


def pose(step: float) -> np.ndarray:
    """Return where the vehicle is: it drives 5 m a step, on a slope, and turns by 0.1."""
    return at(1000 + 5 * step, 500 + step, 2, 0.7 + 0.1 * step, 0.03, -0.02)


def car_place(step: int) -> np.ndarray:
    return at(1020 + 3 * step, 512 - 2 * step, 2.5, -0.4)


def drive(steps: int = 3) -> list[Shot]:
    rng = np.random.default_rng(steps)
    return [
        Shot(
            START_US + step * STEP_US,
            pose(step),
            rng.uniform(-50, 255, (7, 5)).astype(np.float32),
            [
                Thing("moving", "vehicle.car", car_place(step), CAR),
                Thing("cone", "movable_object.trafficcone", at(1015, 505, 2), (0.4, 0.3, 1.0)),
                Thing("dog", "animal", at(1010, 505, 2), (0.5, 0.3, 0.4)),
                Thing("hidden", "vehicle.truck", at(1030, 505, 2), (9, 3, 4), lidar=0),
                Thing("by radar", "vehicle.truck", at(1030, 515, 2), (8, 2, 3), lidar=0, radar=1),
            ],
            (pose(step - 0.1), rng.uniform(-50, 255, (5 + step, 5)).astype(np.float32)),
        )
        for step in range(steps)
    ]
