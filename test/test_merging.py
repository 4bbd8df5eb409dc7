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
from av_compress.tasks.base import Box, PointCloud

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


@pytest.mark.parametrize(("apart_ms", "names"), [(100, ("front", "rear")), (101, ("front",))])
@pytest.mark.parametrize("sign", [-1, 1])
def test_of_two_far_apart_the_first_one_leads(apart_ms: int, names: tuple[str, ...], sign: int):
    rear = replace(seen("rear", 1.0), stamp_ns=S + sign * apart_ms * MS)
    merged = merge_clouds(
        {"front": seen("front", 1.0), "rear": rear}, MergeOptions("base_link", ""), tree()
    )
    assert merged.names == names
    assert merged.cloud.stamp_ns == (max(S, rear.stamp_ns) if len(names) == 2 else S)
    if len(names) == 1:
        way = "ahead of" if sign > 0 else "behind"
        assert f"0.101 s {way} the others', 0.1 s are" in str(merged.refused["rear"])


@pytest.mark.parametrize("apart_s", [-37, 37])
@pytest.mark.parametrize("order", [("rear", "front", "roof"), ("front", "roof", "rear")])
def test_a_lidar_with_a_wrong_clock_costs_the_others_nothing(apart_s: int, order):
    transforms = tree(1.0, 1.04)
    transforms.add_static("base_link", "roof", transform(*FRONT))
    clouds = {
        "rear": replace(seen("rear", 1.0), stamp_ns=S + apart_s * S),
        "front": seen("front", 1.0),
        "roof": replace(seen("front", 1.04), frame_id="roof"),
    }
    merged = merge_clouds({name: clouds[name] for name in order}, OPTIONS, transforms)
    assert set(merged.names) == {"front", "roof"}
    assert merged.cloud.stamp_ns == round(1.04 * S)
    assert merged.warning is None
    assert "the others', 0.1 s are allowed" in str(merged.refused["rear"])


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 500), min_size=1, max_size=6))
def test_as_many_as_can_go_together(stamps_ms: list[int]):
    transforms = tree()
    clouds = {}
    for index, ms in enumerate(stamps_ms):
        transforms.add_static("base_link", f"l{index}", Transform.identity())
        clouds[f"l{index}"] = PointCloud(np.zeros((1, 4), np.float32), ms * MS, f"l{index}")
    merged = merge_clouds(clouds, MergeOptions("base_link", ""), transforms)
    groups = [[n for n in stamps_ms if last - 100 <= n <= last] for last in stamps_ms]
    assert len(merged.names) == max(map(len, groups))
    together = [clouds[name].stamp_ns for name in merged.names]
    assert max(together) - min(together) <= 100 * MS
    assert merged.cloud.stamp_ns == max(together)
    assert set(merged.names) | set(merged.refused) == set(clouds)


def test_one_without_a_place_does_not_set_the_time():
    stray = replace(seen("rear", 1.2), frame_id="roof")
    merged = merge_clouds({"rear": stray, "front": seen("front", 1.0)}, OPTIONS, tree())
    assert merged.names == ("front",)
    assert merged.cloud.stamp_ns == S


def test_the_vehicle_s_own_points_stay_with_it():
    """At 12 m/s the body that the rear LiDAR saw 80 ms ago would lie a metre behind."""
    then, now = 1.0, 1.08
    body = np.array([[-2.0, 0.5, 1.0, 1], [4.0, -0.9, 0.2, 1]])
    beside = np.array([[-2.0, 1.2, 1.0, 1]])
    place = matrix(*REAR)
    rows = np.concatenate([body, beside]) @ np.linalg.inv(place).T
    points = np.column_stack([rows[:, :3], np.full(3, 9.0)]).astype(np.float32)
    rear = PointCloud(points, round(then * S), "rear")
    front = PointCloud(np.zeros((0, 4), np.float32), round(now * S), "front")
    clouds, box = {"front": front, "rear": rear}, Box((-2.5, -1, 0), (4.5, 1, 2))
    whole = merge_clouds(clouds, OPTIONS, tree(then, now)).cloud.points
    kept = merge_clouds(clouds, replace(OPTIONS, ego_box=box), tree(then, now)).cloud.points
    assert whole[0, 0] < -2.8
    np.testing.assert_allclose(kept, whole[2:], atol=1e-5)
    # Of one time nothing is dropped here: the task drops, and counts it.
    same = {"rear": replace(rear, stamp_ns=front.stamp_ns), "front": front}
    assert len(merge_clouds(same, replace(OPTIONS, ego_box=box), tree()).cloud) == 3


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
