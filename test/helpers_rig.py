# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Recorded drives of a vehicle with several LiDARs; it drives as in helpers_sweeps."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from helpers_sweeps import (
    MOUNT,
    ODOMETRY,
    Recorder,
    matrix,
    messages,
    points,
    pose,
    stamp,
    write_odometry,
    write_tf,
)

from av_compress.data.bag_writer import BagWriter
from av_compress.data.merging import MergeOptions, merge_clouds
from av_compress.data.motion_messages import MotionMessages
from av_compress.data.points import PointOptions, cloud_from_message
from av_compress.data.transforms import Transforms
from av_compress.tasks.base import PointCloud

# x, y, z and yaw of the LiDARs on the vehicle.
MOUNTS = {
    "front": MOUNT,
    "rear": (-1.5, -0.3, 1.8, math.pi - 0.2),
    "roof": (0.0, 0.1, 2.5, -1.1),
}
FRONT, REAR, ROOF = (f"/{name}/points" for name in MOUNTS)
NUMBERS = {name: 100 * number for number, name in enumerate(MOUNTS)}
BASE = MergeOptions("base")
# 10 Hz, for longer than a node remembers transforms; the rear LiDAR comes 30 ms later.
TIMES = [round(0.1 * n, 2) for n in range(110)]
RIG = {"front": TIMES, "rear": [round(one + 0.03, 2) for one in TIMES]}
MOVING = tuple(n / 10 for n in range(112))
SHORT = {name: times[:8] for name, times in RIG.items()}


def held(name: str, index: int) -> np.ndarray:
    """Return what cloud `index` of a LiDAR holds, KIND [n]."""
    return points(NUMBERS[name] + index)


def write_held(writer: BagWriter, name: str, index: int, second: float) -> None:
    writer.write_cloud(f"/{name}/points", held(name, index), stamp(second), name)


def write_rig(
    path: Path,
    seconds: Mapping[str, Sequence[float]],
    *,
    moving: Iterable[float] = tuple(n / 10 for n in range(40)),
    odometry: bool = False,
    mounted: Iterable[str] = tuple(MOUNTS),
    cloud: Callable[[BagWriter, str, int, float], None] = write_held,
) -> Path:
    """Write a drive, in the order of its stamps.

    Args:
        path: of the bag.
        seconds: LiDAR -> when its clouds are measured.
        moving: when motion is told.
        odometry: whether odometry tells it, else /tf.
        mounted: the LiDARs whose place /tf_static tells.
        cloud: writes cloud `index` of a LiDAR.

    """
    events = [(second, "", 0) for second in moving]
    for name, times in seconds.items():
        events += [(second, name, index) for index, second in enumerate(times)]
    with Recorder(path) as writer:
        for name in mounted:
            write_tf(writer, "/tf_static", "base", name, MOUNTS[name], 0.0)
        for second, name, index in sorted(events):
            if name:
                cloud(writer, name, index, second)
            elif odometry:
                write_odometry(writer, second)
            else:
                write_tf(writer, "/tf", "odom", "base", pose(second), second)
    return path


def recorded(
    path: Path, options: PointOptions | None = None
) -> tuple[dict[str, list[PointCloud]], Transforms]:
    """Return the clouds of each topic, and all that the bag tells of transforms."""
    transforms = Transforms(math.inf)
    heard = MotionMessages(transforms, ODOMETRY, print, print)
    clouds: dict[str, list[PointCloud]] = {}
    for topic, message in messages(path):
        if topic.endswith("/points"):
            clouds.setdefault(topic, []).append(cloud_from_message(message, options))
        else:
            {"/tf": heard.tf, "/tf_static": heard.tf_static}.get(topic, heard.odometry)(message)
    return clouds, transforms


def in_base(name: str, points: np.ndarray, then: float, newest: float) -> np.ndarray:
    """Return places of a LiDAR's cloud in the vehicle's frame at another time, float64 [n, 3]."""
    rows = np.concatenate([points, np.ones((len(points), 1))], axis=1)
    moved = np.linalg.inv(matrix(pose(newest))) @ matrix(pose(then)) @ matrix(MOUNTS[name])
    return (rows @ moved.T)[:, :3]


def seen(name: str, place: Sequence[float], then: float, newest: float) -> np.ndarray:
    """Return where a LiDAR sees a place that `newest` has in the vehicle's frame, float64 [3]."""
    moved = np.linalg.inv(matrix(pose(newest))) @ matrix(pose(then)) @ matrix(MOUNTS[name])
    return (np.linalg.inv(moved) @ np.array([*place, 1.0]))[:3]


def merged(path: Path, *together: dict[str, int], merge: MergeOptions = BASE) -> list[PointCloud]:
    """Return what merge_clouds makes of clouds that are named: topic -> number."""
    clouds, transforms = recorded(path)
    return [
        merge_clouds({t: clouds[t][i] for t, i in one.items()}, merge, transforms).cloud
        for one in together
    ]


def both(count: int) -> list[dict[str, int]]:
    return [{FRONT: index, REAR: index} for index in range(count)]
