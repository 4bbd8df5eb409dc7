# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""nuScenes' clouds with the sweeps before them: as matrices say, and as the node makes them."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from helpers_nuscenes import (
    BEFORE_US,
    RIGHT_LEFT,
    START_US,
    STEP_US,
    VERSION,
    Shot,
    at,
    change,
    drive,
    quaternion,
    write_nuscenes,
)
from helpers_sweeps import TASK, age_detector
from hypothesis import given, settings
from hypothesis import strategies as st

from av_compress.build.recipe import load_recipe
from av_compress.build.samples import open_samples
from av_compress.cli.main import main
from av_compress.data.base import ScopedSource
from av_compress.data.nuscenes import CHANNEL, NuscenesFolder
from av_compress.data.nuscenes_sweeps import NuscenesSweeps
from av_compress.data.sources import open_source
from av_compress.data.sweeps import SweepMerger
from av_compress.data.transforms import Transform, Transforms
from av_compress.errors import DataError, FrameError
from av_compress.tasks.base import PointCloud, Sweeps
from av_compress.tasks.registry import make_task

NEEDS = make_task(TASK).frame_needs
SCENES = {"scene-0002": drive(4), "scene-0001": drive(2)}


@dataclass(frozen=True)
class Seen:
    """A sweep as it was written: its place in the world, [4, 4]."""

    stamp_us: int
    place: np.ndarray
    points: np.ndarray
    is_key: bool


def seen(shots: Sequence[Shot], mounting: np.ndarray) -> list[Seen]:
    """Return a scene's sweeps in the order of time."""
    found = []
    for shot in shots:
        pose, points = shot.before
        found.append(Seen(shot.stamp_us - BEFORE_US, pose @ mounting, points, False))
        found.append(Seen(shot.stamp_us + 1000, shot.pose @ mounting, shot.points, True))
    return found


def expected(sweeps: Sequence[Seen], index: int, count: int) -> np.ndarray:
    """Bring the sweeps before one to it, in double precision: float64 [n, 5]."""
    here, rows = sweeps[index], []
    for one in reversed(sweeps[max(0, index - count + 1) : index + 1]):
        places = np.c_[one.points[:, :3].astype(np.float64), np.ones(len(one.points))]
        moved = (np.linalg.inv(here.place) @ one.place @ places.T).T[:, :3]
        age = np.full(len(moved), (here.stamp_us - one.stamp_us) / 1e6)
        rows.append(np.c_[moved, one.points[:, 3], age])
    return np.concatenate(rows)


def streamed(shots: Sequence[Shot], mounting: np.ndarray, sweeps: Sweeps) -> list[PointCloud]:
    """Return what a node makes of a scene's sweeps, one after the other; of key frames only.

    It is told the vehicle's pose and the mounting.
    """
    transforms = Transforms()
    transforms.add_static("base", CHANNEL, transform(mounting))
    merger, made = SweepMerger(sweeps, transforms), []
    for shot in shots:
        pose, points = shot.before
        for stamp_us, place, held, is_key in (
            (shot.stamp_us - BEFORE_US, pose, points, False),
            (shot.stamp_us + 1000, shot.pose, shot.points, True),
        ):
            transforms.add("odom", "base", stamp_us * 1000, transform(place))
            cloud = PointCloud(held[:, :4].copy(), stamp_us * 1000, CHANNEL)
            merged = merger.merge(cloud).cloud
            if is_key:
                made.append(merged)
    return made


def transform(matrix: np.ndarray) -> Transform:
    w, x, y, z = quaternion(matrix)
    return Transform.of(matrix[:3, 3], (x, y, z, w))


def opened(folder: Path, sweeps: Sweeps, split: Path | None = None) -> NuscenesSweeps:
    return NuscenesSweeps(folder, None, split, CHANNEL, sweeps)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_nuscenes(tmp_path / "sets", SCENES)


