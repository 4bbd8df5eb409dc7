# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Voxels and features against a slow reference that follows the definition point by point."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from av_compress.errors import ConfigError
from av_compress.tasks.lidar_detection.features import CHANNELS, channel_names, encode
from av_compress.tasks.lidar_detection.grid import Grid
from av_compress.tasks.lidar_detection.voxels import VoxelLimits, voxelise

PILLARS = Grid((0.0, -2.0, -3.0), (4.0, 2.0, 1.0), (0.5, 0.5, 4.0))
VOXELS = Grid((-1.6, -1.6, -1.0), (1.6, 1.6, 1.0), (0.1, 0.2, 0.25))
ROOMY = VoxelLimits(1000, 1000)

COORDINATES = st.one_of(
    st.floats(-5, 5, width=32),
    st.sampled_from(
        [math.nan, math.inf, -math.inf, -2.0, 2.0, 0.0, 4.0, 0.5, np.float32(3.9999998)]
    ),
)
CLOUDS = st.integers(0, 60).flatmap(lambda n: hnp.arrays(np.float32, (n, 5), elements=COORDINATES))


def reference(points: np.ndarray, grid: Grid, limits: VoxelLimits):
    """Divide a cloud by dictionaries: cell -> rows of its points, in order."""
    lower, upper, size = grid.arrays()
    layers, rows, columns = grid.shape
    kept: dict[tuple[int, int, int], list[int]] = {}
    outside = surplus = homeless = 0
    for row, point in enumerate(points):
        place = point[:3]
        if not all(low <= value < high for low, value, high in zip(lower, place, upper)):
            outside += 1
            continue
        x, y, z = np.floor((place - lower) / size).astype(int)
        cell = (min(z, layers - 1), min(y, rows - 1), min(x, columns - 1))
        if cell not in kept and len(kept) == limits.voxels:
            homeless += 1
        elif len(kept.setdefault(cell, [])) == limits.points:
            surplus += 1
        else:
            kept[cell].append(row)
    return kept, (outside, surplus, homeless)


@settings(max_examples=150, deadline=None)
@given(
    CLOUDS,
    st.sampled_from([PILLARS, VOXELS]),
    st.integers(1, 5),
    st.integers(1, 12),
)
def test_voxels_are_those_of_the_definition(points, grid, depth, room):
    limits = VoxelLimits(depth, room)
    made = voxelise(points, grid, limits)
    kept, lost = reference(points, grid, limits)
    assert [tuple(cell) for cell in made.cells] == list(kept)
    assert (made.outside, made.surplus_points, made.surplus_voxel_points) == lost
    for found, count, rows in zip(made.rows, made.counts, kept.values()):
        assert found[:count].tolist() == rows
    assert made.counts.sum() + sum(lost) == len(points)


def test_a_large_cloud_agrees_with_the_reference():
    random = np.random.default_rng(7)
    points = random.normal(0, 1.2, (20_000, 4)).astype(np.float32)
    limits = VoxelLimits(6, 3000)
    made = voxelise(points, VOXELS, limits)
    kept, lost = reference(points, VOXELS, limits)
    assert [tuple(cell) for cell in made.cells] == list(kept)
    assert lost == (made.outside, made.surplus_points, made.surplus_voxel_points)
    assert min(lost[:2]) > 0
    assert len(made) > 500


def slow_features(cloud, made, grid: Grid, channels) -> np.ndarray:
    """Describe points in float64."""
    lower, _, size = (part.astype(np.float64) for part in grid.arrays())
    out = np.zeros((*made.rows.shape, len(channels)))
    for number, count in enumerate(made.counts):
        points = cloud[made.rows[number, :count]].astype(np.float64)
        center = (made.cells[number, ::-1] + 0.5) * size + lower
        columns = {
            name: points[:, index]
            for index, name in enumerate(CHANNELS[:6])
            if index < points.shape[1]
        }
        for axis, letter in enumerate("xyz"):
            columns[f"mean_offset_{letter}"] = points[:, axis] - points[:, axis].mean()
            columns[f"center_offset_{letter}"] = points[:, axis] - center[axis]
        columns["distance"] = np.linalg.norm(points[:, :3], axis=1)
        for index, name in enumerate(channels):
            out[number, :count, index] = columns[name]
    return out


