# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""nuScenes' folders: boxes and velocities worked out with matrices, and every fault by name."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import numpy as np
import pytest
from helpers_nuscenes import (
    CAR,
    RIGHT_LEFT,
    START_US,
    STEP_US,
    VERSION,
    Shot,
    Thing,
    at,
    boxed,
    car_place,
    drive,
    pose,
    turn,
    write_nuscenes,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from av_compress.data.base import GradedSource, LabelledSource, ScopedSource
from av_compress.data.nuscenes import CATEGORIES, CLASS_NAMES, NuscenesFolder
from av_compress.data.nuscenes_tables import any_sweep, key_frame, read_tables
from av_compress.data.points import CHANNELS
from av_compress.data.sources import open_source
from av_compress.errors import ConfigError, DataError
from av_compress.tasks.base import IMAGES, FrameNeeds, PointCloud

CLOUDS = FrameNeeds(PointCloud, ("x", "y", "z", "intensity"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    scenes = {"scene-0002": drive(3), "scene-0001": drive(2)}
    return write_nuscenes(tmp_path / "sets", scenes)


def of_class(labels, name: str):
    return np.flatnonzero(labels.labels == CLASS_NAMES.index(name))


def test_key_frames_come_scene_by_scene_with_their_stamps(folder):
    source = NuscenesFolder(folder)
    assert isinstance(source, LabelledSource)
    assert isinstance(source, ScopedSource)
    assert not isinstance(source, GradedSource)
    assert [source.key(index) for index in range(len(source))] == [
        f"samples/LIDAR_TOP/scene-{name}.pcd.bin"
        for name in ("0001-0", "0001-1", "0002-0", "0002-1", "0002-2")
    ]
    cloud = source.read(3)
    assert (cloud.key, cloud.frame_id) == (source.key(3), "LIDAR_TOP")
    assert cloud.stamp_ns == (START_US + STEP_US + 1000) * 1000
    assert source.description == "nuscenes sets/v1.0-mini"
    source.close()


def test_points_have_the_columns_that_a_task_wants(folder):
    held = drive(3)[1].points
    four = open_source({"type": "nuscenes", "path": "sets"}, folder.parent, CLOUDS).read(3)
    np.testing.assert_array_equal(four.points, held[:, :4])
    assert four.points.flags.writeable
    wide = NuscenesFolder(folder, wanted=CHANNELS).read(3).points
    np.testing.assert_array_equal(wide, np.c_[held[:, :4], np.zeros(7), held[:, 4]])


def test_boxes_and_velocities_by_matrices(folder):
    source = NuscenesFolder(folder)
    for step in range(3):
        labels = source.labels(2 + step)
        here = np.linalg.inv(pose(step) @ RIGHT_LEFT)
        placed = here @ car_place(step)
        ahead = placed @ [1, 0, 0, 0]
        (row,) = of_class(labels, "car")
        want = [*placed[:3, 3], *CAR, math.atan2(ahead[1], ahead[0])]
        np.testing.assert_allclose(labels.boxes[row], want, atol=1e-5)
        # 3 m and -2 m in half a second, in the world.
        np.testing.assert_allclose(labels.velocities[row], (here @ [6, -4, 0, 0])[:2], atol=1e-5)
        np.testing.assert_allclose(labels.velocities[of_class(labels, "traffic_cone")], 0)
        assert not labels.ignored.any()
        assert labels.visibility is None


def test_a_place_worked_by_hand(tmp_path):
    """The vehicle heads north; 10 m ahead of it, a car heads west."""
    north = at(100, 200, 0, math.pi / 2)
    ahead = at(100, 210, 1, math.pi)
    shot = Shot(START_US, north, things=[Thing("car", "vehicle.car", ahead, CAR)])
    labels = NuscenesFolder(write_nuscenes(tmp_path / "n", {"s": [shot]})).labels(0)
    # The LiDAR is 0.9 m ahead of the vehicle's origin, 0.1 m to its left and 1.8 m above; ahead
    # is y, left is -x.
    np.testing.assert_allclose(labels.boxes, [[0.1, 9.1, -0.8, *CAR, math.pi]], atol=1e-5)
    # A single annotation tells no velocity.
    assert np.isnan(labels.velocities).all()


def test_categories_become_the_ten_classes(folder):
    labels = NuscenesFolder(folder).labels(0)
    names = [CLASS_NAMES[label] for label in labels.labels]
    # Neither the animal, nor the truck without a point; a point of a radar is enough.
    assert names == ["car", "traffic_cone", "truck"]
    np.testing.assert_allclose(labels.boxes[2, 3:6], [8, 2, 3])
    assert len(CLASS_NAMES) == 10
    assert len(CATEGORIES) == 14


ANGLES = st.floats(-3.1, 3.1)
TILTS = st.floats(-0.5, 0.5)
PLACES = st.floats(-2000, 2000)


@settings(max_examples=25, deadline=None)
@given(
    st.tuples(PLACES, PLACES, st.floats(-5, 5), ANGLES, TILTS, TILTS),
    st.tuples(st.floats(-3, 3), st.floats(-1, 1), st.floats(0, 3), ANGLES, TILTS, ANGLES),
    st.lists(
        st.tuples(*[st.floats(-60, 60)] * 2, st.floats(-4, 4), *[st.floats(0.1, 15)] * 3, ANGLES),
        max_size=4,
    ),
)
def test_boxes_of_the_lidars_frame_come_back(vehicle, sensor, boxes):
    mounting = at(*sensor)
    shot = Shot(START_US, at(*vehicle))
    things = [boxed(shot, mounting, box, name=f"{number}") for number, box in enumerate(boxes)]
    with tempfile.TemporaryDirectory() as temporary:
        shots = {"s": [Shot(START_US, shot.pose, things=things)]}
        source = NuscenesFolder(write_nuscenes(Path(temporary) / "n", shots, mounting))
        have = source.labels(0).boxes
        origin = source.scope(0).origin
    assert len(have) == len(boxes)
    if boxes:
        want = np.array(boxes)
        np.testing.assert_allclose(have[:, :6], want[:, :6], atol=1e-4)
        np.testing.assert_allclose(np.cos(have[:, 6] - want[:, 6]), 1, atol=1e-6)
    np.testing.assert_allclose(origin, np.linalg.inv(mounting)[:2, 3], atol=1e-9)


@pytest.mark.parametrize(
    ("stamps", "speeds"),
    [
        # In seconds; the object moves by 1 m a sample.
        ((0, 0.5, 1.0), (2, 2, 2)),
        ((0, 1.5, 3.0), (1 / 1.5, 1 / 1.5, 1 / 1.5)),
        # Twice the time where there are two neighbours.
        ((0, 1.6, 2.6), (np.nan, 2 / 2.6, 1)),
        ((0, 2.0, 3.2), (np.nan, np.nan, 1 / 1.2)),
        ((0,), (np.nan,)),
    ],
)
def test_velocities_are_known_over_short_times(tmp_path, stamps, speeds):
    shots = [
        Shot(
            START_US + round(stamp * 1e6),
            np.eye(4),
            things=[Thing("one", "vehicle.car", at(number, 0, 0), CAR)],
        )
        for number, stamp in enumerate(stamps)
    ]
    source = NuscenesFolder(write_nuscenes(tmp_path / "n", {"s": shots}))
    have = np.array([source.labels(index).velocities[0] for index in range(len(stamps))])
    # The world's x axis is the LiDAR's y axis.
    np.testing.assert_allclose(have[:, 1], speeds, rtol=1e-6)
    np.testing.assert_allclose(have[:, 0][~np.isnan(speeds)], 0, atol=1e-6)


def test_an_object_without_points_still_tells_its_neighbours_velocity(tmp_path):
    shots = [
        Shot(
            START_US + number * STEP_US,
            np.eye(4),
            things=[Thing("one", "vehicle.car", at(number, 0, 0), CAR, lidar=number)],
        )
        for number in range(2)
    ]
    source = NuscenesFolder(write_nuscenes(tmp_path / "n", {"s": shots}))
    assert len(source.labels(0)) == 0
    np.testing.assert_allclose(source.labels(1).velocities, [[0, 2]], atol=1e-6)


def test_bicycles_in_racks_are_ignored(tmp_path):
    shot = Shot(START_US, at(10, 20, 0, 0.3))
    rack = (5.0, 8.0, -1.0, 6.0, 1.0, 1.5, 0.5)
    along, aside = at(*rack[:3], 0.5) @ [2.9, 0.4, 0.5, 1], at(*rack[:3], 0.5) @ [2.9, 0.6, 0, 1]
    bicycle = {"category": "vehicle.bicycle"}
    places = [
        (rack, {"category": "static_object.bicycle_rack"}),
        ((*along[:3], 1.7, 0.6, 1.2, 0), bicycle),
        ((*aside[:3], 1.7, 0.6, 1.2, 0), bicycle),
        ((5.0, 8.0, -1.0, 0.5, 0.5, 1.6, 0), {"category": "human.pedestrian.child"}),
    ]
    things = [
        boxed(shot, RIGHT_LEFT, box, **more, name=str(i)) for i, (box, more) in enumerate(places)
    ]
    shots = [Shot(START_US, shot.pose, things=things)]
    source = NuscenesFolder(write_nuscenes(tmp_path / "n", {"s": shots}))
    labels = source.labels(0)
    assert [CLASS_NAMES[label] for label in labels.labels] == ["bicycle", "bicycle", "pedestrian"]
    assert labels.ignored.tolist() == [True, False, False]
    np.testing.assert_allclose(source.scope(0).racks, [rack], atol=1e-6)


def test_scenes_are_taken_by_a_list(folder, tmp_path):
    (tmp_path / "val.txt").write_text("scene-0002\n")
    config = {"type": "nuscenes", "path": "sets", "split": "val.txt", "version": VERSION}
    source = open_source(config, tmp_path, CLOUDS)
    assert len(source) == 3
    for text, words in (
        ("scene-9", "names scenes that .* does not have: scene-9"),
        ("", "no scene"),
    ):
        (tmp_path / "val.txt").write_text(text)
        with pytest.raises(DataError, match=words):
            open_source(config, tmp_path, CLOUDS)


def test_the_sweeps_before_a_key_frame_are_known(folder):
    tables = read_tables(folder / VERSION, "LIDAR_TOP", tuple(CATEGORIES), None, any_sweep)
    newest = tables.sweeps[tables.key_frames()[-1]]
    names = [(sweep.sample, Path(sweep.file).parts[0]) for sweep in tables.sweeps.before(newest)]
    assert names == [
        ("scene-0002 2", "sweeps"),
        ("scene-0002 1", "samples"),
        ("scene-0002 1", "sweeps"),
        ("scene-0002 0", "samples"),
        ("scene-0002 0", "sweeps"),
    ]
    # Where single sweeps are wanted, the others are not kept.
    tables = read_tables(folder / VERSION, "LIDAR_TOP", tuple(CATEGORIES), None, key_frame)
    assert sorted(tables.key_frames()) == list(range(5))


def test_a_task_that_takes_images_is_refused(folder):
    with pytest.raises(ConfigError, match="'nuscenes' has point clouds, the task takes images"):
        open_source({"type": "nuscenes", "path": "sets"}, folder.parent, IMAGES)


def test_turns_are_those_of_the_right_hand():
    """Of the helper: x to y about z, y to z about x, z to x about y."""
    for axis, (first, second) in {2: (0, 1), 0: (1, 2), 1: (2, 0)}.items():
        np.testing.assert_allclose(
            turn(axis, math.pi / 2) @ np.eye(4)[first], np.eye(4)[second], atol=1e-12
        )
