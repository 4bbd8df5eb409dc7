# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Replay from the command line: every frame, against a reference, judged by exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers_data import frames, write_camera_bag
from helpers_serving import build_demo_bundle, put_demo_detector
from rosbags.highlevel import AnyReader

from av_compress.cli.main import main
from av_compress.data.demo.drive import Drive, write_bag, write_dataset
from av_compress.data.ros_types import make_typestore

TOPIC = "/camera/image_raw"


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """Return a folder with a bag, the demo detector and its bundle."""
    folder = tmp_path_factory.mktemp("replay")
    put_demo_detector(folder)
    write_dataset([Drive(950, 2.0, 2.0)], folder / "images")
    write_bag(Drive(951, 1.0, 5.0), folder / "drive")
    build_demo_bundle(folder, "bundle", emitters=["cpu"])
    return folder


def replay(world: Path, *arguments: str) -> int:
    base = ["replay", str(world / "drive"), "--bundle", str(world / "bundle")]
    return main([*base, *arguments])


def test_a_bundle_agrees_with_itself(world: Path, tmp_path: Path, capsys):
    figures = tmp_path / "figures.json"
    reference = ["--reference", str(world / "bundle"), "--min-matched", "1.0"]
    assert replay(world, *reference, "--json", str(figures), "--report", str(tmp_path / "r")) == 0
    assert "5 frames" in capsys.readouterr().out
    content = json.loads(figures.read_text())
    agreement = content["agreement"]
    assert agreement["matched"] > 10
    assert (agreement["missed"], agreement["extra"], agreement["rate"]) == (0, 0, 1.0)
    assert agreement["mean_iou"] == pytest.approx(1.0)
    assert [frame["key"] for frame in content["frames"]] == [f"{TOPIC}#{i}" for i in range(5)]
    assert (tmp_path / "r" / "report.html").stat().st_size > 10_000


def test_a_limit_that_does_not_hold_is_exit_code_1(world: Path, capsys):
    reference = ["--reference", str(world / "detector.onnx")]
    assert replay(world, *reference, "--min-iou", "1.0") == 1
    assert "FAILED" in capsys.readouterr().err


def test_the_output_bag_holds_a_result_for_every_frame(world: Path, tmp_path: Path):
    assert replay(world, "--output", str(tmp_path / "out.mcap")) == 0
    stamps: dict[str, list[int]] = {}
    for path in (tmp_path / "out.mcap", next((world / "drive").glob("*.mcap"))):
        with AnyReader([path], default_typestore=make_typestore()) as reader:
            for connection, _, data in reader.messages():
                if "Detection2DArray" in connection.msgtype or connection.topic == TOPIC:
                    stamp = reader.deserialize(data, connection.msgtype).header.stamp
                    stamps.setdefault(connection.msgtype, []).append(
                        stamp.sec * 10**9 + stamp.nanosec
                    )
    found = stamps["vision_msgs/msg/Detection2DArray"]
    assert found == stamps["sensor_msgs/msg/Image"]
    assert len(found) == 5


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--topic", "/nowhere"], 1, "/nowhere"),
        (["--reference", "absent.onnx"], 2, "absent.onnx"),
        (["--bundle", "absent"], 1, "not_a_bundle"),
    ],
)
def test_foreseeable_faults_are_one_line(world: Path, capsys, arguments, code, words):
    capsys.readouterr()
    assert replay(world, *arguments) == code
    message = capsys.readouterr().err
    assert words in message
    assert len(message.strip().splitlines()) == 1


def test_frames_without_objects_are_replayed_too(world: Path, tmp_path: Path):
    bag = write_camera_bag(tmp_path / "noise", frames(3))
    arguments = ["--bundle", str(world / "bundle"), "--json", str(tmp_path / "f.json")]
    assert main(["replay", str(bag), *arguments]) == 0
    assert len(json.loads((tmp_path / "f.json").read_text())["frames"]) == 3
