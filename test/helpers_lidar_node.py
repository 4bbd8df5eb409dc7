# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""A LiDAR detector of cells that hold points, and clouds for it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from helpers_lidar_bundle import center_model, write_lidar_bundle
from onnx import TensorProto, helper

from av_compress.tasks.base import PointCloud

S = 1_000_000_000

# Cells of 1 m; each that holds points is an object of 1 m, with a score that grows with them.
TASK = {
    "kind": "lidar_detection",
    "class_names": ["thing"],
    "input": {
        "lower": [0, -8, -2],
        "upper": [16, 8, 2],
        "voxel_size": [1, 1, 4],
        "encoder": {"type": "bev", "name": "map", "rows_along": "x"},
    },
    "head": {
        "type": "center",
        "stride": 1,
        "activation": "none",
        "outputs": {"heatmap": "heatmap", "reg": "reg"},
        "maps": {"reg": ["dx", "dy", "z", "log_length", "log_width", "log_height", "sin", "cos"]},
    },
    "score_threshold": 0.5,
    "nms": {"type": "none"},
}
REG = [0.5, 0.5, 0.0, 0.0, 0.0, 0.0, math.sin(0.5), math.cos(0.5)]


def cell_detector() -> bytes:
    nodes = [
        helper.make_node("Slice", ["map", "two", "three", "one"], ["heatmap"]),
        helper.make_node("Sub", ["heatmap", "heatmap"], ["zero"]),
        helper.make_node("Add", ["zero", "r"], ["reg"]),
    ]
    constants = {
        "two": np.array([2]),
        "three": np.array([3]),
        "one": np.array([1]),
        "r": np.zeros((1, 8, 16, 16), np.float32) + np.float32(REG)[:, None, None],
    }
    picture = helper.make_tensor_value_info("map", TensorProto.FLOAT, [1, 3, 16, 16])
    return center_model(nodes, [picture], constants, (16, 16))


def write_cell_bundle(root: Path) -> Path:
    """Write a bundle of the detector of cells."""
    return write_lidar_bundle(root, cell_detector(), TASK)


def cloud(second: float, *cells: tuple[float, float], frame: str = "lidar") -> PointCloud:
    """Return 63 points in the middle of each cell, and some that are nowhere."""
    points = np.zeros((63 * len(cells) + 2, 4), np.float32)
    for index, cell in enumerate(cells):
        points[63 * index : 63 * (index + 1), :2] = cell
    points[-2:] = np.nan
    return PointCloud(points, round(second * S), frame)
