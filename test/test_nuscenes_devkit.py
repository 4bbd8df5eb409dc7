# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""A crowded nuScenes folder, and what nuscenes-devkit 1.2 says of detections in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers_nuscenes import CATEGORIES, RIGHT_LEFT, START_US, Shot, Thing, at, write_nuscenes

from av_compress.data.nuscenes import CLASS_NAMES, NuscenesFolder
from av_compress.metrics.nuscenes import DETECTION_CVPR_2019, nuscenes_average_precision
from av_compress.tasks.base import Detections3D

# Two scenes of the devkit's split mini_val.
SCENES = ("scene-0103", "scene-0916")

# True objects that count, average precision at 0.5, 1, 2 and 4 m, and errors of translation,
# scale, orientation and velocity, by DetectionEval with detection_cvpr_2019.
DEVKIT = {
    "car": (
        17,
        (0.125554, 0.462295, 0.653087, 0.653087),
        (0.604188, 0.063459, 0.164058, 7.649263),
    ),
    "pedestrian": (
        19,
        (0.041313, 0.299855, 0.751553, 0.751553),
        (0.816222, 0.050658, 0.284758, 7.054253),
    ),
    "truck": (
        13,
        (0.003648, 0.130243, 0.202963, 0.202963),
        (0.630307, 0.072088, 0.069092, 9.927278),
    ),
    "bicycle": (
        23,
        (0.038244, 0.399262, 0.623727, 0.623727),
        (0.66331, 0.097354, 0.19363, 8.39565),
    ),
    "traffic_cone": (18, (0.046964, 0.52628, 0.52628, 0.52628), (0.586174, 0.04786, None, None)),
    "barrier": (6, (0.213342, 0.38549, 0.991358, 0.991358), (0.655941, 0.084259, 0.067759, None)),
}
# Of the annotations of the ten classes that have points: of how many box_velocity knows a
# velocity, and the sum of the speeds.
DEVKIT_SPEEDS = (225, 2024.3201359)


def crowd(seed: int) -> list[Shot]:
    """Return samples full of objects that move, hide for a while, and stand in racks."""
    rng = np.random.default_rng(seed)
    objects = [
        (
            str(rng.choice(CATEGORIES)),
            rng.uniform(-55, 55, 2),
            rng.uniform(-4, 4, 2),
            rng.uniform(-3, 3),
            rng.uniform(0.4, 8, 3),
        )
        for _ in range(60)
    ]
    objects += [
        ("vehicle.bicycle", place + 0.3, *more)
        for kind, place, *more in objects
        if kind == "static_object.bicycle_rack"
    ]
    shots = []
    for step in range(6):
        pose = at(400 + 4 * step, 900 + 2 * step, 1, 0.3 + 0.05 * step, 0.02, -0.01)
        things = []
        for number, (kind, place, speed, yaw, size) in enumerate(objects):
            x, y = pose[:2, 3] + place + speed * 0.5 * step
            points = {"lidar": int(rng.integers(0, 3)), "radar": int(rng.integers(0, 2))}
            if rng.uniform() < 0.45:
                things.append(Thing(f"{number}", kind, at(x, y, 1.5, yaw), tuple(size), **points))
        shots.append(Shot(START_US + step * 500_000, pose, things=things))
    return shots


def detections(shot: Shot, seed: int) -> Detections3D:
    """Return boxes near most objects, racks among them, and elsewhere."""
    rng = np.random.default_rng(seed)
    here = np.linalg.inv(shot.pose @ RIGHT_LEFT)
    rows = []
    for thing in shot.things:
        x, y, z = (here @ thing.place)[:3, 3] + rng.normal(0, [0.6, 0.6, 0.3])
        ahead = here @ thing.place @ [1, 0, 0, 0]
        size = np.maximum(np.array(thing.size) + rng.normal(0, 0.1, 3), 0.2)
        name = _NAMES.get(thing.category, "truck")
        yaw = np.arctan2(ahead[1], ahead[0]) + rng.normal(0, 0.2)
        if rng.uniform() < 0.8:
            rows.append((x, y, z, *size, yaw, CLASS_NAMES.index(name)))
    for _ in range(30):
        place, size = rng.uniform(-50, 50, 2), rng.uniform(0.5, 5, 3)
        rows.append((*place, 0, *size, rng.uniform(-3, 3), rng.integers(0, 10)))
    table = np.array(rows)
    return Detections3D(
        table[:, :7].astype(np.float32),
        np.sort(rng.uniform(0.05, 1, len(table)))[::-1].astype(np.float32),
        table[:, 7].astype(np.int32),
        rng.normal(0, 2, (len(table), 2)).astype(np.float32),
    )


_NAMES = {
    "static_object.bicycle_rack": "bicycle",
    "vehicle.car": "car",
    "human.pedestrian.child": "pedestrian",
    "vehicle.bicycle": "bicycle",
    "movable_object.trafficcone": "traffic_cone",
    "movable_object.barrier": "barrier",
}


def shots_of(scenes=SCENES) -> dict[str, list[Shot]]:
    return {name: crowd(number) for number, name in enumerate(scenes, 1)}


def results_of(scenes: dict[str, list[Shot]]) -> list[Detections3D]:
    shots = [shot for name in sorted(scenes) for shot in scenes[name]]
    return [detections(shot, 100 + number) for number, shot in enumerate(shots)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_nuscenes(tmp_path_factory.mktemp("devkit") / "sets", shots_of())


def test_the_devkit_comes_to_the_same(folder):
    source = NuscenesFolder(folder)
    frames = range(len(source))
    labels = [source.labels(index) for index in frames]
    assert sum(int(one.ignored.sum()) for one in labels) > 5
    have = nuscenes_average_precision(
        results_of(shots_of()),
        labels,
        CLASS_NAMES,
        DETECTION_CVPR_2019,
        [source.scope(index) for index in frames],
    )
    assert have.per_class.keys() == DEVKIT.keys()
    for name, (truths, precision, errors) in DEVKIT.items():
        one = have.per_class[name]
        assert one.truths == truths
        assert tuple(one.at.values()) == pytest.approx(precision, abs=1e-6)
        found = vars(one.errors).values()
        for got, want in zip(found, errors, strict=True):
            # The devkit's plane is the world's, which the vehicle tilts against by 0.02.
            assert got == (None if want is None else pytest.approx(want, abs=0.02))


def test_the_devkit_knows_the_same_velocities(folder):
    source = NuscenesFolder(folder)
    speeds = np.concatenate([source.labels(index).velocities for index in range(len(source))])
    known = speeds[~np.isnan(speeds).any(axis=1)]
    assert len(known) == DEVKIT_SPEEDS[0] < len(speeds)
    assert np.hypot(*known.T).sum() == pytest.approx(DEVKIT_SPEEDS[1], rel=1e-3)
