# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Transforms over time where time begins anew, or is ahead of what is known: in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from av_compress.data.sweeps import SweepMerger
from av_compress.data.transforms import AHEAD_S, NoTransformError, Transform, Transforms
from av_compress.tasks.base import PointCloud, Sweeps

S = 1_000_000_000
SPEED, TURN = 20.0, 0.3  # m/s and rad/s: a curve of 6 m/s2.


def curve(second: float) -> tuple[float, float, float]:
    """Return x, y and yaw of a vehicle that drives a circle."""
    yaw, radius = TURN * second, SPEED / TURN
    return radius * math.sin(yaw), radius * (1 - math.cos(yaw)), yaw


def at(second: float, place=curve) -> Transform:
    x, y, yaw = place(second)
    return Transform.of((x, y, 0), (0, 0, math.sin(yaw / 2), math.cos(yaw / 2)))


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 100), st.integers(5, 120), st.floats(0, 20))
def test_a_curve_is_continued_as_closely_as_its_acceleration_lets(
    ahead_ms: int, period_ms: int, start: float
):
    tree, times = Transforms(), [start + n * period_ms / 1000 for n in range(20)]
    for second in times:
        tree.add("odom", "base", round(second * S), at(second))
    then = times[-1] + ahead_ms / 1000
    found = tree.lookup("odom", "base", round(then * S))
    # The velocity is that over the shortest time of at least 50 ms.
    base = period_ms * math.ceil(50 / period_ms) / 1000
    x, y, yaw = curve(then)
    wrong = math.hypot(found.translation[0] - x, found.translation[1] - y)
    ahead = ahead_ms / 1000
    assert wrong <= 1.001 * SPEED * TURN / 2 * ahead * (ahead + base) + 1e-6
    # It turns evenly, and so is the turn.
    assert math.remainder(2 * math.atan2(*found.rotation[2:]) - yaw, 2 * math.pi) == (
        pytest.approx(0, abs=1e-6)
    )


def test_no_motion_is_made_up_beyond_that():
    tree = Transforms()
    tree.add("odom", "base", 10 * S, at(10))
    for ahead in (1, S // 100):
        with pytest.raises(NoTransformError, match=r"is known until 0\.0\d\d s before that time"):
            tree.lookup("odom", "base", 10 * S + ahead)
    # Two that lie closer together than 50 ms: the oldest there is.
    tree.add("odom", "base", 10 * S + S // 100, at(10.01))
    last, ahead = 10 * S + S // 100, round(AHEAD_S * S)
    found = tree.lookup("odom", "base", last + ahead).translation
    want = at(10.01).translation + 10 * (at(10.01).translation - at(10).translation)
    np.testing.assert_allclose(found, want, atol=1e-9)
    with pytest.raises(NoTransformError, match=r"is known until 0\.100 s before that time only"):
        tree.lookup("odom", "base", last + ahead + 1)
    with pytest.raises(NoTransformError, match="from"):
        tree.lookup("odom", "base", 10 * S - 1)
    # Neither is a velocity over a gap.
    tree.add("odom", "base", 30 * S, at(30))
    with pytest.raises(NoTransformError):
        tree.lookup("odom", "base", 30 * S + 1)


def test_noise_of_neighbours_is_not_multiplied():
    """Places that jitter by 1 mm, every 10 ms: over 50 ms they give 5 mm at most in 100 ms."""
    tree, noise = Transforms(), np.random.default_rng(0).uniform(-0.001, 0.001, 200)
    for number, wrong in enumerate(noise):
        place = Transform.of((SPEED * number / 100 + wrong, 0, 0), (0, 0, 0, 1))
        tree.add("odom", "base", number * S // 100, place)
        if number >= 5:
            found = tree.lookup("odom", "base", (number + 10) * S // 100).translation[0]
            assert abs(found - SPEED * (number + 10) / 100) <= 0.005


def test_tf_that_is_always_late_costs_no_sweep():
    """tf at 100 Hz comes 20 ms after its stamp, clouds are served 5 ms after theirs."""
    tree, made, told = Transforms(), [], 0
    merger = SweepMerger(Sweeps(5), tree)
    wall = np.random.default_rng(0).uniform(-30, 30, (20, 2))
    for number in range(1, 40):
        second = number / 10
        while 10 * told + 20 <= 100 * number + 5:
            tree.add("odom", "lidar", told * S // 100, at(told / 100))
            told += 1
        x, y, yaw = curve(second)
        turn = np.array([[math.cos(yaw), -math.sin(yaw)], [math.sin(yaw), math.cos(yaw)]])
        points = np.zeros((20, 4), np.float32)
        points[:, :2] = (wall - (x, y)) @ turn
        made.append(merger.merge(PointCloud(points, number * S // 10, "lidar")))
    assert [one.sweeps for one in made] == [1, 2, 3, 4] + [5] * 35
    assert all(one.warning is None for one in made)
    for one in made:
        parts = one.cloud.points.reshape(one.sweeps, 20, 5)
        # What the curve allows: 6 m/s2 / 2 * 20 ms * 70 ms; and a float32 at 60 m.
        assert np.abs(parts[1:, :, :2] - parts[0, :, :2]).max(initial=0) < 0.0043


@pytest.mark.parametrize("back", [0.15, 2.003, 9.0, 11.0])
def test_a_clock_that_is_set_back_mixes_no_two_motions(back: float):
    tree, merger = Transforms(), None
    merger = SweepMerger(Sweeps(5), tree)
    sweeps = []
    for number in range(3000):
        true = number / 100
        clock = true if true < 15 else true - back
        tree.add("odom", "lidar", round(clock * S), at(true))
        if number % 10 != 5:
            continue
        # A post at (1, 2), seen 24 ms ago; the vehicle drives and turns on.
        then = true - 0.024
        x, y, yaw = curve(then)
        dx, dy = 1 - x, 2 - y
        seen = (
            dx * math.cos(yaw) + dy * math.sin(yaw),
            dy * math.cos(yaw) - dx * math.sin(yaw),
        )
        stamp = round((then if then < 15 else then - back) * S)
        cloud = PointCloud(np.array([[*seen, 0, 0]], np.float32), stamp, "lidar")
        made = merger.merge(cloud)
        assert np.abs(made.cloud.points[:, :2] - cloud.points[0, :2]).max() < 0.01
        sweeps.append(made.sweeps)
    assert sweeps[149:156] == [5, 1, 2, 3, 4, 5, 5]
    assert set(sweeps[155:]) == {5}
