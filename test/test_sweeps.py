# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Sweeps brought together and the transforms between them, against matrices in float64."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from av_compress.data.sweeps import SweepMerger, follows, merge_sweeps
from av_compress.data.transforms import NoTransformError, Transform, Transforms
from av_compress.errors import DataError
from av_compress.tasks.base import Box, PointCloud, Sweeps

S = 1_000_000_000
NUMBERS = st.floats(-5, 5)
QUATERNIONS = st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS).filter(lambda q: math.hypot(*q) > 0.1)
TRANSFORMS = st.builds(Transform.of, st.tuples(NUMBERS, NUMBERS, NUMBERS), QUATERNIONS)


def homogeneous(transform: Transform) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = transform.matrix, transform.translation
    return matrix


def about_z(x: float, y: float, yaw: float) -> Transform:
    return Transform.of((x, y, 0), (0, 0, math.sin(yaw / 2), math.cos(yaw / 2)))


def test_a_quarter_turn_about_z():
    turn = about_z(1, 2, math.pi / 2)
    np.testing.assert_allclose(turn.matrix @ [1, 0, 0] + turn.translation, [1, 3, 0], atol=1e-15)


@settings(max_examples=60, deadline=None)
@given(TRANSFORMS, TRANSFORMS)
def test_transforms_follow_matrices(a: Transform, b: Transform):
    np.testing.assert_allclose(a.matrix @ a.matrix.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(a.matrix) == pytest.approx(1.0)
    np.testing.assert_allclose(homogeneous(a @ b), homogeneous(a) @ homogeneous(b), atol=1e-9)
    np.testing.assert_allclose(homogeneous(a.inverse() @ a), np.eye(4), atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(TRANSFORMS, st.integers(0, 4), st.integers(3, 6))
def test_points_move_as_matrices_say_however_few_they_are(a: Transform, count: int, columns: int):
    held = np.random.default_rng(count).uniform(-20, 20, (count, columns)).astype(np.float32)
    moved = held.copy()
    a.move(moved)
    np.testing.assert_allclose(
        moved[:, :3], held[:, :3].astype(np.float64) @ a.matrix.T + a.translation, atol=1e-4
    )
    np.testing.assert_array_equal(moved[:, 3:], held[:, 3:])


@settings(max_examples=40, deadline=None)
@given(TRANSFORMS, TRANSFORMS, st.floats(0, 1))
def test_what_lies_between_turns_evenly(a: Transform, b: Transform, share: float):
    between = a.towards(b, share)

    def angle(one: Transform, other: Transform) -> float:
        return 2 * math.acos(min(1.0, abs(float(one.rotation @ other.rotation))))

    assert angle(a, between) == pytest.approx(share * angle(a, b), abs=1e-6)
    assert angle(between, b) == pytest.approx((1 - share) * angle(a, b), abs=1e-6)


def test_a_tree_is_climbed_and_descended():
    tree = Transforms()
    tree.add_static("base", "lidar", about_z(1, 0, 0))
    tree.add_static("base", "camera", about_z(0, 1, math.pi / 2))
    tree.add("odom", "base", 10 * S, about_z(0, 0, 0))
    tree.add("odom", "base", 12 * S, about_z(4, 0, math.pi))
    found = tree.lookup("odom", "lidar", 11 * S)
    # Half way: at (2, 0), turned by 90 degrees; the LiDAR is 1 m ahead of it.
    np.testing.assert_allclose(found.translation, [2, 1, 0], atol=1e-12)
    back = tree.lookup("lidar", "odom", 11 * S)
    np.testing.assert_allclose(homogeneous(back @ found), np.eye(4), atol=1e-12)
    # Siblings need no time at all.
    aside = tree.lookup("camera", "lidar", 0)
    np.testing.assert_allclose(aside.translation, [-1, -1, 0], atol=1e-12)
    np.testing.assert_array_equal(homogeneous(tree.lookup("x", "x", 0)), np.eye(4))


def test_what_is_not_known_is_named():
    tree = Transforms()
    with pytest.raises(NoTransformError, match="connects 'lidar' with 'odom'; known are: none"):
        tree.lookup("odom", "lidar", 0)
    tree.add("odom", "base", 10 * S, Transform.identity())
    with pytest.raises(NoTransformError, match=r"odom <- base is known until 0\.500 s before"):
        tree.lookup("odom", "base", 10 * S + S // 2)
    with pytest.raises(NoTransformError, match=r"odom <- base is known from 1\.000 s after"):
        tree.lookup("odom", "base", 9 * S)
    with pytest.raises(DataError, match="is none"):
        Transform.of((0, 0, math.nan), (0, 0, 0, 1))
    with pytest.raises(DataError, match="is none"):
        Transform.of((0, 0, 0), (0, 0, 0, 0))


def test_frames_in_a_circle_end():
    tree = Transforms()
    tree.add_static("a", "b", Transform.identity())
    tree.add_static("b", "a", Transform.identity())
    with pytest.raises(NoTransformError):
        tree.lookup("c", "a", 0)
    tree.lookup("a", "b", 0)


def test_transforms_are_forgotten_after_ten_seconds_and_when_time_starts_anew():
    tree = Transforms()
    for second in range(100, 120):
        tree.add("odom", "base", second * S, about_z(second, 0, 0))
    with pytest.raises(NoTransformError):
        tree.lookup("odom", "base", 105 * S)
    assert tree.lookup("odom", "base", 110 * S).translation[0] == 110
    tree.add("odom", "base", 50 * S, about_z(50, 0, 0))
    assert tree.lookup("odom", "base", 50 * S).translation[0] == 50
    with pytest.raises(NoTransformError):
        tree.lookup("odom", "base", 110 * S)
    # Late ones are put where they belong, where they are not so late that time begins anew.
    tree.add("odom", "base", 54 * S, about_z(54, 0, 0))
    tree.add("odom", "base", 54 * S - S // 10, about_z(0, 0, 0))
    assert tree.lookup("odom", "base", 54 * S - S // 20).translation[0] == 27
    assert tree.lookup("odom", "base", 50 * S).translation[0] == 50
    tree.add("odom", "base", 52 * S, about_z(52, 0, 0))
    assert tree.lookup("odom", "base", 52 * S).translation[0] == 52
    for second in (50, 53, 54):
        with pytest.raises(NoTransformError):
            tree.lookup("odom", "base", second * S)


def test_a_long_memory_forgets_nothing_and_makes_nothing_up():
    tree = Transforms(memory_s=math.inf)
    for second in (*range(100, 200), 300):
        tree.add("odom", "base", second * S, about_z(second, 0, 0))
    assert tree.lookup("odom", "base", 100 * S + S // 2).translation[0] == 100.5
    assert tree.lookup("odom", "base", 300 * S).translation[0] == 300
    # As with a short memory, what was there before a long gap has nothing to do with what follows.
    with pytest.raises(NoTransformError, match=r"odom <- base is not known for 101\.000 s around"):
        tree.lookup("odom", "base", 250 * S)
    # So it is where time begins anew.
    tree.add("odom", "base", 50 * S, about_z(50, 0, 0))
    with pytest.raises(NoTransformError):
        tree.lookup("odom", "base", 150 * S)


# A wall that stands still, and a vehicle that drives a curve.
WALL = np.random.default_rng(2).uniform(-20, 20, (50, 3))


def pose(second: float) -> Transform:
    return about_z(5 * second + 1e6, -2e6, 0.1 * second)


def seen(second: float) -> PointCloud:
    """Return the wall as the LiDAR, which sits 2 m high, sees it."""
    to_lidar = (pose(second) @ Transform.of((0, 0, 2), (0, 0, 0, 1))).inverse()
    points = (WALL + np.array([1e6, -2e6, 0])) @ to_lidar.matrix.T + to_lidar.translation
    values = np.full((len(points), 4), second, np.float64)
    values[:, :3] = points
    return PointCloud(values.astype(np.float32), int(second * S), "lidar", f"s{second}")


def known(*seconds: float, memory_s: float = 10.0) -> Transforms:
    tree = Transforms(memory_s)
    tree.add_static("base", "lidar", Transform.of((0, 0, 2), (0, 0, 0, 1)))
    for second in seconds:
        tree.add("odom", "base", int(second * S), pose(second))
    return tree


def test_sweeps_agree_in_the_newest_ones_place():
    merger = SweepMerger(Sweeps(3), known(1.0, 1.5, 2.0, 2.5))
    counts = [merger.merge(seen(second)).sweeps for second in (1.0, 1.5, 2.0)]
    made = merger.merge(seen(2.5))
    assert [*counts, made.sweeps] == [1, 2, 3, 3]
    assert made.warning is None
    assert (made.cloud.stamp_ns, made.cloud.key) == (int(2.5 * S), "s2.5")
    points = made.cloud.points.reshape(3, 50, 5)
    # 1 micrometre of a float32 at 20 m, though the map's coordinates go into the millions.
    for part in points[1:]:
        np.testing.assert_allclose(part[:, :3], points[0, :, :3], atol=2e-5)
    np.testing.assert_array_equal(points[:, 0, 3], [2.5, 2.0, 1.5])
    np.testing.assert_array_equal(points[:, 0, 4], [0.0, 0.5, 1.0])


def test_the_vehicle_s_own_points_do_not_trail_behind_it():
    """A bonnet of an earlier sweep would lie where the vehicle was; the newest's is the task's."""
    box = Box((-1.0, -1.0, -3.0), (3.0, 1.0, 0.0))
    bonnet = np.array([[2, 0.5, -1, 9], [3, -1, 0, 9]], np.float32)
    outside = np.array([[3.001, 0, -1, 9], [np.nan, 0, -1, 9]], np.float32)
    clouds = [
        replace(one, points=np.concatenate([one.points, bonnet, outside]))
        for one in (seen(1.0), seen(1.5), seen(2.0))
    ]
    tree = known(1.0, 1.5, 2.0)
    whole = merge_sweeps(clouds[2], clouds[1::-1], tree, Sweeps(3)).cloud.points
    kept = merge_sweeps(clouds[2], clouds[1::-1], tree, Sweeps(3, ego_box=box)).cloud.points
    own = np.zeros(len(whole), bool)
    for age, cloud in ((0.5, clouds[1]), (1.0, clouds[0])):
        x, y, z = cloud.points[:, :3].T.astype(np.float64)
        inside = (x >= -1) & (x <= 3) & (y >= -1) & (y <= 1) & (z >= -3) & (z <= 0)
        assert inside[50:52].all()
        assert not inside[52:].any()
        own[np.flatnonzero(whole[:, 4] == np.float32(age))] = inside
    np.testing.assert_array_equal(kept, whole[~own])
    assert own.sum() >= 4


def test_one_sweep_needs_nothing():
    cloud = seen(1.0)
    made = SweepMerger(Sweeps(1), Transforms()).merge(cloud)
    assert made.cloud is cloud
    assert (made.sweeps, made.warning) == (1, None)


def test_a_late_transform_costs_a_warning_and_is_made_up_for():
    tree = known(1.0)
    merger = SweepMerger(Sweeps(3), tree)
    assert merger.merge(seen(1.0)).warning is None
    made = merger.merge(seen(1.5))
    assert made.sweeps == 1
    assert "no ego motion from 'odom' to 'lidar': odom <- base is known until 0.500 s" in (
        made.warning or ""
    )
    np.testing.assert_array_equal(made.cloud.points[:, :4], seen(1.5).points)
    tree.add("odom", "base", int(1.5 * S), pose(1.5))
    tree.add("odom", "base", 2 * S, pose(2.0))
    made = merger.merge(seen(2.0))
    assert (made.sweeps, made.warning) == (3, None)


def test_a_sweep_from_before_the_first_transform_is_left_out():
    merger = SweepMerger(Sweeps(3), known(1.5, 2.0))
    for second in (1.0, 1.5):
        merger.merge(seen(second))
    made = merger.merge(seen(2.0))
    assert made.sweeps == 2
    assert "2 of 3 sweeps are served" in (made.warning or "")
    assert "is known from 0.500 s after" in (made.warning or "")


@pytest.mark.parametrize("second", [1.0, 1.9, 3.6])
def test_jumps_of_the_clock_begin_anew(second: float):
    merger = SweepMerger(Sweeps(3), known(1.0, 1.9, 2.0, 2.5, 3.6))
    for earlier in (2.0, 2.5):
        merger.merge(seen(earlier))
    made = merger.merge(seen(second))
    assert (made.sweeps, made.warning) == (1, None)


def test_another_frame_begins_anew():
    merger = SweepMerger(Sweeps(3), known(1.0, 1.5))
    merger.merge(seen(1.0))
    other = seen(1.5)
    made = merger.merge(PointCloud(other.points, other.stamp_ns, "rear_lidar"))
    assert (made.sweeps, made.warning) == (1, None)
    merger.clear()
    assert merger.merge(other).sweeps == 1


def test_points_that_are_nowhere_stay_nowhere():
    merger = SweepMerger(Sweeps(2), known(1.0, 1.5))
    nowhere = np.array([[np.nan, 1, 1, 1], [np.inf, 1, 1, 1], [1, -np.inf, 0, 1]], np.float32)
    merger.merge(PointCloud(nowhere, S, "lidar"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = merger.merge(PointCloud(nowhere[:0], int(1.5 * S), "lidar")).cloud.points
    assert made.shape == (3, 5)
    assert not np.isfinite(made[:, :3]).all(axis=1).any()


def test_clouds_without_points_and_without_intensity_merge():
    merger = SweepMerger(Sweeps(2), known(1.0, 1.5))
    merger.merge(PointCloud(np.zeros((0, 3), np.float32), S, "lidar"))
    made = merger.merge(PointCloud(np.ones((2, 3), np.float32), int(1.5 * S), "lidar"))
    assert made.sweeps == 2
    np.testing.assert_array_equal(made.cloud.points, [[1, 1, 1, 0, 0]] * 2)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 6), st.lists(st.sampled_from([0.3, 0.5, 0.9, 1.2, -0.4]), max_size=12))
def test_a_merger_is_the_function_over_the_chain_before_a_cloud(count: int, steps: list[float]):
    """Whatever jumps there are: each sweep continues the one before it, or begins anew."""
    sweeps, tree = Sweeps(count), known(*range(-10, 30), memory_s=math.inf)
    merger, held = SweepMerger(sweeps, tree), [seen(5.0)]
    held += [seen(5.0 + sum(steps[: index + 1])) for index in range(len(steps))]
    for index, cloud in enumerate(held):
        chain: list[PointCloud] = []
        while len(chain) < min(count - 1, index):
            later, earlier = held[index - len(chain)], held[index - len(chain) - 1]
            if not follows(later, earlier, sweeps):
                break
            chain.append(earlier)
        made, wanted = merger.merge(cloud), merge_sweeps(cloud, chain, tree, sweeps)
        np.testing.assert_array_equal(made.cloud.points, wanted.cloud.points)
        assert (made.sweeps, made.warning) == (wanted.sweeps, None)
        if count > 1:
            ages = np.unique(made.cloud.points[:, 4])
            assert len(ages) == made.sweeps
            assert ages.max() <= 1.0
