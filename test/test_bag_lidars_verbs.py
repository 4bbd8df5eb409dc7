# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Clouds of several LiDARs out of bags, as the command line asks for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers_data import frames
from helpers_lidar_node import write_cell_bundle
from helpers_rig import (
    FRONT,
    REAR,
    SHORT,
    both,
    merged,
    recorded,
    seen,
    write_rig,
)
from helpers_sweeps import (
    KIND,
    ODOMETRY,
    START_NS,
    messages,
    stamp,
    write_age_bundle,
)
from helpers_sweeps import TASK as AGE_TASK
from test_bundle import write_bundle

from av_compress.cli.main import main
from av_compress.data.bag_writer import BagWriter
from av_compress.data.images import stamp_of
from av_compress.data.sweeps import SweepMerger
from av_compress.tasks.registry import make_task

NEEDS = make_task(AGE_TASK).frame_needs


# In the vehicle's frame, in the middles of cells of 1 m.
THINGS = {"front": (8.5, 2.5, 0.0), "rear": (3.5, -4.5, 0.0)}


def write_things(path: Path) -> Path:
    """Write a drive past things that each LiDAR sees one of; both see a third.

    They are where they are at the time of the newest cloud, which is the rear LiDAR's; its fourth
    is lost.
    """

    def cloud(writer: BagWriter, name: str, index: int, second: float) -> None:
        alone = name == "front" and index == 3
        newest = second + 0.03 * (name == "front" and not alone)
        points = np.zeros(126, KIND)
        for place, part in zip((THINGS[name], (12.5, 0.5, 0.0)), np.split(points, 2)):
            part["x"], part["y"], part["z"] = seen(name, place, second, newest)
        writer.write_cloud(f"/{name}/points", points, stamp(second), name)

    rear = [one for one in SHORT["rear"] if one != 0.33]
    return write_rig(path, {"front": SHORT["front"], "rear": rear}, cloud=cloud, odometry=True)


def test_a_replay_detects_in_the_vehicles_frame_what_any_lidar_sees(tmp_path: Path, capsys):
    path = write_things(tmp_path / "bag")
    bundle = write_cell_bundle(tmp_path / "bundle")
    command = ["replay", str(path), "--bundle", str(bundle), "--output", str(tmp_path / "out")]
    command += ["--reference", str(bundle), "--topic", FRONT, "--topic", REAR, "--frame", "base"]
    assert main([*command, "--odometry", ODOMETRY, "--max-apart-s", "0.05"]) == 0
    (told,) = capsys.readouterr().err.strip().splitlines()
    assert told.startswith("av-compress replay: warning: bag bag")
    assert "of 8 clouds 7 hold 2, 1 hold 1 of 2 LiDARs" in told
    found = [one for topic, one in messages(tmp_path / "out") if topic == f"{FRONT}/detections"]
    assert len(found) == 8
    # The recorder writes messages a millisecond apart: the later of two is the rear LiDAR's.
    for index, one in enumerate(found):
        assert one.header.frame_id == "base"
        second = 0.1 * index + (0.0 if index == 3 else 0.03)
        assert stamp_of(one.header) == stamp(second)
        centers = {
            (round(hit.bbox.center.position.x, 4), round(hit.bbox.center.position.y, 4))
            for hit in one.detections
        }
        # The front LiDAR's clouds that are alone see what it sees.
        want = {THINGS["front"][:2], (12.5, 0.5)} | ({THINGS["rear"][:2]} if index != 3 else set())
        assert centers == want
    times = bag_times(tmp_path / "out", f"{FRONT}/detections")
    rears = bag_times(path, REAR)
    assert [one for index, one in enumerate(times) if index != 3] == rears
    assert times[3] == bag_times(path, FRONT)[3]
    assert min(times) > START_NS


def bag_times(path: Path, topic: str) -> list[int]:
    from av_compress.data.ros_types import rosbags

    with rosbags("rosbag2").Reader(path) as reader:
        return [time for one, time, _ in reader.messages() if one.topic == topic]


def test_a_replay_brings_merged_clouds_together_over_time(tmp_path: Path, capsys):
    path = write_rig(tmp_path / "bag", SHORT)
    bundle = write_age_bundle(tmp_path / "bundle")
    command = ["replay", str(path), "--bundle", str(bundle), "--output", str(tmp_path / "out")]
    assert main([*command, "--topic", FRONT, "--topic", REAR, "--frame", "base"]) == 0
    assert capsys.readouterr().err == ""
    _, transforms = recorded(path)
    merger = SweepMerger(NEEDS.sweeps, transforms)
    made = [merger.merge(one).cloud for one in merged(path, *both(8))]
    found = [one for topic, one in messages(tmp_path / "out") if topic == f"{FRONT}/detections"]
    for one, cloud in zip(found, made, strict=True):
        inside = (np.abs(cloud.points[:, :2]) < 32).all(1) & (np.abs(cloud.points[:, 2]) < 4)
        oldest: dict[tuple[float, float], float] = {}
        for x, y, _, _, age in cloud.points[inside]:
            cell = (np.floor(x) + 0.5, np.floor(y) + 0.5)
            oldest[cell] = max(oldest.get(cell, 0.0), age)
        scores = {
            (hit.bbox.center.position.x, hit.bbox.center.position.y): (
                hit.results[0].hypothesis.score
            )
            for hit in one.detections
        }
        assert scores == pytest.approx({cell: age for cell, age in oldest.items() if age > 0.05})


