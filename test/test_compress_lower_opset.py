# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Opset 19 and 20 in the words of opset 17: the same numbers, or a refusal that names the node."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from helpers_models import run
from helpers_real import MODELS, real_inputs, real_model
from onnx import TensorProto, helper, numpy_helper

from av_compress.compress.emit.lower_opset import lower_opset, with_known_operators
from av_compress.errors import ModelError

SHAPE = (2, 7, 6, 5)


def model_of(
    op_type: str,
    constants: dict[int, np.ndarray] | None = None,
    outputs: int = 1,
    opset: int = 19,
    shape: tuple[int | None, ...] = SHAPE,
    **attributes: Any,
) -> onnx.ModelProto:
    """Make one node named `node` that reads `x` and constants at other positions."""
    given = constants or {}
    last = max(given, default=0)
    names = ["x", *(f"c{i}" if i in given else "" for i in range(1, last + 1))]
    made = [f"y{i}" for i in range(outputs)]
    graph = helper.make_graph(
        [helper.make_node(op_type, names, made, "node", **attributes)],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in made],
        [numpy_helper.from_array(value, f"c{i}") for i, value in given.items()],
    )
    opsets = [helper.make_opsetid("", opset)]
    return onnx.shape_inference.infer_shapes(
        helper.make_model(graph, opset_imports=opsets, ir_version=9)
    )


