# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Clouds of bags with the sweeps before them: as the node makes them, and as matrices say."""

from __future__ import annotations

import warnings
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from helpers_lidar_world import write_kitti
from helpers_sweeps import (
    MOUNT,
    ODOMETRY,
    POINTS,
    TASK,
    age_detector,
    lidar,
    matrix,
    messages,
    points,
    pose,
    stamp,
    streamed,
    write_age_bundle,
    write_cloud,
    write_drive,
    write_odometry,
    write_tf,
)

from av_compress.build.recipe import load_recipe
from av_compress.build.samples import open_samples
from av_compress.cli.main import main
from av_compress.data.bag_clouds import CloudSource
from av_compress.data.bag_motion import MotionOptions
from av_compress.data.bag_sources import bring_together
from av_compress.data.bag_writer import BagWriter
from av_compress.data.bags import BagClouds
from av_compress.data.content import content_sha256
from av_compress.data.points import PointOptions
from av_compress.data.sources import open_source
from av_compress.errors import ConfigError, DataError, DataWarning, FrameError
from av_compress.tasks.base import IMAGES, Sweeps
from av_compress.tasks.registry import make_task

NEEDS = make_task(TASK).frame_needs
# 2.5 Hz, for longer than a node remembers transforms.
DRIVE = [round(0.4 * n, 1) for n in range(35)]


def opened(path: Path, sweeps: Sweeps | None = None, **motion: str) -> CloudSource:
    clouds = BagClouds(path, None, PointOptions())
    return bring_together(path, [clouds], sweeps or Sweeps(3), MotionOptions(**motion))


@pytest.fixture(scope="module", params=["tf.mcap", "odometry.db3", "odometry"])
def drive(request, tmp_path_factory) -> tuple[Path, dict[str, str]]:
    odometry = request.param.startswith("odometry")
    path = tmp_path_factory.mktemp("drive") / request.param
    write_drive(path, DRIVE, odometry=odometry)
    return path, {"odometry": ODOMETRY} if odometry else {}


@pytest.mark.parametrize("sweeps", [Sweeps(2), Sweeps(4, 0.9), Sweeps(32, 10.0)])
def test_any_order_gives_what_the_node_makes_of_the_messages(drive, sweeps: Sweeps):
    path, motion = drive
    made = streamed(path, sweeps)
    assert len(made) == len(DRIVE)
    random = np.random.default_rng(0).permutation(len(DRIVE))[:12]
    with closing(opened(path, sweeps, **motion)) as source:
        for index in (*range(len(DRIVE)), *range(0, len(DRIVE), 5), *random, 7, 7):
            cloud = source.read(index)
            np.testing.assert_array_equal(cloud.points, made[index].points)
            assert (cloud.stamp_ns, cloud.frame_id) == (stamp(DRIVE[index]), "lidar")
            assert cloud.key == source.key(index) == f"{POINTS}#{index}"


def test_sweeps_stand_where_matrices_in_double_precision_put_them(drive):
    path, motion = drive
    source = opened(path, Sweeps(3), **motion)
    for index in (0, 1, 2, 20, 34):
        read = source.read(index).points
        begin = 0
        for earlier in range(index, max(index - 3, -1), -1):
            held = points(earlier)
            part = read[begin : begin + len(held)]
            begin += len(held)
            places = np.stack([held[name] for name in "xyz"] + [np.ones(len(held))])
            moved = np.linalg.inv(lidar(DRIVE[index])) @ lidar(DRIVE[earlier]) @ places
            np.testing.assert_allclose(part[:, :3], moved[:3].T, atol=1e-5)
            np.testing.assert_array_equal(part[:, 3], held["intensity"])
            np.testing.assert_allclose(part[:, 4], 0.4 * (index - earlier), atol=1e-6)
        assert begin == len(read)
    source.close()
    with pytest.raises(DataError, match="is closed"):
        source.read(0)


def test_only_as_many_clouds_are_held_as_are_brought_together(tmp_path: Path):
    path = write_drive(tmp_path / "bag", DRIVE)
    decoded: list[int] = []

    class Counted(BagClouds):
        def _decode(self, index, message):
            decoded.append(index)
            return super()._decode(index, message)

    clouds = Counted(path, None, PointOptions())
    source = bring_together(path, [clouds], Sweeps(3), MotionOptions())
    assert decoded == []
    for index in range(len(source)):
        source.read(index)
        assert len(source._held) <= 3
    assert decoded == list(range(len(source)))
    decoded.clear()
    for index in (10, 20, 21):
        source.read(index)
    assert decoded == [8, 9, 10, 18, 19, 20, 21]
    source.close()
    assert not source._held
    for index in (-1, len(source)):
        with pytest.raises(IndexError):
            source.read(index)