TWO = ["--topic", FRONT, "--topic", REAR]
SEVERAL = "--topic given several times"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (TWO, "error: --frame: is missing: clouds of several topics"),
        ([*TWO, "--frame", ""], 'error: --frame: "" is not allowed; allowed: string at least 1'),
        (["--topic", FRONT, *TWO, "--frame", "base"], f"error: {SEVERAL}: ["),
        (["--topic", "front"], 'error: --topic: "front" is not allowed; allowed: string text'),
        (
            ["--topic", FRONT, "--frame", "base"],
            f"error: --frame: goes with the clouds of several LiDARs ({SEVERAL})",
        ),
        (["--topic", FRONT, "--topic", "/side", "--frame", "base"], "has no topic /side"),
        ([*TWO, "--frame", "base", "--max-apart-s", "nan"], "error: --max-apart-s: NaN is not"),
        (
            [*TWO, "--frame", "base", "--max-apart-s", "1000"],
            "error: --max-apart-s: 1000.0 is not",
        ),
        ([*TWO, "--frame", "base", "--odometry", "odom"], 'error: --odometry: "odom" is not'),
        ([*TWO, "--frame", "map"], f"the place of {FRONT} ('front') in 'map' (--frame) is not"),
        (["--topic", FRONT, "--fixed-frame", "map"], f"of several LiDARs ({SEVERAL}), the task"),
        (
            ["--topic", FRONT, "--time-unit", "m"],
            'error: --time-unit: "m" is not allowed; allowed: ',
        ),
        (
            ["--topic", FRONT, "--clock", "utc"],
            'error: --clock: "utc" is not allowed; allowed: "st',
        ),
        (
            [],
            f"2 point cloud topics: {FRONT}, {REAR}; name one of them (--topic), or those of "
            f"several LiDARs ({SEVERAL}, --frame)",
        ),
    ],
)
def test_a_replay_refuses_in_one_line(tmp_path: Path, capsys, options, says):
    path = write_rig(tmp_path / "bag", SHORT)
    bundle = write_cell_bundle(tmp_path / "bundle")
    assert main(["replay", str(path), "--bundle", str(bundle), *options]) != 0
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert says in line
    assert "source" not in line


def test_a_replay_of_images_refuses_what_goes_with_clouds(tmp_path: Path, capsys):
    with BagWriter(tmp_path / "bag") as writer:
        writer.write_image("/camera", frames(1)[0])
    bundle = str(write_bundle(tmp_path / "bundle"))
    command = ["replay", str(tmp_path / "bag"), "--bundle", bundle]
    assert main([*command, "--ring-field", "line", "--clock", "epoch"]) == 2
    told = "error: --ring-field, --clock: goes with point clouds, the task takes images"
    assert told in capsys.readouterr().err


def test_a_replay_without_motion_names_the_options_that_help(tmp_path: Path, capsys):
    path = write_rig(tmp_path / "bag", SHORT, moving=())
    command = ["replay", str(path), *TWO, "--frame", "base", "--bundle"]
    assert main([*command, str(write_cell_bundle(tmp_path / "cells"))]) == 0
    err = capsys.readouterr().err
    assert "from 'odom' (--fixed-frame) to 'base'" in err
    assert "name it (--odometry); an empty --fixed-frame says" in err
    assert main([*command, str(write_age_bundle(tmp_path / "ages"))]) == 1
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert "error: bag bag" in told
    assert "no ego motion from 'odom' (--fixed-frame)" in told
    assert "name it (--odometry)" in told


def test_other_verbs_read_merged_clouds_of_bags_alone(tmp_path: Path, capsys):
    path = write_rig(tmp_path / "bag", SHORT)
    bundle = str(write_cell_bundle(tmp_path / "bundle"))
    merge = ["--topic", FRONT, "--topic", REAR, "--frame", "base"]
    command = ["benchmark", bundle, "--iterations", "2", "--seconds", "0", "--data"]
    assert main([*command, str(path), *merge]) == 0
    capsys.readouterr()
    for option, value in (("--frame", "base"), ("--max-apart-s", "0.1")):
        assert main([*command, str(tmp_path / "bundle"), option, value]) == 2
        assert f"{option} goes with a bag (--data BAG)" in capsys.readouterr().err
