# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Sweeps of drives written to disk as labelled clouds, in KITTI's layout."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from av_compress.data.demo.camera import Camera
from av_compress.data.demo.drive import Drive
from av_compress.data.demo.lidar import Lidar, as_cloud, sweep
from av_compress.data.demo.world import CLASSES, make_world
from av_compress.fileio import atomic_directory, write_text
from av_compress.progress import track
from av_compress.tasks.base import Labels3D

SPLIT = "clouds.txt"
# World class -> KITTI's; the others have no name there.
_NAMES = {"car": "Car", "pedestrian": "Pedestrian", "cyclist": "Cyclist"}
# Farther to the sides stand houses alone; a detector need not look beyond these bounds.
_BEHIND_M, _AHEAD_M = -25.0, 50.0


def write_kitti(drives: Sequence[Drive], folder: Path) -> Path:
    """Render the sweeps of drives in KITTI's layout; see `data.kitti`.

    Intensities are 0..255, as in the drives' bags. Objects of at least `lidar.MIN_POINTS` points,
    from 25 m behind to 50 m ahead, are labelled. The camera of the calibration stands where the
    LiDAR does; sizes in its image are those that it would see if it were turned to the object,
    and occlusion is not graded.

    Returns:
        the list of the clouds' names.

    """
    lidar, camera = Lidar(), Camera()
    frames = [(drive, seconds) for drive in drives for seconds in drive.times()]
    worlds = {drive.seed: make_world(drive.seed) for drive in drives}
    with atomic_directory(folder, SPLIT) as temporary:
        for name in ("velodyne", "calib", "label_2"):
            (temporary / name).mkdir()
        names = []
        for number, (drive, seconds) in enumerate(track(frames, "render sweeps")):
            points, labels = sweep(worlds[drive.seed], seconds, lidar)
            name = f"{number:06d}"
            names.append(name)
            cloud = as_cloud(points).points
            (temporary / "velodyne" / f"{name}.bin").write_bytes(cloud.astype("<f4").tobytes())
            write_text(temporary / "calib" / f"{name}.txt", _calibration(camera))
            lines = "".join(f"{line}\n" for line in _lines(labels, camera))
            write_text(temporary / "label_2" / f"{name}.txt", lines)
        write_text(temporary / SPLIT, "".join(f"{name}\n" for name in names))
    return folder / SPLIT


def _calibration(camera: Camera) -> str:
    focal, x, y = camera.focal, camera.width / 2, camera.height * 0.45
    return (
        f"P2: {focal} 0 {x} 0 0 {focal} {y} 0 0 0 1 0\n"
        "R0_rect: 1 0 0 0 1 0 0 0 1\n"
        "Tr_velo_to_cam: 0 -1 0 0 0 0 -1 0 1 0 0 0\n"
    )


def _lines(labels: Labels3D, camera: Camera) -> Iterator[str]:
    """Yield a line for each object that counts; the columns are those of KITTI's readme."""
    for box, label, ignored in zip(labels.boxes.tolist(), labels.labels, labels.ignored):
        kind = CLASSES[int(label)]
        x, y, z, length, width, height, yaw = box
        if ignored or kind not in _NAMES or not _BEHIND_M < x < _AHEAD_M:
            continue
        turned = -yaw - np.pi / 2
        turned = np.arctan2(np.sin(turned), np.cos(turned))
        scale = camera.focal / np.hypot(x, y)
        values = (
            *(0.0, 0, turned + np.arctan2(y, x), 0.0, 0.0, scale * width, scale * height),
            *(height, width, length, -y, height / 2 - z, x, turned),
        )
        yield " ".join([_NAMES[kind], *(f"{value:.4f}" for value in values)])