def test_what_a_node_leaves_out_is_left_out(tmp_path: Path):
    """Damaged clouds, a gap, a jump of the clock, another frame."""
    # The gap comes before 2.8; then the clock goes back.
    seconds = [0.4, 0.8, 1.2, 1.6, 2.8, 3.2, 2.0, 2.4, 2.6, 2.8]

    def cloud(writer: BagWriter, index: int, second: float) -> None:
        if index == 2:
            writer.write_cloud(POINTS, points(2)[["x", "y"]].copy(), stamp(second), "lidar")
        elif index == 8:
            writer.write_cloud(POINTS, points(8), stamp(second), "base")
        else:
            write_cloud(writer, index, second)

    moving = [n / 10 for n in range(40)]
    path = write_drive(tmp_path / "bag", seconds, moving, cloud=cloud)
    made = streamed(path, Sweeps(3))
    with closing(opened(path, Sweeps(3))) as source:
        counts = {}
        for index in (9, *range(10), 3, 4):
            if index == 2:
                with pytest.raises(FrameError, match="lacks the fields z"):
                    source.read(index)
                continue
            read = source.read(index).points
            counts[index] = len(np.unique(read[:, 4]))
            np.testing.assert_array_equal(read, made[index].points)
    # Of the fourth, the second is young enough, the first no more.
    assert made[2] is None
    assert counts == {0: 1, 1: 2, 3: 2, 4: 1, 5: 2, 6: 1, 7: 2, 8: 1, 9: 1}


def test_times_without_motion_are_told_once_with_their_number(tmp_path: Path):
    # Motion is known from 2.0 on.
    path = write_drive(tmp_path / "bag", DRIVE[:10], [2 + n / 10 for n in range(20)])
    with pytest.warns(DataWarning) as told:
        source = opened(path, Sweeps(3))
    (warning,) = told
    # The first cloud has none before it; those at 2.0 and 2.4 lack two and one.
    assert str(warning.message) == (
        f"bag bag, topic {POINTS}: 6 of 10 clouds are brought together with fewer sweeps than "
        f"could be (5 with none): no ego motion at the times of 5 of them, the first of which is "
        f"{POINTS}#0: odom <- base is known from 2.000 s after that time on only"
    )
    with closing(source), warnings.catch_warnings():
        warnings.simplefilter("error")
        counts = [len(np.unique(source.read(index).points[:, 4])) for index in range(10)]
    assert counts == [1, 1, 1, 1, 1, 1, 2, 3, 3, 3]
    made = [len(np.unique(one.points[:, 4])) for one in streamed(path, Sweeps(3))]
    assert made == counts


def test_a_bag_without_motion_is_refused_with_what_to_record(tmp_path: Path):
    path = write_drive(tmp_path / "bag", DRIVE[:4], odometry=True)
    with pytest.raises(DataError) as caught:
        opened(path)
    for words in (
        "the model wants 3 together (task.input.sweeps.count)",
        "no ego motion from 'odom' (source.fixed_frame): no transform connects 'lidar' with",
        "record /tf and /tf_static",
        f"the bag has odometry on {ODOMETRY}",
    ):
        assert words in str(caught.value)
    with pytest.raises(DataError, match=rf"no messages of type nav_msgs/Odometry on {POINTS}"):
        opened(path, odometry=POINTS)
    with pytest.raises(
        DataError, match=r"no ego motion from 'map' \(source\.fixed_frame\)"
    ) as caught:
        opened(path, odometry=ODOMETRY, fixed_frame="map")
    assert "has odometry" not in str(caught.value)
    opened(path, odometry=ODOMETRY).close()
    for seconds in ([0.0], [0.0, 1.5, 3.0]):
        alone = write_drive(tmp_path / f"bag{len(seconds)}", seconds)
        with pytest.raises(DataError, match=r"none of its \d clouds follows another within 1 s"):
            opened(alone)


def test_broken_motion_is_left_out_and_told(tmp_path: Path):
    path = tmp_path / "bag"
    with BagWriter(path) as writer:
        write_tf(writer, "/tf_static", "base", "lidar", MOUNT, 0.0)
        write_tf(writer, "/tf", "odom", "base", (np.nan, 0, 0, 0), 0.05)
        for index, second in enumerate((0.0, 0.4)):
            write_tf(writer, "/tf", "odom", "base", pose(second), second)
            write_cloud(writer, index, second)
    with pytest.warns(DataWarning, match=r"1 transforms are left out, the first since .*is none"):
        source = opened(path)
    assert len(np.unique(source.read(1).points[:, 4])) == 2
    source.close()


def test_the_vehicles_own_frame_may_be_the_clouds(tmp_path: Path):
    path = tmp_path / "bag"
    with BagWriter(path) as writer:
        for index, second in enumerate((0.0, 0.4)):
            write_odometry(writer, second)
            writer.write_cloud(POINTS, points(index), stamp(second), "base")
    source = opened(path, odometry=ODOMETRY)
    read = source.read(1).points[len(points(1)) :]
    moved = np.linalg.inv(matrix(pose(0.4))) @ matrix(pose(0.0))
    places = np.stack([points(0)[name] for name in "xyz"] + [np.ones(len(points(0)))])
    np.testing.assert_allclose(read[:, :3], (moved @ places)[:3].T, atol=1e-5)
    source.close()


