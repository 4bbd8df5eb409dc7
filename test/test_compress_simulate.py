# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""FP16 simulated in FP32: what numpy computes in FP16, bit by bit."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from helpers_models import run
from onnx import TensorProto, helper, numpy_helper

from av_compress.compress.emit.simulate import simulate_half

HALF, FLOAT = TensorProto.FLOAT16, TensorProto.FLOAT
SMALL, LARGE = np.float16(1e-5), np.float16(3e4)


def chain(steps: list[str], border: int) -> onnx.ModelProto:
    """Multiply by one constant after the other, in FP16."""
    nodes, last = [], "x"
    if border == FLOAT:
        nodes.append(helper.make_node("Cast", ["x"], ["h"], "in", to=HALF))
        last = "h"
    for place, constant in enumerate(steps):
        nodes.append(helper.make_node("Mul", [last, constant], [f"m{place}"], f"mul{place}"))
        last = f"m{place}"
    if border == FLOAT:
        nodes.append(helper.make_node("Cast", [last], ["y"], "out", to=FLOAT))
    else:
        nodes[-1].output[0] = "y"
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("x", border, [4])],
        [helper.make_tensor_value_info("y", border, [4])],
        [numpy_helper.from_array(SMALL, "small"), numpy_helper.from_array(LARGE, "large")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)


@pytest.mark.parametrize("border", [FLOAT, HALF], ids=["fp32 border", "fp16 border"])
@pytest.mark.parametrize(
    "steps",
    [["small"] * 2 + ["large"] * 2, ["large", "large", "small", "small"], ["small", "large"]],
    ids=["underflow", "overflow", "neither"],
)
def test_every_tensor_is_rounded_as_numpy_rounds_it(steps, border):
    model = chain(steps, border)
    x = np.array([1.0, -3.3, 0.1, 700.0], np.float16)
    want = x
    with np.errstate(over="ignore"):
        for step in steps:
            want = want * {"small": SMALL, "large": LARGE}[step]
    simulated = simulate_half(model)
    onnx.checker.check_model(simulated, full_check=True)
    feeds = {"x": x.astype(np.float32) if border == FLOAT else x}
    got = run(simulated, feeds)[0]
    assert got.dtype == (np.float32 if border == FLOAT else np.float16)
    np.testing.assert_array_equal(got.astype(np.float16), want)


def test_onnx_runtime_alone_rounds_nothing():
    """If this fails, the simulation is needed no more."""
    model = chain(["small"] * 2 + ["large"] * 2, FLOAT)
    assert run(model, {"x": np.ones(4, np.float32)})[0].all()


def test_an_fp32_model_stays_as_it_is():
    model = chain(["small"], FLOAT)
    simulated = simulate_half(model)
    assert list(simulate_half(simulated).graph.node) == list(simulated.graph.node)
    assert not any(t.data_type == HALF for t in simulated.graph.initializer)
