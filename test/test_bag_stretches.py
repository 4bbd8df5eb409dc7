# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Bags in which time begins anew, or several sources tell of the motion: against matrices."""

from __future__ import annotations

import warnings
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from helpers_rig import FRONT, MOUNTS, REAR, held, write_held
from helpers_sweeps import (
    MOUNT,
    ODOMETRY,
    POINTS,
    Recorder,
    lidar,
    matrix,
    points,
    pose,
    write_cloud,
    write_odometry,
    write_tf,
)

from av_compress.data.bag_clouds import CloudSource
from av_compress.data.bag_motion import MotionOptions
from av_compress.data.bag_sources import bring_together
from av_compress.data.bags import BagClouds
from av_compress.data.merging import MergeOptions
from av_compress.data.points import PointOptions
from av_compress.errors import DataWarning
from av_compress.tasks.base import Sweeps

# How far the vehicle has driven on when its clock begins anew, in seconds.
LATER = 30.0


def opened(path: Path, *topics: str, sweeps: int = 3, **motion: str) -> CloudSource:
    clouds = [BagClouds(path, topic, PointOptions()) for topic in topics]
    merge = MergeOptions("base") if len(topics) > 1 else None
    return bring_together(path, clouds, Sweeps(sweeps), MotionOptions(**motion), merge)


def told(path: Path, *topics: str, **options) -> tuple[CloudSource, list[str]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DataWarning)
        source = opened(path, *topics, **options)
    return source, [str(one.message) for one in caught]


def check_sweeps(read: np.ndarray, index: int, place, sweeps: int = 3) -> int:
    """Hold sweeps of `points` against where the LiDAR was; return how many there are.

    Args:
        read: what was read, float32 [n, 5].
        index: number of the newest cloud; those before it are what is brought to it.
        place: number -> the LiDAR's matrix.
        sweeps: at most as many are there.

    """
    count = begin = 0
    while begin < len(read):
        held = points(index - count)
        part = read[begin : begin + len(held)]
        np.testing.assert_array_equal(part[:, 3], held["intensity"])
        rows = np.stack([held[name] for name in "xyz"] + [np.ones(len(held))])
        moved = np.linalg.inv(place(index)) @ place(index - count) @ rows
        np.testing.assert_allclose(part[:, :3], moved[:3].T, atol=2e-5)
        begin, count = begin + len(held), count + 1
    assert begin == len(read)
    assert count <= sweeps
    return count


@pytest.fixture
def twice(tmp_path: Path) -> Path:
    """Write a drive whose clock is set back by 1.6 s after its 8th cloud, as 0.2 s passes."""
    path = tmp_path / "bag"
    with Recorder(path) as writer:
        write_tf(writer, "/tf_static", "base", "lidar", MOUNT, 0.0)
        for index in range(24):
            write_place(writer, index)
            write_cloud(writer, index, clock(index))
    return path


def clock(index: int) -> float:
    return round(0.2 * index - (1.6 if index >= 8 else 0), 1)


def true(index: int) -> float:
    return clock(index) + (LATER if index >= 8 else 0)


def write_place(writer: Recorder, index: int) -> None:
    write_tf(writer, "/tf", "odom", "base", pose(true(index)), clock(index))


def test_what_was_recorded_before_and_after_a_jump_is_not_mixed(twice: Path):
    source, warned = told(twice, POINTS)
    assert warned == [
        "bag bag: time begins anew in it where the stamps of odom <- base "
        "go back by 1.400 s; what was recorded before and after is not brought together"
    ]
    order = (*range(24), 3, 20, 9, 8, 7, 0)
    with closing(source):
        counts = [
            check_sweeps(source.read(index).points, index, lambda one: lidar(true(one)))
            for index in order
        ]
    assert counts[:24] == [1, 2, *[3] * 6, 1, 2, *[3] * 14]


@pytest.mark.parametrize("first", ["clouds", "tf"])
def test_a_jump_that_topics_make_one_after_the_other_mixes_nothing(tmp_path: Path, first: str):
    """For some messages the one counts anew already, and the other not yet."""
    path = tmp_path / "bag"
    with Recorder(path) as writer:
        write_tf(writer, "/tf_static", "base", "lidar", MOUNT, 0.0)
        for index in range(24):
            if first == "tf":
                write_place(writer, index + 1)
                write_cloud(writer, index, clock(index))
            else:
                write_cloud(writer, index, clock(index))
                write_place(writer, index)
    source, _ = told(path, POINTS)
    with closing(source):
        counts = [
            check_sweeps(source.read(index).points, index, lambda one: lidar(true(one)))
            for index in range(24)
        ]
    assert set(counts[12:]) == {3}
    assert set(counts[3:7]) == {3}


def test_clouds_of_a_clock_that_is_not_tfs_are_not_brought_over_a_jump(tmp_path: Path):
    """The clock of tf alone is set back; that of the clouds goes on."""
    path = tmp_path / "bag"
    with Recorder(path) as writer:
        write_tf(writer, "/tf_static", "base", "lidar", MOUNT, 0.0)
        for index in range(24):
            write_place(writer, index)
            write_cloud(writer, index, 0.2 * index)
    source, _ = told(path, POINTS)
    with closing(source):
        ages = [np.unique(source.read(index).points[:, 4]) for index in range(6, 12)]
    assert [len(one) for one in ages] == [3, 3, 1, 2, 3, 3]