@pytest.mark.parametrize("count", [2, 3, 4, 8])
def test_sweeps_stand_where_matrices_in_double_precision_put_them(folder, count):
    source = opened(folder, Sweeps(count, 10.0))
    assert source.description == f"nuscenes sets/{VERSION}, {count} sweeps brought together"
    wanted = [
        expected(sweeps, index, count)
        for name in sorted(SCENES)
        for sweeps in [seen(SCENES[name], RIGHT_LEFT)]
        for index in range(1, len(sweeps), 2)
    ]
    assert len(source) == len(wanted) == 6
    for index in (*range(6), 3, 0):
        cloud = source.read(index)
        assert cloud.points.dtype == np.float32
        np.testing.assert_allclose(cloud.points[:, :3], wanted[index][:, :3], atol=1e-4)
        np.testing.assert_array_equal(cloud.points[:, 3], wanted[index][:, 3].astype(np.float32))
        np.testing.assert_allclose(cloud.points[:, 4], wanted[index][:, 4], atol=1e-7)
        assert (cloud.key, cloud.frame_id) == (source.key(index), CHANNEL)
    # The vehicle's motion is no trifle here: without it, points would lie elsewhere.
    first = len(SCENES["scene-0001"][1].points)
    still = SCENES["scene-0001"][1].before[1][:, :3]
    assert np.abs(source.read(1).points[first : first + len(still), :3] - still).max() > 1


def test_a_scene_begins_anew(folder):
    source = opened(folder, Sweeps(4))
    counts = [len(np.unique(source.read(index).points[:, 4])) for index in range(6)]
    # Each scene's first key frame has one sweep before it; then one is 0.551 s old, another 0.5 s.
    assert counts == [2, 4, 2, 4, 4, 4]


def test_labels_and_scope_are_those_of_the_newest(folder):
    source, single = opened(folder, Sweeps(3)), NuscenesFolder(folder)
    assert isinstance(source, ScopedSource)
    for index in range(6):
        have, want = source.labels(index), single.labels(index)
        for one, other in zip(vars(have).values(), vars(want).values(), strict=True):
            np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(source.scope(index).origin, single.scope(index).origin)
        newest, alone = source.read(index), single.read(index)
        assert (newest.stamp_ns, newest.key) == (alone.stamp_ns, alone.key)
        part = newest.points[: len(alone)]
        np.testing.assert_array_equal(part, np.c_[alone.points, np.zeros(len(alone))])


@pytest.mark.parametrize("sweeps", [Sweeps(2), Sweeps(3), Sweeps(4, 0.4), Sweeps(32, 60.0)])
def test_the_node_makes_the_same_bits_of_the_same_sweeps(folder, sweeps):
    source = opened(folder, sweeps)
    made = [
        cloud for name in sorted(SCENES) for cloud in streamed(SCENES[name], RIGHT_LEFT, sweeps)
    ]
    for index, want in enumerate(made):
        have = source.read(index)
        assert (have.stamp_ns, have.frame_id) == (want.stamp_ns, want.frame_id)
        np.testing.assert_array_equal(have.points, want.points)


PLACES = st.tuples(
    *[st.floats(-3000, 3000)] * 2,
    st.floats(-5, 5),
    st.floats(-3.1, 3.1),
    *[st.floats(-0.5, 0.5)] * 2,
)
MOUNTS = st.tuples(*[st.floats(-3, 3)] * 3, *[st.floats(-3.1, 3.1)] * 3)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(PLACES, PLACES), min_size=1, max_size=4), MOUNTS, st.integers(2, 9))
def test_any_drive_and_mounting(poses, mount, count):
    rng = np.random.default_rng(len(poses))

    def points() -> np.ndarray:
        return rng.uniform(-60, 60, (rng.integers(1, 9), 5)).astype(np.float32)

    shots = [
        Shot(START_US + n * STEP_US, at(*last), points(), before=(at(*first), points()))
        for n, (first, last) in enumerate(poses)
    ]
    mounting, sweeps = at(*mount), Sweeps(count, 10.0)
    with tempfile.TemporaryDirectory() as temporary:
        source = opened(write_nuscenes(Path(temporary) / "n", {"s": shots}, mounting), sweeps)
        made = [source.read(index).points for index in range(len(shots))]
    streams = streamed(shots, mounting, sweeps)
    for index, (have, want) in enumerate(zip(made, streams, strict=True)):
        np.testing.assert_array_equal(have, want.points)
        exact = expected(seen(shots, mounting), 2 * index + 1, count)
        # Thousands of metres apart, float32 holds a few tenths of a millimetre.
        np.testing.assert_allclose(have, exact, atol=3e-3)


