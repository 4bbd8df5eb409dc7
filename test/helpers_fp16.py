# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Small graphs for the FP16 cast."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HALF, FLOAT = TensorProto.FLOAT16, TensorProto.FLOAT

# An input of what `graph` makes.
X = np.array([[0.5, -2.0, 3.0, 0.0], [1.0, 8.0, -0.25, 100.0]], np.float32)


def graph(nodes, constants=None, outputs=("y",), opsets=()):
    """Make a model of [2, 4] tensors; a product first and last, which FP16 is worth a cast."""
    constants = {"w": np.eye(4, dtype=np.float32), **(constants or {})}
    made = helper.make_graph(
        [node("MatMul", "in w", "x"), *nodes, node("MatMul", "y w", "out")],
        "graph",
        [helper.make_tensor_value_info("in", FLOAT, [2, 4])],
        [helper.make_tensor_value_info("out", FLOAT, [2, 4])],
        [numpy_helper.from_array(np.asarray(v), n) for n, v in constants.items()],
    )
    opset_imports = [helper.make_opsetid("", 19), *opsets]
    model = helper.make_model(made, opset_imports=opset_imports, ir_version=9)
    return onnx.shape_inference.infer_shapes(model)


def node(op_type: str, inputs: str, outputs: str, **attributes) -> onnx.NodeProto:
    domain = attributes.pop("domain", "")
    name = f"{op_type} {outputs}"
    return helper.make_node(
        op_type, inputs.split(), outputs.split(), name=name, domain=domain, **attributes
    )


def branches() -> onnx.ModelProto:
    """Make a model whose branches read tensors, and a constant, of the graph around them."""

    def branch(op_type: str, name: str) -> onnx.GraphProto:
        value = helper.make_tensor_value_info(name, FLOAT, None)
        return helper.make_graph([node(op_type, "a c", name)], name, [], [value])

    choice = {"then_branch": branch("Add", "t"), "else_branch": branch("Mul", "e")}
    return graph(
        [
            node("Mul", "x c", "a"),
            node("ReduceSum", "a", "total", keepdims=0),
            node("Greater", "total zero", "positive"),
            node("If", "positive", "b", **choice),
            node("Relu", "b", "d"),
            node("Add", "d a", "y"),
        ],
        {"c": np.array([2, 3, 4, 5], np.float32), "zero": np.float32(0)},
    )
