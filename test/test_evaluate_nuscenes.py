# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""A LiDAR model on a nuScenes folder: evaluated by its protocol, and built with a gate on it."""

from __future__ import annotations

import json
import shutil
from argparse import ArgumentParser
from contextlib import closing
from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml
from helpers_lidar_world import TASK, scene, write_kitti, write_models
from helpers_nuscenes import RIGHT_LEFT, VERSION, Shot, Thing, at, boxed, write_nuscenes

from av_compress.cli.frames import add_frame_arguments, open_frames
from av_compress.cli.main import main
from av_compress.compress.join import join_pillar_model
from av_compress.engines.bundle import load_bundle
from av_compress.tasks.registry import make_task

# Of each sample's four cars, one is 3 m away from where its label says.
MOVED_M = 3.0


def street(seed: int, stamp_us: int) -> Shot:
    """Return a sample with what the detector finds, beside a person whom it does not look for."""
    points, boxes = scene(seed)
    empty = Shot(stamp_us, at(200 + 3 * seed, 80 - seed, 1, 0.2 * seed, 0.02, -0.01))
    boxes[0, 1] += MOVED_M
    things: list[Thing] = [
        boxed(empty, RIGHT_LEFT, box, name=f"car {number} of {seed}")
        for number, box in enumerate(boxes)
    ]
    return Shot(stamp_us, empty.pose, np.c_[points, np.zeros(len(points))], things)


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """Return a folder with a model, its task, and labelled clouds in both layouts."""
    folder = tmp_path_factory.mktemp("nuscenes")
    write_models(folder)
    parts = [onnx.load(folder / f"{part}.onnx") for part in ("encoder", "backbone")]
    joined = join_pillar_model(*parts, make_task(TASK).settings.input.grid)
    onnx.save(joined, folder / "whole.onnx")
    shots = [street(seed, 1_000_000_000 + seed * 500_000) for seed in range(8)]
    write_nuscenes(folder / "set", {"scene-1": shots[:4], "scene-2": shots[4:]})
    write_kitti(folder / "kitti", 2)
    return folder


def evaluate(world: Path, data: Path, *more: object) -> int:
    command = ["evaluate", "--model", world / "whole.onnx", "--task", world / "task.yaml"]
    return main([str(word) for word in (*command, "--data", data, *more)])


def complaint(capsys) -> str:
    lines = capsys.readouterr().err.strip().splitlines()
    assert "Traceback" not in "".join(lines)
    return lines[-1]


def test_a_model_is_measured_by_nuscenes_protocol(world, tmp_path, capsys):
    out, split = tmp_path / "figures.json", tmp_path / "val.txt"
    split.write_text("scene-2\n")
    assert evaluate(world, world / "set", "--json", out, "--split", split) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "nuScenes' protocol:"
    header = "class objects AP 0.5 m AP 1 m AP 2 m AP 4 m AP ATE m ASE AOE rad AVE m/s"
    assert printed[1].split() == header.split()
    assert not any("KITTI" in line for line in printed)
    assert any("COCO's protocol" in line for line in printed)
    assert printed[-1] == "4 point clouds, 16 detections"
    figures = json.loads(out.read_text())
    assert (
        figures["data"].items()
        >= {
            "nuscenes": "set",
            "version": VERSION,
            "split": "val.txt",
            "frames": 4,
        }.items()
    )
    assert "kitti" not in figures
    found = figures["nuscenes"]
    car = found["per_class"]["car"]
    assert set(found["per_class"]) == {"car"}
    assert car["truths"] == 16
    # Every car is found within 4 m, three of four within 2 m: at the recalls up to 0.75 at best.
    assert car["at"]["4"] == pytest.approx(1.0, abs=0.01)
    assert 0 < car["at"]["2"] <= 65 / 90
    assert found["map"] == car["ap"] == pytest.approx(np.mean(list(car["at"].values())))
    assert car["errors"]["translation"] < 0.1
    assert car["errors"]["scale"] < 0.1
    assert car["errors"]["orientation"] < 0.1
    # Each car is seen once, and the model tells no velocities.
    assert car["errors"]["velocity"] is None
    assert str(tmp_path) not in out.read_text()


