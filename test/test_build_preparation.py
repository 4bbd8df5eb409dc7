# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""A recipe's `optimize` section: what becomes of the model and of the task."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib import resources
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import yaml
from helpers_data import MemorySource, frames, picture
from onnx import numpy_helper

from av_compress.build.preparation import Preparation, prepare, prove_on_frames
from av_compress.build.recipe import Recipe, load_recipe
from av_compress.build.samples import SampleSet
from av_compress.cli.main import main
from av_compress.compress.optimize.check import Check
from av_compress.compress.optimize.float16 import CastToFloat
from av_compress.compress.optimize.nms import DetachNms
from av_compress.compress.optimize.prepare import OPTIMIZATIONS
from av_compress.compress.optimize.standard import (
    ChangeOpset,
    InferShapes,
    NameNodes,
    Simplify,
    Tidy,
)
from av_compress.compress.optimize.static_shapes import FixShapes
from av_compress.errors import ConfigError, ModelError
from av_compress.validation import load_schema

FRAMES = SampleSet(MemorySource(frames(3)), (0, 1, 2), "stride", ("",) * 3)


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    for name in ("detector.onnx", "detector.task.yaml"):
        source = resources.files("av_compress.data.demo") / name
        (folder / name).write_bytes(source.read_bytes())
    (folder / "images").mkdir()
    for index in range(3):
        cv2.imwrite(str(folder / "images" / f"{index}.png"), picture(index))
    return folder


def recipe_of(world: Path, model: str = "detector.onnx", **optimize) -> Recipe:
    content = {
        "model": model,
        "task": "detector.task.yaml",
        "calibration": {"source": {"type": "images", "path": "images"}, "samples": 2},
        "gate": None,
        "emitters": ["cpu"],
        "optimize": optimize,
    }
    path = world / "recipe.yaml"
    path.write_text(yaml.safe_dump(content))
    return load_recipe(path)


def dims(model: onnx.ModelProto) -> list[int | str]:
    shape = model.graph.input[0].type.tensor_type.shape
    return [dim.dim_param or dim.dim_value for dim in shape.dim]


def dynamic(world: Path) -> str:
    model = onnx.load(world / "detector.onnx")
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.save(model, world / "dynamic.onnx")
    return "dynamic.onnx"


def test_the_prepared_model_is_proven_on_real_frames(world: Path):
    recipe = recipe_of(world)
    preparation = prepare(recipe)
    proven = prove_on_frames(recipe, preparation, FRAMES)
    last = proven.reports[-1]
    assert last.name == "prove on real frames"
    assert last.detail == "compared on 2 calibration frames"
    assert last.deviation < 1e-5
    assert preparation.task == preparation.source_task


def test_another_model_is_not_taken_for_the_source(world: Path):
    recipe = recipe_of(world)
    preparation = prepare(recipe)
    wrong = onnx.ModelProto()
    wrong.CopyFrom(preparation.prepared.model)
    tensor = max(wrong.graph.initializer, key=lambda t: len(t.raw_data))
    value = numpy_helper.to_array(tensor) * np.float32(1.1)
    tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    tampered = replace(preparation, prepared=replace(preparation.prepared, model=wrong))
    with pytest.raises(ModelError, match=r"on real frames .* leave passes out by optimize\.skip"):
        prove_on_frames(recipe, tampered, FRAMES)


def test_folded_normalisation_leaves_the_task_a_copy(world: Path):
    recipe = recipe_of(world, fold_normalization=True)
    preparation = prepare(recipe)
    config = preparation.task.config()
    assert (config["input"]["mean"], config["input"]["std"]) == ([0.0] * 3, [1.0] * 3)
    assert preparation.source_task.config()["input"]["std"] == [255.0] * 3
    # Nothing else of the task changes, and what the node feeds are the pixels themselves.
    config["input"]["std"] = [255.0] * 3
    assert config == preparation.source_task.config()
    frame = frames(1)[0]
    image = preparation.task.preprocess(frame).tensors["images"]
    assert set(np.unique(image)) <= set(range(256))
    proven = prove_on_frames(recipe, preparation, FRAMES)
    assert proven.reports[-1].deviation < 1e-5


@pytest.mark.parametrize(("fixed", "first"), [(True, 1), (False, "batch")])
def test_dynamic_frames_are_fixed_to_one(world: Path, fixed: bool, first):
    recipe = recipe_of(world, dynamic(world), static_shapes=fixed)
    model = prepare(recipe).prepared.model
    assert dims(model) == [first, 3, 192, 320]


def test_passes_are_left_out_by_name(world: Path):
    def names(preparation: Preparation) -> set[str]:
        return {report.name for report in preparation.prepared.reports}

    assert {"simplify", "fold affine"} <= names(prepare(recipe_of(world)))
    recipe = recipe_of(world, skip=["simplify", "fold affine"])
    assert not {"simplify", "fold affine"} & names(prepare(recipe))


def test_the_schema_names_the_passes_that_can_be_left_out():
    schema = load_schema("recipe")["properties"]["optimize"]["properties"]["skip"]
    assert schema["items"]["enum"] == [step.name for step in (Simplify(), *OPTIMIZATIONS)]


def test_a_pass_that_there_is_not(world: Path):
    with pytest.raises(ConfigError, match=r"optimize\.skip.*folding.*fold affine"):
        recipe_of(world, skip=["folding"])


def test_a_bundle_with_folded_normalisation(world: Path, tmp_path: Path):
    recipe_of(world, fold_normalization=True)
    output = tmp_path / "bundle"
    assert main(["build", str(world / "recipe.yaml"), "--output", str(output)]) == 0
    manifest = json.loads((output / "manifest.json").read_text())
    assert manifest["task"]["input"]["std"] == [1.0, 1.0, 1.0]
    assert manifest["recipe"]["optimize"] == {"fold_normalization": True}
    page = (output / "report.html").read_text()
    for text in ("MACs before", "moved by", "fold normalization", "prove on real frames"):
        assert text in page


def test_the_page_about_passes_names_them_all():
    text = (Path(__file__).parent.parent / "docs" / "optimize.md").read_text(encoding="utf-8")
    first = (Tidy(), Check(), DetachNms(), CastToFloat(), FixShapes({}), ChangeOpset())
    for step in (*first, NameNodes(), InferShapes(), Simplify(), *OPTIMIZATIONS):
        assert f"| `{step.name}` |" in text


def test_an_operator_that_nothing_here_runs_is_named(world: Path, capsys):
    model = onnx.load(world / "detector.onnx")
    made = model.graph.node[1].output[0]
    model.graph.node[1].output[0] = "before"
    own = onnx.helper.make_node("MyOp", ["before"], [made], name="mine", domain="my.ops")
    model.graph.node.insert(2, own)
    model.opset_import.append(onnx.helper.make_opsetid("my.ops", 1))
    onnx.save(model, world / "own.onnx")
    said = "own.onnx: ONNX Runtime cannot run the model: node 'mine' is MyOp of domain my.ops"
    with pytest.raises(ModelError, match=f"{said}.*cut it off"):
        prepare(recipe_of(world, "own.onnx"))
    # What does not run it reads it.
    assert main(["lint", str(world / "own.onnx"), "--target", "tensorrt-10.3"]) == 1
    assert "at mine: my.ops.MyOp" in capsys.readouterr().out
    assert main(["diff", str(world / "own.onnx"), str(world / "detector.onnx")]) == 0