@settings(max_examples=80, deadline=None)
@given(
    hnp.arrays(np.float32, (40, 5), elements=st.floats(-2, 4, width=32)),
    st.sampled_from([PILLARS, VOXELS]),
    st.lists(st.sampled_from([name for name in CHANNELS if name != "ring"]), min_size=1),
)
def test_features_are_those_of_the_definition(points, grid, channels):
    made = voxelise(points, grid, VoxelLimits(7, 30))
    found = encode(points, made, grid, channels)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, slow_features(points, made, grid, channels), atol=2e-6)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("pointpillars", 9),
        ("pointpillars_10", 10),
        ("centerpoint", 10),
        ("centerpoint_11", 11),
        ("autoware_centerpoint", 9),
    ],
)
def test_named_sets_have_as_many_channels_as_their_papers_say(name: str, count: int):
    channels = channel_names(name)
    assert len(channels) == len(set(channels)) == count


def test_a_hand_worked_pillar():
    # Two points in the cell x 1.0..1.5, y 0..0.5, centre (1.25, 0.25, -1).
    points = np.array([[1.0, 0.25, -2.0, 0.5], [1.25, 0.0, -1.0, 1.0]], np.float32)
    made = voxelise(points, PILLARS, ROOMY)
    assert made.cells.tolist() == [[0, 4, 2]]
    found = encode(points, made, PILLARS, channel_names("pointpillars_10"))
    np.testing.assert_array_equal(
        found[0, :2],
        [
            [1.0, 0.25, -2.0, 0.5, -0.125, 0.125, -0.5, -0.25, 0.0, -1.0],
            [1.25, 0.0, -1.0, 1.0, 0.125, -0.125, 0.5, 0.0, -0.25, 0.0],
        ],
    )
    assert not found[0, 2:].any()


def test_features_go_where_they_are_wanted():
    points = np.full((3, 4), 0.75, np.float32)
    made = voxelise(points, PILLARS, VoxelLimits(4, 5))
    out = np.full((5, 4, 2), 9.0, np.float32)
    found = encode(points, made, PILLARS, ["x", "distance"], out)
    assert np.shares_memory(found, out)
    assert found.shape == (1, 4, 2)
    assert (out[1:] == 9.0).all()


def test_what_is_no_grid_is_refused():
    for lower, upper, size, says in [
        ((0, 0, 0), (1, 1, 1), (0.3, 1, 1), "along x.*whole number"),
        ((0, 0, 0), (1, 0, 1), (1, 1, 1), "along y.*upper over the lower"),
        ((0, 0, 0), (1, 1, math.inf), (1, 1, 1), "along z.*finite"),
        ((0, 0, 0), (1, 1, 1), (1, 1, -1), "along z.*positive size"),
        ((0, 0, 0), (1e5, 1e5, 1e5), (1, 1, 1), "more than"),
        ((0, 0, 0), (1, 2.0**32, 1), (1, 1, 1), "or than 2.31 - 1 along an axis"),
    ]:
        with pytest.raises(ConfigError, match=says):
            Grid(lower, upper, size)
    assert Grid((0, -39.68, -3), (69.12, 39.68, 1), (0.16, 0.16, 4)).shape == (1, 496, 432)
    assert PILLARS.is_flat
    assert not VOXELS.is_flat


def test_limits_leave_room_for_something():
    for points, voxels, says in [(0, 1, "limit of points is 0"), (1, -3, "limit of voxels is -3")]:
        with pytest.raises(ConfigError, match=says):
            VoxelLimits(points, voxels)
    with pytest.raises(ConfigError, match="is 2147483648; 1 to 2"):
        VoxelLimits(1, 1 << 31)


def test_channels_that_are_not_there_are_named():
    with pytest.raises(ConfigError, match="'radius' is not allowed; allowed: x, y"):
        channel_names(["x", "radius"])
    with pytest.raises(ConfigError, match="'pillars' is not allowed; allowed: pointpillars"):
        channel_names("pillars")
    points = np.full((3, 4), 0.75, np.float32)
    made = voxelise(points, PILLARS, ROOMY)
    with pytest.raises(ConfigError, match="want time, the cloud has x, y, z, intensity"):
        encode(points, made, PILLARS, channel_names("centerpoint"))


def test_an_empty_cloud_has_no_voxels():
    points = np.zeros((0, 4), np.float32)
    made = voxelise(points, PILLARS, ROOMY)
    assert len(made) == 0
    assert encode(points, made, PILLARS, ["x"]).shape == (0, 1000, 1)
