# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Observation in parts through the command line: merged, it is that of a single run."""

from __future__ import annotations

import shutil
from importlib import resources
from pathlib import Path

import cv2
import onnx
import pytest
import yaml
from helpers_data import picture
from test_build import with_depthwise

from av_compress.cachefolder import cache_folder
from av_compress.cli.main import main
from av_compress.engines.bundle import load_bundle

IMAGES = 5


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """Return a folder with two folders of images, a detector, and one with a depthwise layer."""
    folder = tmp_path_factory.mktemp("world")
    demo = resources.files("av_compress.data.demo")
    for name in ("detector.onnx", "detector.task.yaml"):
        (folder / name).write_bytes((demo / name).read_bytes())
    onnx.save(with_depthwise(onnx.load(folder / "detector.onnx")), folder / "depthwise.onnx")
    for day in (0, 1):
        (folder / f"day{day}").mkdir()
        for number in range(IMAGES):
            image = picture(10 * day + number, 96, 160)
            cv2.imwrite(str(folder / f"day{day}" / f"{number}.png"), image)
    return folder


def recipe(world: Path, name: str = "recipe", **changes) -> Path:
    content = {
        "name": "same",
        "model": "detector.onnx",
        "task": "detector.task.yaml",
        "calibration": {"source": days(0, 1), "samples": 6},
        "gate": None,
        "emitters": ["tensorrt"],
        **changes,
    }
    path = world / f"{name}.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def days(*numbers: int) -> list[dict[str, str]]:
    return [{"type": "images", "path": f"day{number}"} for number in numbers]


def observe(recipe_path: Path, part: str, output: Path, *earlier: Path) -> Path:
    command = ["observe", str(recipe_path), "--part", part, "--output", str(output)]
    if earlier:
        command += ["--observed", *map(str, earlier)]
    assert main(command) == 0
    return output


def build(recipe_path: Path, output: Path, *options: str | Path) -> int:
    return main(["build", str(recipe_path), "--output", str(output), *map(str, options)])


def content(bundle: Path) -> dict[str, bytes]:
    paths = [bundle / "manifest.json", *bundle.glob("*/model.onnx")]
    return {str(path.relative_to(bundle)): path.read_bytes() for path in paths}


@pytest.fixture(scope="module")
def parts(world: Path) -> list[Path]:
    path = recipe(world)
    return [observe(path, f"{n}/3", world / "parts" / f"{n}.npz") for n in (1, 2, 3)]


@pytest.fixture(scope="module")
def single(world: Path) -> dict[str, bytes]:
    assert build(recipe(world), world / "single", "--no-cache") == 0
    return content(world / "single")


def test_merged_parts_give_the_bytes_of_a_single_run(world: Path, parts, single, tmp_path: Path):
    assert build(recipe(world), tmp_path / "merged", "--observed", *reversed(parts)) == 0
    assert content(tmp_path / "merged") == single
    calibration = load_bundle(tmp_path / "merged").manifest.calibration
    assert calibration.source == "images in day0; images in day1"
    # Both days alike, each frame named by its source.
    days_seen = [frame.key.split(":")[0] for frame in calibration.frames]
    assert days_seen == ["images in day0"] * 3 + ["images in day1"] * 3


def test_the_cache_gives_the_bytes_of_a_single_run(world: Path, single, tmp_path: Path, capsys):
    for name in ("first", "second"):
        capsys.readouterr()
        assert build(recipe(world), tmp_path / name) == 0
        assert content(tmp_path / name) == single
    assert "calibration cache: values of" in capsys.readouterr().out


def test_migrated_scales_take_a_second_round(world: Path, tmp_path: Path, capsys):
    changes = {"model": "depthwise.onnx", "precision": {"migrate": True}}
    path = recipe(world, "migrate", **changes, emitters=["tensorrt", "cpu"])
    first = [observe(path, f"{n}/2", tmp_path / f"first{n}.npz") for n in (1, 2)]
    assert "channels of 20 tensors over 3 frames" in capsys.readouterr().out
    assert build(path, tmp_path / "early", "--observed", *first) == 1
    assert "run av-compress observe once more, with --observed" in capsys.readouterr().err
    # What the first round has of the other form is not observed again.
    second = [observe(path, f"{n}/2", tmp_path / f"second{n}.npz", *first) for n in (1, 2)]
    assert capsys.readouterr().out.count("values of") == 2
    assert build(path, tmp_path / "merged", "--observed", *first, *second) == 0
    assert build(path, tmp_path / "single", "--no-cache") == 0
    assert content(tmp_path / "merged") == content(tmp_path / "single")
    capsys.readouterr()
    everything = [*map(str, (*first, *second))]
    third = ["observe", str(path), "--observed", *everything, "--output", str(tmp_path / "x")]
    assert main(third) == 2
    assert "the files of --observed hold everything" in capsys.readouterr().err