@pytest.mark.parametrize("sweeps", [1, 3])
def test_lidars_are_merged_within_a_stretch_alone(tmp_path: Path, sweeps: int):
    """The rear LiDAR misses two clouds; those of the same stamps come after the jump."""
    path = tmp_path / "bag"
    missing = (2, 15)
    with Recorder(path) as writer:
        for name in ("front", "rear"):
            write_tf(writer, "/tf_static", "base", name, MOUNTS[name], 0.0)
        for index in range(24):
            write_place(writer, index)
            write_held(writer, "front", index, clock(index))
            if index not in missing:
                write_held(
                    writer, "rear", sum(n not in missing for n in range(index)), rear(index)
                )
    source, _ = told(path, FRONT, REAR, sweeps=sweeps)
    with closing(source):
        for index in range(24):
            read = source.read(index).points
            newest = true(index) if index in missing else true(index) + 0.03
            begin = 0
            for earlier in range(index, max(index - sweeps, -1 if index < 8 else 7), -1):
                seen = {"front": (earlier, true(earlier))}
                if earlier not in missing:
                    number = sum(n not in missing for n in range(earlier))
                    seen["rear"] = (number, true(earlier) + 0.03)
                for name, (number, then) in seen.items():
                    points = held(name, number)
                    part = read[begin : begin + len(points)]
                    begin += len(points)
                    places = np.stack([points[axis] for axis in "xyz"] + [np.ones(len(points))])
                    place = matrix(pose(then)) @ matrix(MOUNTS[name])
                    moved = np.linalg.inv(matrix(pose(newest))) @ place @ places
                    np.testing.assert_allclose(part[:, :3], moved[:3].T, atol=1e-4)
                    np.testing.assert_array_equal(part[:, 3], points["intensity"])
            assert begin == len(read)


def rear(index: int) -> float:
    return round(clock(index) + 0.03, 2)


def test_lidars_whose_stamps_go_back_are_paired_without_motion_too(tmp_path: Path):
    path = tmp_path / "bag"
    with Recorder(path) as writer:
        for name in ("front", "rear"):
            write_tf(writer, "/tf_static", "base", name, MOUNTS[name], 0.0)
        for index in range(16):
            # Of the first pass, the rear LiDAR has the first alone.
            write_held(writer, "front", index, clock(index))
            if index == 0 or index >= 8:
                write_held(writer, "rear", index, clock(index))
    clouds = [BagClouds(path, topic, PointOptions()) for topic in (FRONT, REAR)]
    merge = MergeOptions("base", fixed_frame="")
    with pytest.warns(DataWarning, match=f"where the stamps of {FRONT} go back by 1.400 s"):
        source = bring_together(path, clouds, Sweeps(), MotionOptions(fixed_frame=""), merge)
    with closing(source):
        for index in range(16):
            want = held("front", index)["intensity"]
            if index == 0 or index >= 8:
                want = np.concatenate([want, held("rear", index)["intensity"]])
            np.testing.assert_array_equal(source.read(index).points[:, 3], want)


def test_two_sources_in_a_bag_are_told_once_and_not_mixed(tmp_path: Path):
    path = tmp_path / "bag"
    with Recorder(path) as writer:
        write_tf(writer, "/tf_static", "base", "lidar", MOUNT, 0.0)
        for index in range(12):
            second = 0.2 * index
            write_tf(writer, "/tf", "odom", "base", pose(second), second)
            # Another node's, in another frame.
            write_tf(writer, "/tf", "map", "base", pose(5 - second), second)
            write_cloud(writer, index, second)
    source, warned = told(path, POINTS)
    assert warned == [
        "bag bag: frame 'base' is told by /tf in 'odom' and by /tf in 'map'; the second is left "
        "out until the first has been silent for 1 s: stop one of the two, or remap it"
    ]
    with closing(source):
        for index in range(12):
            count = check_sweeps(source.read(index).points, index, lambda one: lidar(0.2 * one))
            assert count == min(index + 1, 3)


@pytest.mark.parametrize("kind", ["/tf", "/tf_static"])
def test_the_odometry_that_is_named_wins_over_tf(tmp_path: Path, kind: str):
    path = tmp_path / "bag"
    with Recorder(path) as writer:
        write_tf(writer, "/tf_static", "base", "lidar", MOUNT, 0.0)
        for index in range(12):
            second = 0.2 * index
            # It comes first, and is wrong.
            write_tf(writer, kind, "odom", "base", pose(5 - 3 * second), second)
            if index != 0:
                write_odometry(writer, second)
            write_cloud(writer, index, second)
    source, warned = told(path, POINTS, odometry=ODOMETRY)
    assert len(warned) == 2
    assert f"is told by {ODOMETRY} in 'odom' and by {kind} in 'odom'; the second" in warned[0]
    assert "known from 0.200 s after that time" in warned[1]
    with closing(source):
        counts = [
            check_sweeps(source.read(index).points, index, lambda one: lidar(0.2 * one))
            for index in range(12)
        ]
    assert counts == [1, 1, 2, *[3] * 9]


def test_a_source_that_follows_another_begins_a_stretch(tmp_path: Path):
    path = tmp_path / "bag"

    def place(index: int) -> np.ndarray:
        return matrix(pose(0.2 * index + (LATER if index >= 12 else 0))) @ matrix(MOUNT)

    with Recorder(path) as writer:
        write_tf(writer, "/tf_static", "base", "lidar", MOUNT, 0.0)
        for index in range(24):
            second = 0.2 * index
            if index < 6:
                write_tf(writer, "/tf", "odom", "base", pose(second), second)
            if index >= 12:
                write_tf(writer, "/tf", "world", "base", pose(second + LATER), second)
            write_tf(writer, "/tf", "world", "odom", (0, 0, 0, 0), second)
            write_cloud(writer, index, second)
    source, warned = told(path, POINTS, fixed_frame="world")
    assert "time begins anew in it where another source tells" in warned[0]
    with closing(source):
        counts = [check_sweeps(source.read(i).points, i, place) for i in range(24)]
    assert counts == [1, 2, 3, 3, 3, 3, *[1] * 7, 2, *[3] * 10]