def test_a_sensor_that_was_mounted_anew(folder):
    moved = at(0.5, -0.2, 2.0, 0.4)
    path = folder / VERSION / "calibrated_sensor.json"
    rows = json.loads(path.read_text())
    row = {
        "token": "lidar moved",
        "sensor_token": "lidar",
        "translation": moved[:3, 3].tolist(),
        "rotation": quaternion(moved),
    }
    path.write_text(json.dumps([*rows, row]))
    token = "scene-0001 1 lidar sweep"
    change(folder, "sample_data", token, calibrated_sensor_token="lidar moved")
    sweeps = seen(SCENES["scene-0001"], RIGHT_LEFT)
    sweeps[2] = replace(sweeps[2], place=SCENES["scene-0001"][1].before[0] @ moved)
    have = opened(folder, Sweeps(3)).read(1).points
    np.testing.assert_allclose(have, expected(sweeps, 3, 3), atol=1e-4)


def test_older_sweeps_are_left_out_and_a_gap_begins_anew(folder):
    # 51 ms lie between a key frame and the sweep before it, 449 ms between that and the last key.
    for age_s, counts in (
        (0.0505, None),
        (0.0515, [2] * 6),
        (0.4995, [2] * 6),
        (0.5005, [2, 3, 2, 3, 3, 3]),
        (0.5515, [2, 4, 2, 4, 4, 4]),
    ):
        if counts is None:
            with pytest.raises(DataError, match=r"none of its 6 clouds follows .* wants 9 sweeps"):
                opened(folder, Sweeps(9, age_s))
            continue
        source = opened(folder, Sweeps(9, age_s))
        assert [len(np.unique(source.read(i).points[:, 4])) for i in range(6)] == counts
    # From 0.551 s to 1.001 s old, every sweep follows the next within 0.45 s.
    source = opened(folder, Sweeps(32, 60.0))
    assert [len(np.unique(source.read(i).points[:, 4])) for i in range(6)] == [2, 4, 2, 4, 6, 8]


def test_key_frames_alone_are_brought_together_where_a_folder_has_no_others(folder):
    path = folder / VERSION / "sample_data.json"
    rows = [row for row in json.loads(path.read_text()) if row["token"].endswith("lidar key")]
    for row in rows:
        earlier = row["token"].split()
        earlier = f"{earlier[0]} {int(earlier[1]) - 1} lidar key"
        row["prev"] = earlier if earlier in {one["token"] for one in rows} else ""
    path.write_text(json.dumps(rows))
    source = opened(folder, Sweeps(3, 1.1))
    for index, step in enumerate((0, 1, 0, 1, 2, 3)):
        name = "scene-0001" if index < 2 else "scene-0002"
        keys = [one for one in seen(SCENES[name], RIGHT_LEFT) if one.is_key]
        wanted = expected(keys, step, 3)
        np.testing.assert_allclose(source.read(index).points, wanted, atol=1e-4)
    for row in rows:
        row["prev"] = ""
    path.write_text(json.dumps(rows))
    with pytest.raises(
        DataError, match=r"none of its 6 clouds follows another sweep within 1.1 s"
    ):
        opened(folder, Sweeps(3, 1.1))


def test_a_missing_sweep_is_named_with_what_the_task_wants(folder, tmp_path):
    source = opened(folder, Sweeps(3))
    for number in (1, 3):
        (folder / f"sweeps/LIDAR_TOP/scene-0002-{number}.pcd.bin").unlink()
    # Each of three: the unlabelled one, and the key frame before, if any.
    with pytest.raises(DataError) as caught:
        opened(folder, Sweeps(3))
    assert str(caught.value) == (
        f"{folder}: 2 of 10 sweeps, of which the task brings 3 together "
        "(task.input.sweeps.count), are not there: sweeps/LIDAR_TOP/scene-0002-1.pcd.bin, "
        "sweeps/LIDAR_TOP/scene-0002-3.pcd.bin; a split can name the scenes that are"
    )
    # A file that goes away later.
    with pytest.raises(DataError, match=r"0002-1.pcd.bin cannot be read: No such file"):
        source.read(3)
    (tmp_path / "val.txt").write_text("scene-0001\n")
    assert len(opened(folder, Sweeps(3), tmp_path / "val.txt")) == 2
    # A task of single sweeps needs none of them.
    assert len(NuscenesFolder(folder)) == 6