def integers(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def check_equal(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> onnx.ModelProto:
    before = model.SerializeToString(deterministic=True)
    lowered = lower_opset(with_known_operators(model))
    assert model.SerializeToString(deterministic=True) == before
    assert [o.version for o in lowered.opset_import if not o.domain] == [17]
    assert lowered.ir_version == 8
    onnx.checker.check_model(lowered, full_check=True)
    for want, got in zip(run(model, feeds), run(lowered, feeds)):
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-4)
    return lowered


HALVES = np.array([2.0, 0.5], np.float32)
SAME: dict[str, onnx.ModelProto] = {
    "axes": model_of("ReduceMean", {1: integers(1, -1)}, keepdims=0),
    "all axes": model_of("ReduceL2"),
    "no axes": model_of("ReduceMax", {1: integers()}),
    "pads": model_of("Pad", {1: integers(0, 0, 1, 2, 0, 0, 3, 4)}),
    "pads of axes": model_of(
        "Pad", {1: integers(1, 2, 3, 4), 2: np.float32(7), 3: integers(-1, 1)}
    ),
    "equal parts": model_of("Split", outputs=3, axis=2, num_outputs=3),
    "unequal parts": model_of("Split", outputs=3, axis=1, num_outputs=3),
    "unequal parts from the end": model_of("Split", outputs=2, axis=-1, num_outputs=2),
    "parts of given sizes": model_of("Split", {1: integers(2, 5)}, outputs=2, axis=1),
    "scales": model_of("Resize", {2: np.array([1, 1, 2, 2], np.float32)}, mode="linear"),
    "scales of axes": model_of(
        "Resize", {2: HALVES}, axes=[3, 2], antialias=0, keep_aspect_ratio_policy="stretch"
    ),
    "sizes of axes": model_of("Resize", {3: integers(12, 4)}, axes=[2, 3]),
    "average": model_of("AveragePool", kernel_shape=[2, 2], dilations=[1, 1], ceil_mode=1),
    "average over borders": model_of(
        "AveragePool", kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=1
    ),
    "norm": model_of("LpPool", kernel_shape=[2, 2], dilations=[1, 1], ceil_mode=0),
    "cast": model_of("Cast", to=TensorProto.FLOAT, saturate=1),
    "mish": model_of("Mish"),
    "gelu": model_of("Gelu", opset=20),
    "sampled": model_of(
        "GridSample", {1: np.zeros((2, 3, 3, 2), np.float32) + 0.3}, opset=20, mode="linear"
    ),
}


@pytest.mark.parametrize("what", SAME)
def test_an_operator_computes_the_same(what: str):
    x = np.random.default_rng(3).normal(size=SHAPE).astype(np.float32)
    check_equal(SAME[what], {"x": x})


REFUSED: dict[str, tuple[onnx.ModelProto, str]] = {
    "reduces nothing": (
        model_of("ReduceMax", {1: integers()}, noop_with_empty_axes=1),
        "it reduces nothing",
    ),
    "wraps": (model_of("Pad", {1: integers(*[1] * 8)}, mode="wrap"), "mode is wrap"),
    "unknown parts": (
        model_of("Split", outputs=2, axis=0, num_outputs=2, shape=(None, 7, 6, 5)),
        "whether its parts are equal is not known",
    ),
    "antialias": (
        model_of("Resize", {3: integers(2, 7, 3, 2)}, mode="linear", antialias=1),
        "antialias is set",
    ),
    "aspect ratio": (
        model_of("Resize", {3: integers(2, 7, 3, 2)}, keep_aspect_ratio_policy="not_larger"),
        "keep_aspect_ratio_policy is not_larger",
    ),
    "coordinates": (
        model_of(
            "Resize",
            {3: integers(2, 7, 3, 2)},
            coordinate_transformation_mode="half_pixel_symmetric",
        ),
        "coordinate_transformation_mode is half_pixel_symmetric",
    ),
    "unknown extents": (
        model_of("Resize", {3: integers(3, 2)}, axes=[2, 3], shape=(None, 7, 6, 5)),
        "the extents of others are dynamic",
    ),
    "dilated": (
        model_of("AveragePool", kernel_shape=[2, 2], dilations=[2, 2]),
        r"dilations are \[2, 2\]",
    ),
    "border windows": (
        model_of("AveragePool", kernel_shape=[2, 2], ceil_mode=1, count_include_pad=1),
        "ceil_mode is set",
    ),
    "folds": (
        model_of("Col2Im", {1: integers(4, 4), 2: integers(2, 2)}, shape=(1, 4, 4)),
        "opset 17 does not have it",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_opset_17_cannot_say_is_refused(what: str):
    model, why = REFUSED[what]
    op_type = model.graph.node[0].op_type
    said = rf"node node \({op_type}\) cannot be written in opset 17.*{why}"
    with pytest.raises(ModelError, match=said):
        lower_opset(model)


def test_computed_axes_are_refused():
    model = model_of("ReduceMean", {1: integers(1)})
    model.graph.node[0].input[1] = "axes"
    model.graph.input.append(helper.make_tensor_value_info("axes", TensorProto.INT64, [1]))
    with pytest.raises(ModelError, match=r"\(ReduceMean\) .*: its input axes is no constant"):
        lower_opset(model)


def test_reductions_that_came_later_are_refused():
    indices = np.zeros((1, 4), np.int64)
    updates = np.ones(1, np.float32)
    for reduction in ("max", "min"):
        model = model_of("ScatterND", {1: indices, 2: updates}, reduction=reduction)
        with pytest.raises(ModelError, match=f"reduction is {reduction}"):
            lower_opset(model)
    x = np.random.default_rng(3).normal(size=SHAPE).astype(np.float32)
    check_equal(model_of("ScatterND", {1: indices, 2: updates}, reduction="add"), {"x": x})


def test_branches_are_lowered_too():
    def branch(op_type: str) -> onnx.GraphProto:
        made = helper.make_tensor_value_info("b", TensorProto.FLOAT, (2, 7, 1, 5))
        node = helper.make_node(op_type, ["x", "axes"], ["b"], f"{op_type}_b", keepdims=1)
        return helper.make_graph([node], op_type, [], [made])

    node = helper.make_node(
        "If",
        ["which"],
        ["y"],
        "choice",
        then_branch=branch("ReduceMean"),
        else_branch=branch("ReduceMax"),
    )
    graph = helper.make_graph(
        [node],
        "graph",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE),
            helper.make_tensor_value_info("which", TensorProto.BOOL, []),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (2, 7, 1, 5))],
        [numpy_helper.from_array(integers(2), "axes")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    x = np.random.default_rng(3).normal(size=SHAPE).astype(np.float32)
    for which in (True, False):
        check_equal(model, {"x": x, "which": np.array(which)})


@pytest.mark.shared_data
@pytest.mark.parametrize("name", MODELS)
def test_real_models_compute_the_same(shared_data: Path, name: str):
    for feeds in real_inputs(shared_data, name)[:1]:
        check_equal(real_model(shared_data, name), feeds)