def test_kittis_folders_are_still_measured_by_kittis_protocol(world, tmp_path, capsys):
    assert evaluate(world, world / "kitti", "--json", tmp_path / "f.json") == 0
    printed = capsys.readouterr().out
    assert printed.startswith("KITTI's protocol:")
    assert "nuScenes" not in printed
    figures = json.loads((tmp_path / "f.json").read_text())
    assert figures["data"].items() >= {"kitti": "kitti", "view": "camera", "split": None}.items()
    assert "nuscenes" not in figures


def test_a_folder_in_neither_layout_is_refused(world, tmp_path, capsys):
    assert evaluate(world, tmp_path) == 1
    message = complaint(capsys)
    assert "KITTI's has a folder velodyne" in message
    assert "nuScenes' a folder such as v1.0-mini that holds a sample.json" in message


@pytest.mark.parametrize(
    ("data", "arguments", "words"),
    [
        ("set", ("--view", "whole"), "--view goes with a folder in KITTI's layout"),
        ("set", ("--images", "."), "--images goes with annotations in COCO form"),
        ("kitti", ("--tables", VERSION), "--tables goes with a folder in nuScenes' layout"),
        ("task.yaml", ("--tables", VERSION), "--tables goes with a folder in nuScenes' layout"),
        ("task.yaml", ("--split", "x"), "--split goes with a folder in KITTI's or nuScenes'"),
    ],
)
def test_arguments_go_with_their_data(world, capsys, data, arguments, words):
    assert evaluate(world, world / data, *arguments) == 2
    assert words in complaint(capsys)


def test_one_of_several_versions_is_named(world, tmp_path, capsys):
    shutil.copytree(world / "set", tmp_path / "set")
    shutil.copytree(tmp_path / "set" / VERSION, tmp_path / "set" / "v2")
    assert evaluate(world, tmp_path / "set") == 1
    assert f"several versions: {VERSION}, v2; name one" in complaint(capsys)
    out = tmp_path / "f.json"
    assert evaluate(world, tmp_path / "set", "--tables", "v2", "--json", out) == 0
    assert json.loads(out.read_text())["data"]["version"] == "v2"


def test_other_verbs_take_such_a_folder_for_their_frames(world):
    parser = ArgumentParser()
    add_frame_arguments(parser)
    bare = parser.parse_args(["--data", str(world / "set")])
    needs = make_task(TASK).frame_needs
    with closing(open_frames(bare, needs)) as source:
        assert source.description == f"nuscenes set/{VERSION}"
        assert source.read(0).points.shape[1] == len(needs.columns)


def test_a_recipe_is_calibrated_and_judged_on_a_nuscenes_folder(world, tmp_path):
    (world / "train.txt").write_text("scene-1\n")
    (world / "val.txt").write_text("scene-2\n")
    source = {"type": "nuscenes", "path": "set"}
    content = {
        "model": "whole.onnx",
        "task": "task.yaml",
        "calibration": {"source": {**source, "split": "train.txt"}, "samples": 4},
        "gate": {
            "source": {**source, "split": "val.txt", "version": VERSION, "channel": "LIDAR_TOP"},
            "samples": 4,
            "metric": "ap50",
            "max_loss": 0.5,
        },
        "candidates": ["int8"],
        "emitters": ["tensorrt"],
    }
    (world / "recipe.yaml").write_text(yaml.safe_dump(content))
    command = ["build", world / "recipe.yaml", "--output", tmp_path / "bundle"]
    assert main(list(map(str, command))) == 0
    manifest = load_bundle(tmp_path / "bundle").manifest
    assert manifest.calibration.source == f"nuscenes set/{VERSION}"
    assert all("scene-1" in frame.key for frame in manifest.calibration.frames)
    gate = manifest.artefacts["tensorrt"].gate
    assert gate.passed
    # Three of four cars of each cloud lie where their labels say.
    assert 0 < gate.figures["fp32_ap50"] < 80
