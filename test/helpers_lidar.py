# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Clouds, grids, and the kernels for them beside the host's code, for comparison."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from av_compress.engines.cuda import CudaContext, copy_out
from av_compress.engines.kernels.compilers import Compiler
from av_compress.engines.kernels.lidar import LidarVoxels, UnusedRows
from av_compress.tasks.lidar_detection.encoders import Counts
from av_compress.tasks.lidar_detection.features import encode
from av_compress.tasks.lidar_detection.grid import Grid
from av_compress.tasks.lidar_detection.voxels import VoxelLimits, voxelise

PILLARS = Grid((0.0, -2.0, -3.0), (4.0, 2.0, 1.0), (0.5, 0.5, 4.0))
VOXELS = Grid((-1.6, -1.6, -1.0), (1.6, 1.6, 1.0), (0.1, 0.2, 0.25))
# More cells than the table has places.
MANY = Grid((-3.2, -3.2, -1.0), (3.2, 3.2, 1.0), (0.01, 0.02, 0.25))
# What PointPillars and SECOND take of KITTI.
KITTI_PILLARS = Grid((0, -39.68, -3), (69.12, 39.68, 1), (0.16, 0.16, 4))
KITTI_VOXELS = Grid((0, -40, -3), (70.4, 40, 1), (0.05, 0.05, 0.1))


def cloud(count: int, spread: float = 1.2, columns: int = 4, seed: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, spread, (count, columns)).astype(np.float32)


def recorded_clouds(data: Path) -> list[np.ndarray]:
    """Return the clouds of KITTI; skip where they are absent."""
    folder = data / "lidar" / "kitti" / "velodyne"
    paths = sorted(folder.glob("*.bin"))
    if not paths:
        pytest.skip(f"there are no clouds in {folder}")
    return [np.fromfile(path, np.float32).reshape(-1, 4) for path in paths]


class OnDevice:
    """The kernels with buffers around them."""

    def __init__(
        self,
        context: CudaContext,
        grid: Grid,
        limits: VoxelLimits,
        channels: Sequence[str],
        unused: UnusedRows = UnusedRows.ZERO,
        compiler: Compiler | None = None,
    ) -> None:
        self.context, self.grid, self.limits, self.channels = context, grid, limits, channels
        self.unused = unused
        self.shape = (limits.voxels, limits.points, len(channels))
        self.stream = context.stream()
        self.out = context.device_buffer(4 * math.prod(self.shape))
        self.cells = context.device_buffer(12 * limits.voxels)
        self.voxels = LidarVoxels(context, grid, limits, channels, unused, compiler)

    def launch(self, points: np.ndarray) -> None:
        self.voxels.launch(points, self.out, self.cells, self.stream)

    def fetch(self) -> tuple[np.ndarray, np.ndarray, Counts]:
        features, cells = np.empty(self.shape, np.float32), np.empty((self.shape[0], 3), np.int32)
        copy_out(self.stream, features, self.out)
        copy_out(self.stream, cells, self.cells)
        self.stream.synchronize()
        return features, cells, self.voxels.collect()

    def check(self, points: np.ndarray) -> Counts:
        """Compare with the host, unused rows as well."""
        self.launch(points)
        features, cells, counts = self.fetch()
        made = voxelise(points, self.grid, self.limits)
        assert counts == Counts(
            len(made), made.outside, made.surplus_points, made.surplus_voxel_points
        )
        expected, places = np.zeros(self.shape, np.float32), np.zeros_like(cells)
        encode(points, made, self.grid, self.channels, expected)
        places[: len(made)] = made.cells
        if self.unused is UnusedRows.LAST_VOXEL and len(made):
            expected[len(made) :], places[len(made) :] = expected[len(made) - 1], made.cells[-1]
        np.testing.assert_array_equal(cells, places)
        same_bits(features, expected)
        return counts


def same_bits(found: np.ndarray, expected: np.ndarray) -> None:
    kind = {4: np.uint32, 2: np.uint16}[expected.itemsize]
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found.view(kind), expected.view(kind))
