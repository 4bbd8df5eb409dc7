# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Lint and preparation of models that are no valid ONNX: named, never a traceback."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers_models import EVERYTHING, prepared, quantised, residual_network
from helpers_qdq import convolution
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from av_compress.compress.lint.lint import lint_model
from av_compress.compress.lint.targets import TARGETS
from av_compress.compress.optimize.prepare import prepare_model
from av_compress.errors import ModelError


def model_of(*nodes: onnx.NodeProto, **constants: np.ndarray) -> onnx.ModelProto:
    """Return a model from `x` to `y`."""
    graph = helper.make_graph(
        nodes,
        "broken",
        [helper.make_tensor_value_info("x", 1, [1, 1, 4, 4])],
        [helper.make_tensor_value_info("y", 1, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)


def short_data() -> onnx.ModelProto:
    node = helper.make_node("Conv", ["x", "w"], ["y"])
    model = model_of(node, w=np.ones((1, 1, 1, 1), np.float32))
    model.graph.initializer[0].raw_data = b"\0\0"
    return model


def lone(op_type: str) -> Callable[[], onnx.ModelProto]:
    return lambda: model_of(helper.make_node(op_type, ["x"], ["y"]))


def scalar_weight() -> onnx.ModelProto:
    return model_of(helper.make_node("Gemm", ["x", "w"], ["y"]), w=np.float32(1).reshape(()))


def transposed_in_a_circle() -> onnx.ModelProto:
    return model_of(
        helper.make_node("Transpose", ["b"], ["a"]),
        helper.make_node("Identity", ["a"], ["b"]),
        helper.make_node("DequantizeLinear", ["x", "s"], ["s"]),
        helper.make_node("Conv", ["b", "w"], ["y"]),
        w=np.ones((1, 1, 1, 1), np.float32),
    )


BROKEN = {
    "short data": short_data,
    "QuantizeLinear": lone("QuantizeLinear"),
    "DequantizeLinear": lone("DequantizeLinear"),
    "Conv": lone("Conv"),
    "MatMul": lone("MatMul"),
    "scalar weight": scalar_weight,
    "circle": transposed_in_a_circle,
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("make", BROKEN.values(), ids=BROKEN)
def test_what_is_not_valid_is_said_to_be_so(make, target: str):
    assert "not-standard" in {one.rule.id for one in lint_model(make(), target)}


@pytest.mark.parametrize("make", BROKEN.values(), ids=BROKEN)
def test_what_is_not_valid_is_not_prepared(tmp_path: Path, make):
    path = tmp_path / "model.onnx"
    onnx.save(make(), path)
    with pytest.raises(ModelError, match=r"model\.onnx: "):
        prepare_model(path)


def test_data_that_is_not_what_its_shape_says_is_named():
    named = [one for one in lint_model(short_data(), "cpu") if one.node == "w"]
    assert [one.detail for one in named] == ["its data is not what its type and shape say"]


def test_a_node_without_its_inputs_hides_no_other_rule():
    model = convolution(axis=1).model()
    model.graph.node.append(helper.make_node("QuantizeLinear", ["x"], ["lost"]))
    model.graph.node.append(helper.make_node("Foo", ["x"], [], domain="my.ops", name="own"))
    found = {one.rule.id for one in lint_model(model, "tensorrt-10.3")}
    assert {"not-standard", "weight-axis", "custom-operator"} <= found


@pytest.fixture(scope="module")
def forms(tmp_path_factory) -> list[onnx.ModelProto]:
    model = prepared(residual_network(), tmp_path_factory.mktemp("network"))
    return [quantised(model, EVERYTHING, form)[0] for form in ("tensorrt", "cpu", "tensorrt_fp8")]


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_forms_with_pieces_taken_out_are_linted(forms, data):
    model = onnx.ModelProto()
    model.CopyFrom(data.draw(st.sampled_from(forms)))
    for node in data.draw(st.lists(st.sampled_from(list(model.graph.node)), max_size=4)):
        what = data.draw(st.sampled_from(["input", "output", "name", "attribute", "cycle"]))
        if what == "name":
            node.name = ""
        elif what == "cycle" and node.input and node.output:
            node.input[0] = node.output[0]
        elif what != "cycle":
            values = getattr(node, what)
            del values[data.draw(st.integers(0, 2)) :]
    for tensor in data.draw(st.lists(st.sampled_from(list(model.graph.initializer)), max_size=2)):
        tensor.raw_data = tensor.raw_data[: data.draw(st.integers(0, 5))]
    for target in TARGETS:
        lint_model(model, target)
