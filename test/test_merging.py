# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Clouds of several LiDARs in one frame, against homogeneous matrices in float64."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from av_compress.data.merging import MergeOptions, merge_clouds
from av_compress.data.transforms import Transform, Transforms
from av_compress.tasks.base import PointCloud

S = 1_000_000_000
MS = 1_000_000
OPTIONS = MergeOptions("base_link")

# Poses as x, y, z and yaw: of the LiDARs on the vehicle, and of the vehicle on its way.
FRONT, REAR = (3.0, 0.5, 1.5, 0.1), (-1.0, -0.25, 1.75, math.pi - 0.2)
# Points of the world near the vehicle, far from the world's origin.
WORLD = np.random.default_rng(5).uniform(-30, 30, (40, 3)) + np.array([5e5, -3e5, 0])


def matrix(x: float, y: float, z: float, yaw: float) -> np.ndarray:
    """Return what takes a frame's coordinates to its parent's."""
    cos, sin = math.cos(yaw), math.sin(yaw)
    return np.array([[cos, -sin, 0, x], [sin, cos, 0, y], [0, 0, 1, z], [0, 0, 0, 1.0]])


def way(second: float) -> tuple[float, float, float, float]:
    return 5e5 + 12 * second, -3e5 + second, 0.0, 0.3 * second


def transform(x: float, y: float, z: float, yaw: float) -> Transform:
    return Transform.of((x, y, z), (0, 0, math.sin(yaw / 2), math.cos(yaw / 2)))


def tree(*seconds: float) -> Transforms:
    found = Transforms()
    found.add_static("base_link", "front", transform(*FRONT))
    found.add_static("base_link", "rear", transform(*REAR))
    for second in seconds:
        found.add("odom", "base_link", round(second * S), transform(*way(second)))
    return found


def taken_back(points: np.ndarray, to_parent: np.ndarray) -> np.ndarray:
    rows = np.concatenate([points, np.ones((len(points), 1))], axis=1)
    return (rows @ np.linalg.inv(to_parent).T)[:, :3]


def seen(lidar: str, second: float, columns: int = 4) -> PointCloud:
    """Return the world as a LiDAR sees it; intensities are the seconds."""
    place = matrix(*way(second)) @ matrix(*(FRONT if lidar == "front" else REAR))
    points = np.full((len(WORLD), columns), second, np.float64)
    points[:, :3] = taken_back(WORLD, place)
    points[:, 4:] = 0
    return PointCloud(points.astype(np.float32), round(second * S), lidar)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 100))
def test_what_stands_still_is_where_the_newest_cloud_sees_it(apart_ms: int):
    """The vehicle drives and turns between the two; at the time of the newest they agree."""
    then, now = 1.5, 1.5 + apart_ms / 1000
    merged = merge_clouds(
        {"front": seen("front", then), "rear": seen("rear", now)}, OPTIONS, tree(then, now)
    )
    assert merged.warning is None
    assert not merged.refused
    assert merged.names == ("front", "rear")
    assert (merged.cloud.stamp_ns, merged.cloud.frame_id) == (round(now * S), "base_link")
    want = taken_back(WORLD, matrix(*way(now)))
    for half in np.split(merged.cloud.points, 2):
        np.testing.assert_allclose(half[:, :3], want, atol=1e-4)
    np.testing.assert_allclose(merged.cloud.points[:40, 3], np.float32(then))


def test_clouds_of_one_time_need_no_motion():
    merged = merge_clouds(
        {"rear": seen("rear", 1.0), "front": seen("front", 1.0)}, OPTIONS, tree()
    )
    assert merged.warning is None
    want = taken_back(WORLD, matrix(*way(1.0)))
    for half in np.split(merged.cloud.points, 2):
        np.testing.assert_allclose(half[:, :3], want, atol=1e-4)


def test_times_count_from_the_newest():
    front, rear = seen("front", 1.0, 6), seen("rear", 1.05, 6)
    front.points[:, 4], rear.points[:, 4] = 0.02, 0.01
    front.points[:, 5] = 7
    merged = merge_clouds({"front": front, "rear": rear}, OPTIONS, tree(1.0, 1.05))
    np.testing.assert_allclose(merged.cloud.points[:40, 4], 0.07, rtol=1e-6)
    np.testing.assert_allclose(merged.cloud.points[40:, 4], 0.01, rtol=1e-6)
    np.testing.assert_array_equal(merged.cloud.points[:40, 5], 7)
    assert front.points[0, 4] == np.float32(0.02)


def test_without_ego_motion_clouds_are_merged_as_if_the_vehicle_stood_with_a_warning():
    front, rear = seen("front", 1.0), seen("rear", 1.05)
    merged = merge_clouds({"front": front, "rear": rear}, OPTIONS, tree(1.0))
    assert merged.names == ("front", "rear")
    assert merged.warning is not None
    assert "no ego motion from 'odom' to 'base_link'" in merged.warning
    assert "0.050 s before" in merged.warning
    assert "the cloud of front" in merged.warning
    np.testing.assert_allclose(
        merged.cloud.points[:40, :3], taken_back(WORLD, matrix(*way(1.0))), atol=1e-4
    )
    # Who has no ego motion says so, and is not told again and again.
    still = replace(OPTIONS, fixed_frame="")
    silent = merge_clouds({"front": front, "rear": rear}, still, tree(1.0))
    assert silent.warning is None
    np.testing.assert_array_equal(silent.cloud.points, merged.cloud.points)


def test_a_cloud_that_cannot_be_placed_leaves_the_others():
    stray = replace(seen("rear", 1.0), frame_id="roof")
    merged = merge_clouds({"rear": stray, "front": seen("front", 1.0)}, OPTIONS, tree())
    assert merged.names == ("front",)
    assert len(merged.cloud) == 40
    assert set(merged.refused) == {"rear"}
    assert "connects 'roof' with 'base_link'" in str(merged.refused["rear"])
    nothing = merge_clouds({"rear": stray}, OPTIONS, tree())
    assert nothing.cloud is None
    assert not nothing.names


@pytest.mark.parametrize(("apart_ms", "names"), [(100, ("front", "rear")), (101, ("rear",))])
def test_a_cloud_far_older_than_the_newest_is_left_out(apart_ms: int, names: tuple[str, ...]):
    front = replace(seen("front", 1.0), stamp_ns=S - apart_ms * MS)
    merged = merge_clouds(
        {"front": front, "rear": seen("rear", 1.0)}, MergeOptions("base_link", ""), tree()
    )
    assert merged.names == names
    if names == ("rear",):
        assert "0.101 s older than another's, 0.1 s" in str(merged.refused["front"])


def test_points_that_lie_nowhere_stay_so_and_spoil_no_others():
    front = seen("front", 1.0)
    front.points[0, 0], front.points[1, 1] = np.nan, np.inf
    merged = merge_clouds({"front": front, "rear": seen("rear", 1.0)}, OPTIONS, tree())
    finite = np.isfinite(merged.cloud.points[:, :3]).all(axis=1)
    np.testing.assert_array_equal(np.flatnonzero(~finite), [0, 1])


def test_clouds_without_points_merge():
    empty = PointCloud(np.zeros((0, 4), np.float32), S, "front")
    merged = merge_clouds({"front": empty, "rear": seen("rear", 1.0)}, OPTIONS, tree())
    assert merged.names == ("front", "rear")
    assert len(merged.cloud) == 40