def test_a_damaged_sweep_is_named(folder):
    (folder / "sweeps/LIDAR_TOP/scene-0002-1.pcd.bin").write_bytes(b"\0" * 21)
    source = opened(folder, Sweeps(2))
    with pytest.raises(FrameError, match=r"sweeps/.*0002-1.pcd.bin is damaged: 21 bytes"):
        source.read(3)
    assert len(np.unique(source.read(4).points[:, 4])) == 2


@pytest.mark.parametrize(
    ("previous", "words"), [("gone", "'gone', is not in"), ("scene-0002 2 lidar key", "not older")]
)
def test_a_broken_order_of_sweeps_is_told_when_the_folder_is_opened(folder, previous, words):
    change(folder, "sample_data", "scene-0002 2 lidar sweep", prev=previous)
    with pytest.raises(DataError, match=rf"the sweep before sweeps/LIDAR_TOP/.*{words}"):
        opened(folder, Sweeps(3))
    # It is not asked for the sweep before that one.
    assert len(opened(folder, Sweeps(2))) == 6


def test_configuration_brings_source_and_task_together(folder, tmp_path):
    (tmp_path / "val.txt").write_text("scene-0002\n")
    config = {"type": "nuscenes", "path": "sets", "split": "val.txt", "version": VERSION}
    source = open_source({**config, "channel": CHANNEL}, tmp_path, NEEDS)
    wanted = opened(folder, NEEDS.sweeps, tmp_path / "val.txt")
    assert len(source) == len(wanted) == 4
    for index in range(4):
        np.testing.assert_array_equal(source.read(index).points, wanted.read(index).points)
    single = open_source(config, tmp_path, replace(NEEDS, sweeps=Sweeps()))
    np.testing.assert_array_equal(single.read(1).points[:, 4], 0)


def test_a_build_calibrates_on_sweeps_and_motion(folder, tmp_path):
    (tmp_path / "ages.onnx").write_bytes(age_detector())
    calibration = {"source": {"type": "nuscenes", "path": "sets"}, "samples": 3}
    content = {"model": "ages.onnx", "task": TASK, "calibration": calibration, "gate": None}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(content))
    source = opened(folder, NEEDS.sweeps)
    with ExitStack() as stack:
        recipe = load_recipe(tmp_path / "recipe.yaml")
        samples = open_samples(recipe, NEEDS, stack).calibration
        assert samples.source.description == source.description
        for index, frame in zip(samples.indices, samples.frames("test"), strict=True):
            np.testing.assert_array_equal(frame.points, source.read(index).points)


def test_a_model_of_three_sweeps_is_evaluated(tmp_path, capsys):
    """It finds a cell for each point of an earlier sweep, whose score is the oldest one's age."""
    shots = [
        replace(shot, points=_near(n), before=(shot.before[0], _near(n + 9)))
        for n, shot in enumerate(drive(3))
    ]
    folder = write_nuscenes(tmp_path / "sets", {"scene-0001": shots})
    (tmp_path / "ages.onnx").write_bytes(age_detector())
    task = {**TASK, "class_names": ["car"], "score_threshold": 0.04}
    (tmp_path / "task.yaml").write_text(yaml.safe_dump(task))
    out = tmp_path / "figures.json"
    command = ["evaluate", "--model", tmp_path / "ages.onnx", "--task", tmp_path / "task.yaml"]
    command += ["--data", folder, "--json", out]
    assert main(list(map(str, command))) == 0
    cells = 0
    sweeps = seen(shots, RIGHT_LEFT)
    for index in (1, 3, 5):
        points = expected(sweeps, index, 3)
        inside = (np.abs(points[:, :2]) < 32).all(1) & (np.abs(points[:, 2]) < 4)
        old = inside & (points[:, 4] > 0)
        cells += len(np.unique(np.floor(points[old, :2]), axis=0))
    assert cells > 20
    assert capsys.readouterr().out.splitlines()[-1] == f"3 point clouds, {cells} detections"
    content = json.loads(out.read_text())
    assert content["model"]["task"]["input"]["sweeps"]["count"] == 3
    assert content["nuscenes"]["per_class"]["car"]["truths"] == 3
    (folder / "sweeps/LIDAR_TOP/scene-0001-2.pcd.bin").unlink()
    assert main(list(map(str, command))) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()[-1:]
    assert line.startswith("av-compress evaluate: error:")
    assert "1 of 5 sweeps, of which the task brings 3 together" in line


def _near(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.uniform([-20, -20, -1, 0, 0], [20, 20, 1, 255, 31], (9, 5)).astype(np.float32)
