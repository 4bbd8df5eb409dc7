# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The device's voxels and features have the bits of the host's, in whatever order threads run."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from helpers_cuda_shim import HostCompiler
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
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from av_compress.engines.cuda import CudaContext, CudaError, copy_in, copy_out
from av_compress.engines.kernels.lidar import LidarVoxels, UnusedRows
from av_compress.engines.kernels.pillars import CellNumbers, PillarScatter
from av_compress.errors import ConfigError, FrameError
from av_compress.tasks.lidar_detection.encoders import Counts
from av_compress.tasks.lidar_detection.features import CHANNELS, channel_names, encode
from av_compress.tasks.lidar_detection.grid import Grid
from av_compress.tasks.lidar_detection.voxels import VoxelLimits, voxelise

GRIDS = st.sampled_from([PILLARS, VOXELS, MANY])
SEED = "AV_COMPRESS_SHIM_SEED"
SEEDS = st.one_of(st.none(), st.integers(0, 99))


@contextmanager
def order_of_threads(seed: int | None) -> Iterator[None]:
    """Let the shim shuffle the threads; without a seed they come the last first."""
    if seed is not None:
        os.environ[SEED] = str(seed)
    try:
        yield
    finally:
        os.environ.pop(SEED, None)


def on_device(context, grid, limits, channels, unused=UnusedRows.ZERO) -> OnDevice:
    return OnDevice(context, grid, limits, channels, unused, HostCompiler())


COORDINATES = st.one_of(
    st.floats(-5, 5, width=32),
    st.sampled_from(
        [math.nan, math.inf, -math.inf, -2.0, 2.0, 0.0, 4.0, 0.5, np.float32(3.9999998)]
    ),
)
CLOUDS = st.integers(0, 60).flatmap(lambda n: hnp.arrays(np.float32, (n, 6), elements=COORDINATES))
FEATURES = st.lists(st.sampled_from(CHANNELS), min_size=1)


@settings(max_examples=120)
@given(
    st.lists(CLOUDS, min_size=1, max_size=3),
    GRIDS,
    st.builds(VoxelLimits, st.integers(1, 5), st.integers(1, 12)),
    FEATURES,
    st.sampled_from(UnusedRows),
    SEEDS,
)
def test_bits_are_those_of_the_host(clouds, grid, limits, channels, unused, seed):
    with CudaContext.open() as context, order_of_threads(seed):
        device = on_device(context, grid, limits, channels, unused)
        for points in clouds:
            device.check(points)


@settings(max_examples=80)
@given(
    st.lists(
        st.builds(
            cloud,
            count=st.integers(0, 5000),
            spread=st.sampled_from([0.02, 0.3, 1.2, 3.0]),
            seed=st.integers(0, 1000),
        ),
        min_size=1,
        max_size=3,
    ),
    GRIDS,
    st.builds(VoxelLimits, st.integers(1, 40), st.sampled_from([1, 30, 600, 3000])),
    SEEDS,
)
def test_clouds_of_many_blocks(clouds, grid, limits, seed):
    with CudaContext.open() as context, order_of_threads(seed):
        device = on_device(context, grid, limits, channel_names("pointpillars_10"))
        for points in clouds:
            device.check(points)


def test_every_way_to_be_left_out_at_once(context):
    device = on_device(context, VOXELS, VoxelLimits(1, 500), channel_names("pointpillars"))
    counts = device.check(cloud(6000))
    assert counts.voxels == 500
    assert min(counts.outside, counts.surplus_points, counts.surplus_voxel_points) > 100


@pytest.mark.parametrize("seed", [None, 3, 4])
def test_more_blocks_than_one_adds_up_and_more_voxels_than_blocks_describe_at_once(context, seed):
    device = on_device(context, MANY, VoxelLimits(2, 70_000), ["mean_offset_x", "center_offset_y"])
    with order_of_threads(seed):
        assert device.check(cloud(70_000)).voxels > 30_000


@pytest.mark.parametrize("grid", [PILLARS, VOXELS, MANY])
def test_points_on_the_bounds_and_next_to_them(context, grid):
    lower, upper, _ = grid.arrays()
    values = [
        [edge, np.nextafter(edge, np.float32(-9)), np.nextafter(edge, np.float32(9)), middle]
        for low, high, middle in zip(lower, upper, (lower + upper) / 2)
        for edge in (low, high)
    ]
    axes = [values[axis] + values[axis + 1] for axis in (0, 2, 4)]
    points = np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 3)
    # Of each axis' eight values five lie inside: the lower edge, what is next to the edges, and
    # twice the middle.
    counts = on_device(context, grid, VoxelLimits(200, 200), ["x", "y", "z"]).check(points)
    assert counts.outside == 8**3 - 5**3


