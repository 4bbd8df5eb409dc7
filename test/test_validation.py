# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Errors of configurations: key, value, and what is allowed."""

import pytest

from av_compress.errors import ConfigError
from av_compress.validation import validate

SOURCE = {"type": "images", "path": "frames"}


def recipe(**changes):
    base = {
        "model": "detector.onnx",
        "task": {"kind": "camera_detection"},
        "calibration": {"source": SOURCE},
        "gate": None,
    }
    return {**base, **changes}


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([], ["(top level)", "[]", "object"]),
        (recipe(model=3), ["model: 3 is not allowed", "string"]),
        (recipe(emitters=["tensorrt", "gpu"]), ["emitters[1]", '"gpu"', '"tensorrt", "cpu"']),
        (
            recipe(calibration={"source": SOURCE, "samples": 0}),
            ["calibration.samples: 0", "integer >= 1"],
        ),
        (
            recipe(calibration={"source": SOURCE, "treshold": "mse"}),
            ["calibration: unknown key 'treshold'", "did you mean 'threshold'?"],
        ),
        (
            recipe(calibration={"source": SOURCE, "threshold": "magic"}),
            ["calibration.threshold", '"magic"', '"entropy"', '"mse"'],
        ),
        (recipe(gate={"max_loss": -1}), ["gate.max_loss: -1", ">= 0"]),
        ({"model": "x.onnx"}, ["required key", "'task'", "'calibration'", "'gate'"]),
    ],
)
def test_a_wrong_recipe_is_explained(value, words):
    with pytest.raises(ConfigError) as caught:
        validate(value, "recipe", "recipe.yaml")
    message = str(caught.value)
    assert message.startswith("recipe.yaml: ")
    for word in words:
        assert word in message


def test_every_fault_is_named_at_once():
    with pytest.raises(ConfigError) as caught:
        validate(recipe(model="", emitters=[]), "recipe", "recipe.yaml")
    assert "model:" in str(caught.value)
    assert "emitters:" in str(caught.value)


def test_a_right_recipe_passes():
    validate(recipe(), "recipe", "recipe.yaml")