def recipe(folder: Path, source: dict) -> Path:
    (folder / "ages.onnx").write_bytes(age_detector())
    calibration = {"source": source, "samples": 4}
    content = {"model": "ages.onnx", "task": TASK, "calibration": calibration, "gate": None}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(content))
    return folder / "recipe.yaml"


def test_a_build_calibrates_on_what_is_served(tmp_path: Path):
    path = write_drive(tmp_path / "bag", DRIVE[:12], odometry=True)
    made = streamed(path, NEEDS.sweeps)
    source = {"type": "bag", "path": "bag", "odometry": ODOMETRY, "fixed_frame": "odom"}
    with ExitStack() as stack:
        samples = open_samples(load_recipe(recipe(tmp_path, source)), NEEDS, stack).calibration
        assert samples.source.description.endswith("3 sweeps brought together")
        frames = list(samples.frames("test"))
        assert len(frames) == 4
        for index, frame, digest in zip(samples.indices, frames, samples.hashes):
            np.testing.assert_array_equal(frame.points, made[index].points)
            assert digest == content_sha256(frame)


def test_a_build_on_a_bag_without_motion_ends_in_one_line(tmp_path: Path, capsys):
    write_drive(tmp_path / "bag", DRIVE[:4], odometry=True)
    path = recipe(tmp_path, {"type": "bag", "path": "bag"})
    assert main(["build", str(path), "--output", str(tmp_path / "made")]) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("av-compress build: error: bag bag")
    assert "record /tf and /tf_static" in line
    assert not (tmp_path / "made").exists()


def test_a_replay_sees_what_the_node_sees(tmp_path: Path, capsys):
    path = write_drive(tmp_path / "bag", DRIVE[:8], [n / 10 for n in range(4, 40)], odometry=True)
    bundle = write_age_bundle(tmp_path / "bundle")
    command = ["replay", str(path), "--bundle", str(bundle), "--output", str(tmp_path / "out")]
    assert main([*command, "--odometry", ODOMETRY]) == 0
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 1
    assert told[0].startswith("av-compress replay: warning: bag bag")
    assert (
        "2 of 8 clouds are brought together with fewer sweeps than could be (1 with none)"
        in (told[0])
    )
    found = [one for topic, one in messages(tmp_path / "out") if topic == f"{POINTS}/detections"]
    for one, cloud in zip(found, streamed(path, NEEDS.sweeps), strict=True):
        # What the model sees: cells with points of earlier sweeps, by the oldest in each.
        oldest: dict[tuple[float, float], float] = {}
        inside = (np.abs(cloud.points[:, :2]) < 32).all(1) & (np.abs(cloud.points[:, 2]) < 4)
        for x, y, _, _, age in cloud.points[inside]:
            cell = (np.floor(x) + 0.5, np.floor(y) + 0.5)
            oldest[cell] = max(oldest.get(cell, 0.0), age)
        scores = {}
        for hit in one.detections:
            at = hit.bbox.center.position
            scores[at.x, at.y] = hit.results[0].hypothesis.score
        assert scores == pytest.approx({cell: age for cell, age in oldest.items() if age > 0})
    assert [len(one.detections) > 0 for one in found] == [False, False] + [True] * 6
    assert main([*command[:4], "--fixed-frame", "map", "--odometry", ODOMETRY]) == 1
    assert "no ego motion from 'map' (--fixed-frame)" in capsys.readouterr().err


def test_motion_for_a_model_of_single_sweeps_is_refused(tmp_path: Path):
    path = write_drive(tmp_path / "bag", DRIVE[:2])
    single = replace(NEEDS, sweeps=Sweeps())
    config = {"type": "bag", "path": str(path), "fixed_frame": "odom"}
    with pytest.raises(ConfigError, match=r"source\.fixed_frame: goes with .* several sweeps"):
        open_source(config, Path(), single)
    images = {"type": "bag", "path": str(path), "odometry": ODOMETRY}
    with pytest.raises(ConfigError, match=r"source\.odometry: .* the task takes images$"):
        open_source(images, Path(), IMAGES)


@pytest.mark.parametrize("kind", ["kitti", "clouds"])
def test_sources_of_single_sweeps_are_refused(tmp_path: Path, kind: str):
    config = {"type": kind, "path": "."}
    with pytest.raises(ConfigError) as caught:
        open_source(config, tmp_path, NEEDS)
    for words in (f"source.type: '{kind}'", "single sweeps", "brings 3 together", "type: bag"):
        assert words in str(caught.value)


def test_verbs_refuse_what_does_not_go_with_several_sweeps(tmp_path: Path, capsys):
    bundle = write_age_bundle(tmp_path / "bundle")
    write_kitti(tmp_path / "kitti", 1)
    kitti = ["--data", str(tmp_path / "kitti"), "--bundle", str(bundle)]
    assert main(["evaluate", *kitti]) == 2
    assert "'kitti' holds single sweeps" in capsys.readouterr().err
    for option in ("--odometry", "--fixed-frame"):
        assert main(["benchmark", str(bundle), *kitti[:2], option, "/odom"]) == 2
        assert f"{option} goes with a bag (--data BAG)" in capsys.readouterr().err