@pytest.mark.parametrize("seed", [None, 1, 2])
@pytest.mark.parametrize("depth", [1, 5, 4000])
def test_all_points_in_one_voxel(context, depth: int, seed: int | None):
    points = cloud(3000, 0.1) % np.float32(0.5)
    device = on_device(context, PILLARS, VoxelLimits(depth, 4), channel_names("pointpillars"))
    with order_of_threads(seed):
        counts = device.check(points)
    assert counts == Counts(1, 0, max(3000 - depth, 0), 0)


@pytest.mark.parametrize("unused", UnusedRows)
def test_a_cloud_without_points_or_with_none_in_range(context, unused):
    device = on_device(context, PILLARS, VoxelLimits(3, 8), ["x", "mean_offset_x"], unused)
    # Something lies there before.
    assert device.check(cloud(100)).voxels > 0
    assert device.check(np.zeros((0, 4), np.float32)) == Counts(0, 0, 0, 0)
    assert device.check(np.full((9, 4), np.nan, np.float32)) == Counts(0, 9, 0, 0)


def test_the_last_voxel_fills_the_rows_that_are_left(context):
    device = on_device(context, PILLARS, VoxelLimits(2, 4), ["x", "y"], UnusedRows.LAST_VOXEL)
    device.launch(np.array([[0.1, 0.2, 0], [3.9, 1.9, 0], [3.8, 1.8, 0]], np.float32))
    features, cells, _ = device.fetch()
    assert cells.tolist() == [[0, 4, 0], [0, 7, 7], [0, 7, 7], [0, 7, 7]]
    row = np.array([[3.9, 1.9], [3.8, 1.8]], np.float32)
    np.testing.assert_array_equal(features[1:], [row, row, row])


def test_clouds_of_more_columns_follow(context):
    device = on_device(context, PILLARS, VoxelLimits(3, 20), ["y", "z", "intensity"])
    for columns in (4, 6, 4):
        device.check(cloud(500, columns=columns))


def test_what_is_no_float32_or_not_contiguous_is_taken_as_the_host_takes_it(context):
    device = on_device(context, PILLARS, VoxelLimits(3, 20), ["y", "z"])
    points = np.random.default_rng(2).normal(0, 2, (8, 800))
    device.check(points[::2].T)


# ------------------------------------------------------------------ real clouds


@pytest.fixture
def frames(shared_data: Path) -> list[np.ndarray]:
    return recorded_clouds(shared_data)


@pytest.mark.parametrize(
    ("grid", "limits", "features"),
    [
        (KITTI_PILLARS, VoxelLimits(32, 40_000), "pointpillars_10"),
        (KITTI_PILLARS, VoxelLimits(8, 2_000), "pointpillars"),
        (KITTI_VOXELS, VoxelLimits(5, 40_000), "pointpillars"),
    ],
    ids=["pillars", "little room", "voxels"],
)
def test_recorded_clouds(context, frames, grid, limits, features):
    device = on_device(context, grid, limits, channel_names(features))
    for points in frames[:3]:
        assert device.check(points).voxels > 1900


def test_a_recorded_cloud_by_shuffled_threads(context, frames):
    device = on_device(
        context, KITTI_PILLARS, VoxelLimits(16, 6_000), channel_names("pointpillars")
    )
    for seed in range(2):
        with order_of_threads(seed):
            device.check(frames[-1])


# ------------------------------------------------------------------ what a launch does and needs


def test_a_frame_allocates_nothing_and_waits_for_nothing(stub, context):
    device = on_device(context, VOXELS, VoxelLimits(5, 300), channel_names("pointpillars"))
    device.check(cloud(2000))
    stub.clear()
    for count in (1500, 2000, 0, 2048):
        device.launch(cloud(count))
        called = stub.called()
        assert called["cuLaunchKernel"] == 8
        for name in called:
            assert not any(word in name for word in ("Alloc", "Free", "Register", "ynchron")), name
        device.stream.synchronize()
        stub.clear()


