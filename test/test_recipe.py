# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Recipes: defaults, errors, and a hash of their meaning."""

from pathlib import Path

import pytest

from av_compress.build.recipe import load_recipe
from av_compress.build.source_model import WholeModel
from av_compress.errors import ConfigError, UsageError

MINIMAL = """
model: models/detector.onnx
task: {kind: camera_detection}
calibration:
  source: {type: images, path: frames}
gate: {max_loss: 0.5}
"""


def write(folder: Path, text: str, name: str = "city.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_defaults_are_filled_in(tmp_path: Path):
    recipe = load_recipe(write(tmp_path, MINIMAL))
    assert recipe.name == "city"
    assert recipe.model == WholeModel(tmp_path / "models/detector.onnx")
    assert recipe.emitters == ("tensorrt", "cpu")
    assert (recipe.calibration.samples, recipe.calibration.sampling) == (64, "coverage")
    assert recipe.threshold.method == "mse"
    assert recipe.gate is not None
    assert recipe.gate.max_loss == 0.5
    assert recipe.gate.samples.sources == ({"type": "images", "path": "frames"},)
    assert recipe.gate.samples.samples == 64


def test_host_code_has_to_be_asked_for(tmp_path: Path):
    recipe = load_recipe(write(tmp_path, MINIMAL))
    assert recipe.content["trust"] == {"allow_host_code": False}
    recipe = load_recipe(write(tmp_path, f"{MINIMAL}trust: {{allow_host_code: true}}\n"))
    assert recipe.content["trust"] == {"allow_host_code": True}
    with pytest.raises(ConfigError, match=r"trust\.allow_host_code: 1 is not allowed"):
        load_recipe(write(tmp_path, f"{MINIMAL}trust: {{allow_host_code: 1}}\n"))


def test_no_gate_has_to_be_asked_for(tmp_path: Path):
    assert load_recipe(write(tmp_path, MINIMAL.replace("{max_loss: 0.5}", "null"))).gate is None
    with pytest.raises(ConfigError, match="required key 'gate'"):
        load_recipe(write(tmp_path, MINIMAL.replace("gate: {max_loss: 0.5}", "")))


def test_the_hash_is_that_of_the_meaning(tmp_path: Path):
    plain = load_recipe(write(tmp_path, MINIMAL))
    commented = load_recipe(write(tmp_path, f"# a drive through town\nname: city\n{MINIMAL}"))
    other = load_recipe(write(tmp_path, MINIMAL.replace("0.5", "0.6")))
    assert plain.sha256 == commented.sha256
    assert plain.sha256 != other.sha256


def test_a_task_may_stand_in_a_file_of_its_own(tmp_path: Path):
    write(tmp_path, "kind: camera_detection\nscore_threshold: 0.3\n", "task.yaml")
    text = MINIMAL.replace("{kind: camera_detection}", "task.yaml")
    assert load_recipe(write(tmp_path, text)).task["score_threshold"] == 0.3


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("model: [", ConfigError, "is not YAML"),
        ("", ConfigError, "(top level)"),
        (MINIMAL.replace("frames}", "frames, stride: 3}"), ConfigError, "calibration.source"),
        (MINIMAL.replace("kind: camera_detection", "kind: telepathy"), ConfigError, "task.kind"),
    ],
)
def test_a_wrong_recipe_names_the_place(tmp_path: Path, text, error, words):
    with pytest.raises(error) as caught:
        load_recipe(write(tmp_path, text))
    assert words in str(caught.value)
    assert "city.yaml" in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(UsageError, match=r"absent\.yaml cannot be read"):
        load_recipe(tmp_path / "absent.yaml")


def test_bytes_that_are_no_text(tmp_path: Path):
    path = tmp_path / "binary.yaml"
    path.write_bytes(b"\xff\xfe\x00model")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_recipe(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"{MINIMAL}gate: null\n", "the key 'gate' is in line 6 and again in line 7"),
        (MINIMAL.replace("0.5}", "0.5, max_loss: 9}"), "the key 'max_loss' is in line 6"),
        (MINIMAL.replace("0.5}", "0.5, 'max_loss': 9}"), "the key 'max_loss' is in line 6"),
    ],
)
def test_a_key_that_is_there_twice_is_refused(tmp_path: Path, text: str, words: str):
    with pytest.raises(ConfigError) as caught:
        load_recipe(write(tmp_path, text))
    assert words in str(caught.value)
    assert "city.yaml" in str(caught.value)


@pytest.mark.parametrize("section", ["task", "precision"])
def test_a_key_that_is_twice_in_a_file_of_its_own_is_refused(tmp_path: Path, section: str):
    write(tmp_path, "base: fp16\nbase: fp32\n", "own.yaml")
    content = {"task": MINIMAL.replace("{kind: camera_detection}", "own.yaml")}
    content["precision"] = f"{MINIMAL}precision: own.yaml\n"
    with pytest.raises(ConfigError, match=r"own\.yaml: the key 'base' is in line 1 and again in"):
        load_recipe(write(tmp_path, content[section]))


def test_what_is_merged_in_may_be_overridden(tmp_path: Path):
    text = MINIMAL.replace("calibration:", "calibration: &frames")
    text = text.replace("{max_loss: 0.5}", "{<<: *frames, source: {type: images, path: other}}")
    gate = load_recipe(write(tmp_path, text)).gate
    assert gate is not None
    assert gate.samples.sources == ({"type": "images", "path": "other"},)
