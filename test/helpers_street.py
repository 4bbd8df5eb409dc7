# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Recorded scans of several LiDARs, and what a model is told of them, in double precision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from test_bundle import manifest

from av_compress.data.bags import BagClouds
from av_compress.tasks.base import PointCloud
from av_compress.tasks.lidar_detection import LidarDetection

STREET, INDOORS = "street_lidar_derived", "vlp16_pointcloud2_derived"
# Ouster's signal and Velodyne's reflectivity go to 255, KITTI's, that the model was trained on, to
# 1. What has no intensity is told as zeros, which no scale changes.
SCALE = 1.0 / 255.0
TASK = Path(__file__).parent / "data" / "tasks" / "tiny_pillars.yaml"
EGO_BOX = {"lower": [-2.5, -1.2, -3.0], "upper": [2.5, 1.2, 0.5]}


def street_task(max_voxels: int = 12000, **changes: Any) -> LidarDetection:
    config = yaml.safe_load(TASK.read_text())
    config["input"] |= {"intensity_scale": SCALE, "ego_box": EGO_BOX}
    config["input"]["encoder"] |= {"max_voxels": max_voxels, **changes}
    return LidarDetection.from_config(config)


def street_bundle(root: Path, data: Path) -> Path:
    """Write a bundle that holds the recorded model as it is."""
    model = recorded(data / "lidar" / "tiny_e2e.onnx").read_bytes()
    (root / "cpu").mkdir(parents=True)
    (root / "cpu/model.onnx").write_bytes(model)
    config = street_task().config()
    (root / "manifest.json").write_text(replace(manifest(model), task=config).to_json())
    return root


def recorded(path: Path) -> Path:
    """Return a path of recorded data; skip where it is absent."""
    if not path.exists():
        pytest.skip(f"recorded data is absent: {path}")
    return path


_PCD_KINDS: Mapping[str, str] = {"F": "f", "U": "u", "I": "i"}


def read_pcd(path: Path) -> np.ndarray:
    """Read a binary PCD 0.7 into a structured array, as its header describes it.

    Source: pointclouds.org, "The PCD (Point Cloud Data) file format".
    """
    content = path.read_bytes()
    head, _, data = content.partition(b"DATA binary\n")
    lines = dict(line.split(" ", 1) for line in head.decode().splitlines() if line[0] != "#")
    assert set(lines["COUNT"].split()) == {"1"}
    sizes, kinds = lines["SIZE"].split(), lines["TYPE"].split()
    formats = [f"<{_PCD_KINDS[kind]}{size}" for kind, size in zip(kinds, sizes)]
    made = np.dtype(list(zip(lines["FIELDS"].split(), formats)))
    return np.frombuffer(data, made, int(lines["POINTS"]))


def as_cloud(points: np.ndarray, key: str) -> PointCloud:
    """Return x, y, z and intensity of structured points; zeros where there is none."""
    columns = [
        points[name] if name in points.dtype.names else np.zeros(len(points))
        for name in ("x", "y", "z", "intensity")
    ]
    return PointCloud(np.stack(columns, axis=1).astype(np.float32), key=key)


def pcd_clouds(data: Path) -> list[PointCloud]:
    paths = sorted(recorded(data / "lidar" / "nebula").glob("*.pcd"))
    return [as_cloud(read_pcd(path), path.stem) for path in paths]


def ouster_clouds(data: Path) -> list[PointCloud]:
    paths = sorted(recorded(data / "lidar" / "ouster").glob("*.xyzi.bin"))
    return [
        PointCloud(np.fromfile(path, np.float32).reshape(-1, 4), key=path.stem) for path in paths
    ]


def bag_clouds(data: Path, bag: str) -> list[PointCloud]:
    source = BagClouds(recorded(data / "bags" / bag))
    clouds = [source.read(index) for index in range(len(source))]
    source.close()
    return clouds


def without_doubtful(cloud: PointCloud, task: LidarDetection) -> PointCloud:
    """Leave out the few points that lie on the edge of a cell as far as single precision tells."""
    lower, _, size = (array.astype(np.float64) for array in task.settings.input.grid.arrays())
    quotient = (cloud.points[:, :3] - lower) / size
    doubtful = (np.abs(quotient - np.rint(quotient)) < 1e-4).any(axis=1)
    assert doubtful.mean() < 2e-3
    return replace(cloud, points=cloud.points[~doubtful])


@dataclass(frozen=True)
class Told:
    """What a model is told of a cloud.

    Attributes:
        voxels: float64 [v, p, 9], 0 where a voxel has no point.
        places: int64 [v].
        in_ego_box, outside, surplus_points, surplus_voxel_points: points that it is not told of.

    """

    voxels: np.ndarray
    places: np.ndarray
    in_ego_box: int
    outside: int
    surplus_points: int
    surplus_voxel_points: int


def told(cloud: PointCloud, task: LidarDetection) -> Told:
    """Divide and describe a cloud in double precision, by sorting: nothing of the product's."""
    wanted = task.settings.input
    lower, upper, size = (array.astype(np.float64) for array in wanted.grid.arrays())
    depth, room = wanted.encoder.max_points, wanted.encoder.max_voxels
    points = cloud.points.astype(np.float64)
    box = np.float32([EGO_BOX["lower"], EGO_BOX["upper"]])
    own = ((points[:, :3] >= box[0]) & (points[:, :3] <= box[1])).all(axis=1)
    points = points[~own]
    inside = ((points[:, :3] >= lower) & (points[:, :3] < upper)).all(axis=1)
    outside, points = int((~inside).sum()), points[inside]
    points[:, 3] *= wanted.intensity_scale
    cells = np.floor((points[:, :2] - lower[:2]) / size[:2]).astype(np.int64)
    columns = wanted.grid.shape[2]
    places, first, member = np.unique(
        cells[:, 1] * columns + cells[:, 0], return_index=True, return_inverse=True
    )
    # Voxels are numbered as their first points come.
    rank = np.empty(len(places), np.int64)
    rank[np.argsort(first)] = np.arange(len(places))
    voxel = rank[member]
    homeless = voxel >= room
    order = np.argsort(voxel, kind="stable")
    starts = np.searchsorted(voxel[order], np.arange(len(places)))
    turn = np.empty(len(points), np.int64)
    turn[order] = np.arange(len(points)) - starts[voxel[order]]
    kept = ~homeless & (turn < depth)
    count = min(room, len(places))
    values = np.zeros((count, depth, 9))
    values[voxel[kept], turn[kept], :4] = points[kept]
    filled = np.zeros((count, depth), bool)
    filled[voxel[kept], turn[kept]] = True
    where = np.empty(len(places), np.int64)
    where[rank] = places
    where = where[:count]
    mean = values[..., :3].sum(axis=1) / np.maximum(filled.sum(axis=1), 1)[:, None]
    centre = lower[:2] + size[:2] * (np.stack([where % columns, where // columns], axis=1) + 0.5)
    values[..., 4:7] = values[..., :3] - mean[:, None]
    values[..., 7:9] = values[..., :2] - centre[:, None]
    values[~filled] = 0
    return Told(
        values,
        where,
        int(own.sum()),
        outside,
        int((~homeless & ~kept).sum()),
        int(homeless.sum()),
    )