def test_a_larger_cloud_makes_room_once(stub, context):
    device = on_device(context, VOXELS, VoxelLimits(5, 300), channel_names("pointpillars"))
    device.check(cloud(1000))
    before, made = stub.live("device"), stub.live("pinned")
    device.check(cloud(3000))
    assert stub.live("device") == before
    stub.clear()
    device.check(cloud(4096))
    assert not stub.count("cuMemAlloc")
    # Page-locked memory that became too small stays until the end.
    assert stub.live("pinned") == made + 1


def test_where_there_is_no_room_for_a_larger_cloud_a_small_one_still_goes(stub, context):
    device = on_device(context, PILLARS, VoxelLimits(2, 8), ["x"])
    device.check(cloud(100))
    stub.set_memory(1 << 20)
    with pytest.raises(CudaError, match="not enough memory") as caught:
        device.launch(cloud(100_000))
    assert caught.value.reason == "out_of_memory"
    stub.set_memory(1 << 30)
    device.check(cloud(100))


def test_points_may_change_once_they_are_launched(context):
    device = on_device(context, PILLARS, VoxelLimits(4, 20), ["x", "y"])
    points = cloud(200)
    made = voxelise(points, PILLARS, device.limits)
    expected = encode(points, made, PILLARS, ["x", "y"])
    device.launch(points)
    points[:] = 0.25
    features, _, _ = device.fetch()
    same_bits(features[: len(made)], expected)


def test_a_cloud_that_is_not_done_is_neither_followed_nor_counted(context):
    device = on_device(context, PILLARS, VoxelLimits(4, 20), ["x", "y"])
    device.launch(cloud(200))
    with pytest.raises(CudaError, match="not done with a cloud when the next one is launched"):
        device.launch(cloud(200))
    device.stream.synchronize()
    device.launch(cloud(300))
    with pytest.raises(CudaError, match="not done with a cloud when its counts are asked for"):
        device.voxels.collect()
    device.stream.synchronize()
    assert device.voxels.collect().voxels > 5


def test_buffers_that_are_too_small_are_refused_before_anything_is_launched(stub, context):
    device = on_device(context, PILLARS, VoxelLimits(4, 20), ["x", "y"])
    short, stream = context.device_buffer(4 * 20 * 4 * 2 - 1), device.stream
    fewer = context.device_buffer(12 * 20 - 4)
    stub.clear()
    with pytest.raises(CudaError, match=r"features \[20, 4, 2\] are 640 bytes, .* has 639"):
        device.voxels.launch(cloud(9), short, device.cells, stream)
    with pytest.raises(CudaError, match=r"cells \[20, 3\] are 240 bytes, .* has 236"):
        device.voxels.launch(cloud(9), device.out, fewer, stream)
    assert not stub.called()


def test_clouds_that_are_none_are_refused(stub, context):
    device = on_device(context, PILLARS, VoxelLimits(4, 20), ["x", "time"])
    stub.clear()
    for points, error, says in [
        (np.zeros((9, 2), np.float32), FrameError, r"\[n, 3 or more\]; these are \(9, 2\)"),
        (np.zeros(9, np.float32), FrameError, r"\[n, 3 or more\]; these are \(9,\)"),
        (np.zeros((9, 4), np.float32), ConfigError, "want time, the cloud has x, y, z, intensity"),
        (np.broadcast_to(np.float32(0), ((1 << 29) + 1, 5)), FrameError, "536870913 points"),
    ]:
        with pytest.raises(error, match=says):
            device.launch(points)
    assert not stub.called()
    with pytest.raises(ConfigError, match="2147483648 features"):
        LidarVoxels(context, PILLARS, VoxelLimits(1 << 30, 1), ["x", "y"], compiler=HostCompiler())


# ------------------------------------------------------------------ back to the grid


def uploaded(context, array: np.ndarray):
    stream, buffer = context.stream(), context.device_buffer(array.nbytes)
    copy_in(stream, buffer, array)
    stream.synchronize()
    return buffer


def fetched(stream, buffer, shape, dtype) -> np.ndarray:
    array = np.empty(shape, dtype)
    copy_out(stream, array, buffer)
    stream.synchronize()
    return array


