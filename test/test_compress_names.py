# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What is added to a model takes no name that the model has already."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers_models import EVERYTHING, prepared, quantised, refined, run, samples, sqnr_db
from onnx import helper, numpy_helper

from av_compress.compress.emit import quantize as forms
from av_compress.compress.emit.kinds import KINDS
from av_compress.compress.plan.precision import Precision, make_plan
from av_compress.compress.refine.affine import Affine
from av_compress.compress.refine.constants import constant_value, set_input
from av_compress.compress.refine.insert import insert_affines, insert_observably
from av_compress.errors import ModelError

EMITTERS = tuple(dict.fromkeys(kind.emitter for kind in KINDS))
IMAGE, ROWS = [1, 8, 6, 6], [4, 16]


def normal(*shape: int) -> np.ndarray:
    values = np.random.default_rng(sum(shape)).normal(size=shape)
    return (values / np.sqrt(max(shape))).astype(np.float32)


def model_of(nodes, constants, shape_in, shape_out) -> onnx.ModelProto:
    """Return a model from `x` to `y` of (type, inputs, output, name, attributes)."""
    graph = helper.make_graph(
        [helper.make_node(t, i, [o], name=n, **dict(*a)) for t, i, o, n, *a in nodes],
        "names",
        [helper.make_tensor_value_info("x", 1, shape_in)],
        [helper.make_tensor_value_info("y", 1, shape_out)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", 19)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return model


def bias_named_like_a_tensor() -> onnx.ModelProto:
    """`conv` has no bias, and what another convolution makes is called `conv_2`."""
    weights = {f"w{i}": normal(8, 8, 1, 1) * (i + 1) for i in range(3)}
    nodes = [
        ("Conv", ["x", "w0"], "conv", "conv"),
        ("Relu", ["conv"], "r0", "r0"),
        ("Conv", ["r0", "w1"], "conv_1", "conv_1"),
        ("Relu", ["conv_1"], "r1", "r1"),
        ("Conv", ["r1", "w2"], "conv_2", "conv_2"),
        ("Sigmoid", ["conv_2"], "y", "sg"),
    ]
    return model_of(nodes, weights, IMAGE, IMAGE)


def bias_named_like_a_constant() -> onnx.ModelProto:
    """`conv` has no bias, and the weight of another is called `conv_2`."""
    names = ("conv_0", "conv_1", "conv_2")
    weights = {name: normal(8, 8, 1, 1) * (i + 1) for i, name in enumerate(names)}
    nodes = [
        ("Conv", ["x", "conv_0"], "a", "conv"),
        ("Relu", ["a"], "r0", "r0"),
        ("Conv", ["r0", "conv_1"], "b", "k1"),
        ("Relu", ["b"], "r1", "r1"),
        ("Conv", ["r1", "conv_2"], "c", "k2"),
        ("Sigmoid", ["c"], "y", "sg"),
    ]
    return model_of(nodes, weights, IMAGE, IMAGE)


def scale_of_the_model() -> onnx.ModelProto:
    """The model multiplies by `x_scale`, and has tensors named as pairs name theirs."""
    constants = {
        "x_scale": np.abs(normal(1, 8, 1, 1)),
        "conv_w_scale": normal(1),
        "w": normal(8, 8, 1, 1),
        "v": normal(8, 8, 1, 1),
    }
    nodes = [
        ("Mul", ["x", "x_scale"], "x_quantized", "m"),
        ("Conv", ["x", "w"], "x_dequantized", "conv"),
        ("Sigmoid", ["x_dequantized"], "x_zero_point", "sg"),
        ("Add", ["x_zero_point", "x_quantized"], "x_dynamic", "x_dequantized_DequantizeLinear"),
        ("Conv", ["x_dynamic", "v"], "w_scale", "last"),
        ("Mul", ["w_scale", "conv_w_scale"], "x_fp16", "x_fp16_Cast"),
        ("Sigmoid", ["x_fp16"], "y", "end"),
    ]
    return model_of(nodes, constants, IMAGE, IMAGE)


def weights_of_products() -> onnx.ModelProto:
    """Constants named as exporters do: after their node."""
    constants = {
        "fc_weight": normal(32, 16),
        "fc_bias": normal(32),
        "fc2_weight": normal(8, 32),
        "fc2_bias": normal(8),
    }
    nodes = [
        ("Gemm", ["x", "fc_weight", "fc_bias"], "fc_sum", "fc", {"transB": 1}),
        ("Sigmoid", ["fc_sum"], "fc_scale", "relu"),
        ("Gemm", ["fc_scale", "fc2_weight", "fc2_bias"], "y", "fc2", {"transB": 1}),
    ]
    return model_of(nodes, constants, ROWS, [4, 8])


def one_weight_along_two_axes() -> onnx.ModelProto:
    spread = np.geomspace(1, 8, 16)[:, None] * np.geomspace(1, 8, 32)
    constants = {"W": (normal(16, 32) * spread).astype(np.float32), "b": normal(16)}
    nodes = [
        ("MatMul", ["x", "W"], "h", "a"),
        ("Sigmoid", ["h"], "r", "relu"),
        ("Gemm", ["r", "W", "b"], "y", "c", {"transB": 1}),
    ]
    return model_of(nodes, constants, ROWS, ROWS)


MODELS = (
    bias_named_like_a_tensor,
    bias_named_like_a_constant,
    scale_of_the_model,
    weights_of_products,
    one_weight_along_two_axes,
)


@pytest.mark.parametrize("emitter", EMITTERS)
@pytest.mark.parametrize("make", MODELS)
def test_every_form_of_models_with_names_like_ours(tmp_path: Path, make, emitter: str):
    model = prepared(make(), tmp_path)
    emitted, plan = quantised(model, EVERYTHING, emitter)
    onnx.checker.check_model(emitted, full_check=True)
    assert plan.quantised()
    names = [node.name for node in emitted.graph.node]
    assert len(set(names)) == len(names)
    feeds = samples(model, 1)[0]
    floor = 18 if emitter == "tensorrt_fp8" else 25
    assert sqnr_db(run(model, feeds)[0], run(emitted, feeds, exact=True)[0]) > floor


@pytest.mark.parametrize("make", MODELS)
def test_refined_models_with_names_like_ours(tmp_path: Path, make):
    model = prepared(make(), tmp_path)
    changed = refined(model, make_plan(model, EVERYTHING))
    onnx.checker.check_model(changed, full_check=True)
    feeds = samples(model, 1)[0]
    assert sqnr_db(run(model, feeds)[0], run(changed, feeds)[0]) > 25


def test_a_weight_that_is_read_along_two_axes_has_a_pair_for_each(tmp_path: Path):
    model = prepared(one_weight_along_two_axes(), tmp_path)
    rules = replace(EVERYTHING, base=Precision.FP32)
    emitted, _ = quantised(model, rules, "tensorrt")
    made = {name: node for node in emitted.graph.node for name in node.output}
    for name, axis, scales in (("a", 1, 32), ("c", 0, 16)):
        node = next(n for n in emitted.graph.node if n.name == name)
        pair = made[node.input[1]]
        assert [a.i for a in pair.attribute if a.name == "axis"] == [axis]
        assert constant_value(emitted, pair.input[1]).shape == (scales,)


@pytest.mark.parametrize("suffix", ["migrated", "scaled", "scaled_1", "pads", "migrated_by"])
def test_what_a_migration_names_is_never_the_models_own(tmp_path: Path, suffix: str):
    """Others tell by `NODE_migrated` what they observe: there the node gets another name."""
    nodes = [
        ("Sigmoid", ["x"], f"conv_{suffix}", "first"),
        ("Conv", [f"conv_{suffix}", "w", "b"], "c", "conv", {"pads": [1] * 4}),
        ("Sigmoid", ["c"], "y", "sg"),
    ]
    constants = {"w": normal(8, 8, 3, 3), "b": normal(8)}
    model = prepared(model_of(nodes, constants, IMAGE, IMAGE), tmp_path)
    conv = next(node.name for node in model.graph.node if node.op_type == "Conv")
    affine = Affine(np.linspace(1, 2, 8), np.linspace(-1, 1, 8))
    feeds = samples(model, 1)[0]
    for insert in (insert_affines, insert_observably):
        changed = insert(model, {conv: affine})
        onnx.checker.check_model(changed, full_check=True)
        assert f"{conv}_migrated" in {name for n in changed.graph.node for name in n.output}
        np.testing.assert_allclose(run(changed, feeds)[0], run(model, feeds)[0], atol=1e-4)


def test_a_constant_that_a_branch_reads_too_is_not_changed_under_it():
    model = bias_named_like_a_constant()
    model.graph.output.append(helper.make_tensor_value_info("conv_1", 1, [8, 8, 1, 1]))
    before = constant_value(model, "conv_1")
    node = next(n for n in model.graph.node if n.name == "k1")
    set_input(model, node, 1, 2 * before)
    np.testing.assert_array_equal(constant_value(model, "conv_1"), before)
    np.testing.assert_array_equal(constant_value(model, node.input[1]), 2 * before)


def test_a_form_whose_shapes_contradict_each_other_is_refused(tmp_path: Path, monkeypatch):
    def emit(*_):
        raise onnx.shape_inference.InferenceError("Mismatch")

    model = prepared(bias_named_like_a_tensor(), tmp_path)
    monkeypatch.setitem(forms.EMITTERS, "cpu", replace(forms.EMITTERS["cpu"], emit=emit))
    with pytest.raises(ModelError, match="the cpu form is not valid ONNX: Mismatch"):
        quantised(model, EVERYTHING, "cpu")
