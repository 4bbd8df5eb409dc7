# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Normalisation folded into the model, from the graph to a recipe's bundle."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from helpers_graphs import Graph, kinds
from helpers_models import run

from av_compress.compress.optimize.normalization import FoldedNormalization, fold_normalization
from av_compress.errors import ModelError

MEAN, STD = (103.53, 116.28, 123.675), (57.375, 57.12, 58.395)
PIXELS = {"x": [1, 3, 16, 12]}


def pixels(shape: list[int]) -> np.ndarray:
    return np.random.default_rng(4).integers(0, 256, shape).astype(np.float32)


def folded(model: onnx.ModelProto, mean=MEAN, std=STD, axis: int = 1) -> FoldedNormalization:
    """Fold, and prove that the task's rest and the model together do what they did before."""
    inferred = onnx.shape_inference.infer_shapes(model)
    result = fold_normalization(inferred, "x", mean, std, axis)
    onnx.checker.check_model(result.model, full_check=True)
    raw = pixels([d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim])

    def normalised(offset, scale):
        shape = [1, 1, 1, 1]
        shape[axis] = 3
        wide = [np.array(v, np.float64).reshape(shape) for v in (offset, scale)]
        return {"x": ((raw - wide[0]) / wide[1]).astype(np.float32)}

    want = run(model, normalised(mean, std))[0]
    got = run(result.model, normalised(result.mean, result.std))[0]
    np.testing.assert_allclose(got, want, atol=1e-4 * np.abs(want).max())
    return result


def test_all_of_it_where_nothing_is_padded():
    g = Graph()
    result = folded(g.model(g.op("Relu", g.conv("x", 3, 5)), PIXELS))
    assert (result.mean, result.std) == ((0.0,) * 3, (1.0,) * 3)
    assert kinds(result.model) == ["Conv", "Relu"]
    assert result.report.detail == "mean and std folded"
    assert result.report.deviation < 1e-5


def test_only_std_where_the_convolution_pads():
    g = Graph()
    result = folded(g.model(g.conv("x", 3, 5, pads=[1] * 4), PIXELS))
    assert (result.mean, result.std) == (MEAN, (1.0,) * 3)
    assert kinds(result.model) == ["Conv"]
    assert "the mean stays" in result.report.detail


def test_all_of_it_where_it_pads_and_the_mean_is_zero():
    g = Graph()
    model = g.model(g.conv("x", 3, 5, pads=[1] * 4), PIXELS)
    result = folded(model, mean=(0, 0, 0), std=(255, 255, 255))
    assert (result.mean, result.std) == ((0.0,) * 3, (1.0,) * 3)


def test_through_a_transpose_into_several_convolutions():
    g = Graph()
    turned = g.op("Transpose", "x", perm=[0, 3, 1, 2])
    both = g.op("Add", g.conv(turned, 3, 4), g.conv(turned, 3, 4))
    result = folded(g.model(both, {"x": [1, 16, 12, 3]}), axis=3)
    assert kinds(result.model) == ["Transpose", "Conv", "Conv", "Add"]
    assert result.std == (1.0,) * 3


@pytest.mark.parametrize("value", [0.0, -2.0])
def test_a_pad_that_was_not_folded_keeps_the_normalisation(value: float):
    g = Graph()
    padded = g.op("Pad", "x", g.ints(0, 0, 1, 1, 0, 0, 1, 1), g.const(value))
    result = folded(g.model(g.conv(padded, 3, 5), PIXELS))
    assert (result.mean, result.std) == (MEAN, STD)
    assert result.report.detail == "not folded: x is read by Pad"


def test_an_input_that_is_none():
    g = Graph()
    model = g.model(g.conv("x", 3, 5), PIXELS)
    with pytest.raises(ModelError, match=r"no float32 input 'images' .* the model has: x"):
        fold_normalization(model, "images", MEAN, STD, 1)