@settings(max_examples=40)
@given(st.integers(0, 40), st.integers(1, 9), st.sampled_from(["float32", "float16"]), SEEDS)
def test_pillars_come_to_their_places_on_the_canvas(used, channels, dtype, seed):
    random, room = np.random.default_rng(used), 40
    features = random.normal(size=(room, channels)).astype(dtype)
    numbers = random.permutation(64)[:room]
    cells = np.stack([0 * numbers, numbers // 8, numbers % 8], axis=1).astype(np.int32)
    expected = np.zeros((channels, 8, 8), dtype)
    expected[:, cells[:used, 1], cells[:used, 2]] = features[:used].T
    with CudaContext.open() as context, order_of_threads(seed):
        scatter = PillarScatter(context, PILLARS, room, channels, dtype, HostCompiler())
        canvas = uploaded(context, np.full(expected.shape, 7, dtype))
        stream = context.stream()
        counters = uploaded(context, np.array([used, 0, 0, 0], np.int32))
        places = uploaded(context, cells)
        scatter.launch(uploaded(context, features), places, counters, canvas, stream)
        same_bits(fetched(stream, canvas, expected.shape, dtype), expected)


def test_voxels_are_scattered_by_their_own_cells_and_counters(context):
    device = on_device(
        context, PILLARS, VoxelLimits(1, 50), ["x", "y", "z"], UnusedRows.LAST_VOXEL
    )
    scatter = PillarScatter(context, PILLARS, 50, 3, compiler=HostCompiler())
    canvas = context.device_buffer(4 * 3 * 8 * 8)
    points = cloud(300)
    device.launch(points)
    scatter.launch(device.out, device.cells, device.voxels.counters, canvas, device.stream)
    made = voxelise(points, PILLARS, device.limits)
    expected = np.zeros((3, 8, 8), np.float32)
    expected[:, made.cells[:, 1], made.cells[:, 2]] = points[made.rows[:, 0], :3].T
    same_bits(fetched(device.stream, canvas, expected.shape, np.float32), expected)


@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_cells_are_numbered_as_a_flat_array_is(context, dtype: str):
    cells = np.random.default_rng(3).integers(0, VOXELS.shape, (700, 3)).astype(np.int32)
    numbers = CellNumbers(context, VOXELS, len(cells), dtype, HostCompiler())
    stream, out = context.stream(), context.device_buffer(np.dtype(dtype).itemsize * len(cells))
    numbers.launch(uploaded(context, cells), out, stream)
    found = fetched(stream, out, len(cells), dtype)
    assert found.tolist() == np.ravel_multi_index(cells.T, VOXELS.shape).tolist()


def test_cells_beyond_32_bits_have_longer_numbers(context):
    huge = Grid((0, 0, 0), (2048, 2048, 1024), (1, 1, 1))
    with pytest.raises(ConfigError, match="4294967296 cells cannot be numbered by int32"):
        CellNumbers(context, huge, 1, np.int32, HostCompiler())
    numbers = CellNumbers(context, huge, 1, np.int64, HostCompiler())
    stream, out = context.stream(), context.device_buffer(8)
    numbers.launch(uploaded(context, np.array([[1023, 2047, 2047]], np.int32)), out, stream)
    assert fetched(stream, out, 1, np.int64).tolist() == [(1 << 32) - 1]


def test_what_does_not_fit_the_grid_is_refused(stub, context):
    with pytest.raises(ConfigError, match="features of pillars are int8; allowed: float32"):
        PillarScatter(context, PILLARS, 4, 2, np.int8, HostCompiler())
    with pytest.raises(ConfigError, match="numbers of cells are uint32; allowed: int32, int64"):
        CellNumbers(context, PILLARS, 4, np.uint32, HostCompiler())
    with pytest.raises(ConfigError, match="made of pillars, and the grid has 8 layers"):
        PillarScatter(context, VOXELS, 4, 2, compiler=HostCompiler())
    scatter = PillarScatter(context, PILLARS, 4, 2, compiler=HostCompiler())
    numbers = CellNumbers(context, PILLARS, 4, compiler=HostCompiler())
    sizes = {"features": 32, "cells": 48, "counters": 16, "canvas": 512}
    stream, whole = context.stream(), {n: context.device_buffer(s) for n, s in sizes.items()}
    short = context.device_buffer(3)
    stub.clear()
    for name in sizes:
        with pytest.raises(CudaError, match="the device buffer has 3"):
            scatter.launch(*{**whole, name: short}.values(), stream)
    for buffers in ((short, whole["features"]), (whole["cells"], short)):
        with pytest.raises(CudaError, match="the device buffer has 3"):
            numbers.launch(*buffers, stream)
    assert not stub.called()
