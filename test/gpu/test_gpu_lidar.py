# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Voxels, features and canvases on a real card have the bits of the host's."""

from __future__ import annotations

import numpy as np
import pytest
from helpers_lidar import (
    KITTI_PILLARS,
    KITTI_VOXELS,
    MANY,
    PILLARS,
    VOXELS,
    OnDevice,
    cloud,
    recorded_clouds,
    same_bits,
)

from av_compress.engines.cuda import copy_out
from av_compress.engines.kernels.lidar import UnusedRows
from av_compress.engines.kernels.pillars import PillarScatter
from av_compress.tasks.lidar_detection.encoders import Counts
from av_compress.tasks.lidar_detection.features import channel_names
from av_compress.tasks.lidar_detection.voxels import VoxelLimits, voxelise

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("grid", [PILLARS, VOXELS, MANY], ids=["pillars", "voxels", "many"])
@pytest.mark.parametrize("room", [1, 600, 50_000])
@pytest.mark.parametrize("unused", UnusedRows)
def test_clouds_one_after_the_other(context, grid, room: int, unused: UnusedRows):
    names = (*channel_names("pointpillars_10"), "distance")
    device = OnDevice(context, grid, VoxelLimits(7, room), names, unused)
    for seed, count in enumerate((0, 1, 300, 5000, 200_000, 77)):
        device.check(cloud(count, seed=seed))


def test_all_points_in_one_voxel(context):
    device = OnDevice(context, PILLARS, VoxelLimits(32, 4), channel_names("pointpillars"))
    points = cloud(100_000, 0.1) % np.float32(0.5)
    assert device.check(points) == Counts(1, 0, 100_000 - 32, 0)


@pytest.mark.parametrize(
    ("grid", "depth"), [(KITTI_PILLARS, 32), (KITTI_VOXELS, 5)], ids=["pillars", "voxels"]
)
def test_recorded_clouds(context, shared_data, grid, depth: int):
    device = OnDevice(context, grid, VoxelLimits(depth, 40_000), channel_names("pointpillars_10"))
    for points in recorded_clouds(shared_data):
        device.check(points)


def test_a_canvas(context):
    device = OnDevice(context, KITTI_PILLARS, VoxelLimits(1, 9000), ["x", "y", "z"])
    scatter = PillarScatter(context, KITTI_PILLARS, 9000, 3)
    expected = np.zeros((3, *KITTI_PILLARS.shape[1:]), np.float32)
    canvas, found = context.device_buffer(expected.nbytes), np.empty_like(expected)
    points = cloud(50_000, 20)
    device.launch(points)
    scatter.launch(device.out, device.cells, device.voxels.counters, canvas, device.stream)
    copy_out(device.stream, found, canvas)
    device.stream.synchronize()
    made = voxelise(points, KITTI_PILLARS, device.limits)
    expected[:, made.cells[:, 1], made.cells[:, 2]] = points[made.rows[:, 0], :3].T
    same_bits(found, expected)