def refusal(capsys, path: Path, output: Path, *files: Path) -> str:
    capsys.readouterr()
    assert build(path, output, "--observed", *files) == 1
    message = capsys.readouterr().err
    assert len(message.strip().splitlines()) == 1
    assert not output.exists()
    return message


def test_a_missing_part_is_counted(world: Path, parts, tmp_path: Path, capsys):
    message = refusal(capsys, recipe(world), tmp_path / "b", *parts[:2])
    assert "2 of 6 calibration frames are in no part" in message
    assert "for every part and give all of its files" in message


def test_a_part_that_is_given_twice_is_named(world: Path, parts, tmp_path: Path, capsys):
    copy = shutil.copy(parts[0], tmp_path / "copy.npz")
    message = refusal(capsys, recipe(world), tmp_path / "b", *parts, copy)
    assert f"images in day0: 0.png is both in {parts[0]} and in {copy}" in message


def test_parts_of_two_divisions_overlap(world: Path, parts, tmp_path: Path, capsys):
    half = observe(recipe(world), "1/2", tmp_path / "half.npz")
    message = refusal(capsys, recipe(world), tmp_path / "b", *parts, half)
    assert "is both in" in message
    assert str(half) in message


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": "depthwise.onnx"}, "another model (graph or weights)"),
        (
            {"calibration": {"source": days(0), "samples": 5}},
            "another choice of frames (3 of 6 are new)",
        ),
    ],
)
def test_parts_of_something_else_are_told(world, parts, tmp_path, capsys, changes, words):
    foreign = observe(recipe(world, "foreign", **changes), "3/3", tmp_path / "foreign.npz")
    message = refusal(capsys, recipe(world), tmp_path / "b", *parts[:2], foreign)
    assert "2 of 6 calibration frames are in no part" in message
    assert f"in {foreign} is another" in message
    assert words in message


def test_parts_of_another_task_are_told(world: Path, parts, tmp_path: Path, capsys):
    task = yaml.safe_load((world / "detector.task.yaml").read_text())
    task["input"]["mean"] = [1, 2, 3]
    message = refusal(capsys, recipe(world, "other", task=task), tmp_path / "b", *parts)
    assert "6 of 6 calibration frames are in no part" in message
    assert f"in {parts[0]} is another preprocess (input.mean)" in message


def test_files_that_are_no_parts(world: Path, parts, tmp_path: Path, capsys):
    path, output = recipe(world), tmp_path / "b"
    broken = tmp_path / "broken.npz"
    content = bytearray(parts[0].read_bytes())
    content[len(content) // 2] ^= 1
    broken.write_bytes(content)
    assert "broken.npz is damaged" in refusal(capsys, path, output, broken, *parts[1:])
    absent = tmp_path / "absent.npz"
    assert "absent.npz does not exist" in refusal(capsys, path, output, absent)
    assert "damaged, or holds no observations" in refusal(capsys, path, output, path)
    assert build(path, tmp_path / "cached") == 0
    entry = next((cache_folder() / "calibration").glob("*.npz"))
    assert "was not written by av-compress observe" in refusal(capsys, path, output, entry)


@pytest.mark.parametrize("part", ["0/3", "4/3", "3", "a/b", "1/0", "-1/2", "1/2/3", "¹/2"])
def test_a_part_that_is_none(world: Path, tmp_path: Path, capsys, part: str):
    command = ["observe", str(recipe(world)), f"--part={part}", "--output", str(tmp_path / "p")]
    assert main(command) == 2
    assert f"part {part!r} is not allowed; allowed: 1/3, 2/3" in capsys.readouterr().err
    assert not (tmp_path / "p").exists()


def test_more_parts_than_frames(world: Path, tmp_path: Path, capsys):
    command = ["observe", str(recipe(world)), "--part", "7/7", "--output", str(tmp_path / "p")]
    assert main(command) == 2
    assert "part 7/7 of 6 frames is empty" in capsys.readouterr().err


def test_a_source_may_be_listed_once(world: Path, tmp_path: Path, capsys):
    twice = recipe(world, "twice", calibration={"source": days(0, 0), "samples": 4})
    assert build(twice, tmp_path / "b") == 2
    assert "calibration.source" in capsys.readouterr().err


def test_an_empty_source_among_several_is_named(world: Path, tmp_path: Path, capsys):
    (world / "day7").mkdir(exist_ok=True)
    path = recipe(world, "empty", calibration={"source": days(0, 7), "samples": 4})
    assert build(path, tmp_path / "b") == 1
    assert "day7 holds no image" in capsys.readouterr().err
