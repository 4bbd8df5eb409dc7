# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Small quantised graphs, right and wrong ones, each made out of one that is right."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CHANNELS, SIDE = 16, 8
IMAGE = [1, CHANNELS, SIDE, SIDE]


class Draft:
    """A graph in the making: nodes in order, constants by name, inputs and outputs."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []
        self.functions: list[Any] = []

    def node(self, op_type: str, inputs: str, output: str, **attributes: Any) -> Draft:
        """Append a node that is called, where no name is given, as its first output is."""
        made = helper.make_node(op_type, _names(inputs), _names(output), **attributes)
        made.name = attributes.get("name", _names(output)[0])
        self.nodes.append(made)
        return self

    def before(self, name: str, op_type: str, inputs: str, output: str, **attributes) -> Draft:
        """Put a node before another."""
        self.node(op_type, inputs, output, **attributes)
        self.nodes.insert(self._position(name), self.nodes.pop())
        return self

    def drop(self, *names: str) -> Draft:
        """Take nodes out."""
        self.nodes = [node for node in self.nodes if node.name not in names]
        return self

    def rewire(self, name: str, position: int, tensor: str) -> Draft:
        """Let a node read another tensor."""
        self.nodes[self._position(name)].input[position] = tensor
        return self

    def const(self, name: str, value: Any) -> Draft:
        """Add a constant, or give one another value."""
        self.constants[name] = (
            value if isinstance(value, onnx.TensorProto) else numpy_helper.from_array(value, name)
        )
        return self

    def input(self, name: str, shape: list[Any], kind: int = TensorProto.FLOAT) -> Draft:
        self.inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return self

    def output(self, name: str, shape: list[Any], kind: int = TensorProto.FLOAT) -> Draft:
        """Make a tensor the graph's only output."""
        self.outputs = [helper.make_tensor_value_info(name, kind, shape)]
        return self

    def model(self, opset: int = 19, **others: int) -> onnx.ModelProto:
        """Write the model; `others` are opsets of other domains, _ for the dot in their names."""
        graph = helper.make_graph(
            self.nodes, "draft", self.inputs, self.outputs, list(self.constants.values())
        )
        opsets = [helper.make_opsetid("", opset)]
        opsets += [helper.make_opsetid(k.replace("_", "."), v) for k, v in others.items()]
        return helper.make_model(
            graph, opset_imports=opsets, ir_version=10, functions=self.functions
        )

    def _position(self, name: str) -> int:
        return next(i for i, node in enumerate(self.nodes) if node.name == name)


def _names(text: str) -> list[str]:
    """Split names; - is one that is left out."""
    return ["" if name == "-" else name for name in text.split()]


def convolution(dtype: Any = np.float32, group: int = 1, axis: int = 0) -> Draft:
    """x -> x_q -> x_d, w -> w_q -> w_d, conv(x_d, w_d, b) -> y: all as TensorRT wants it."""
    rng = np.random.default_rng(0)
    draft = Draft()
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    draft.input("x", IMAGE, kind).output("y", IMAGE, kind)
    weight = rng.normal(size=(CHANNELS, CHANNELS // group, 3, 3)).astype(dtype)
    draft.const("w", weight).const("b", np.zeros(CHANNELS, dtype))
    draft.const("x_scale", np.asarray(0.05, dtype)).const("x_zero", np.int8(0))
    scales = np.full(CHANNELS, np.abs(weight).max() / 127, dtype)
    draft.const("w_scale", scales).const("w_zero", np.zeros(CHANNELS, np.int8))
    draft.node("QuantizeLinear", "x x_scale x_zero", "x_q")
    draft.node("DequantizeLinear", "x_q x_scale x_zero", "x_d")
    draft.node("QuantizeLinear", "w w_scale w_zero", "w_q", axis=axis)
    draft.node("DequantizeLinear", "w_q w_scale w_zero", "w_d", axis=axis)
    return draft.node("Conv", "x_d w_d b", "y", name="conv", pads=[1] * 4, group=group)


def product(op_type: str = "MatMul", axis: int = 1, **attributes: Any) -> Draft:
    """Return a quantised matrix product of [8, 16] by [16, 32], named conv as well."""
    rng = np.random.default_rng(0)
    shape = (32, 16) if attributes.get("transB") else (16, 32)
    draft = Draft().input("x", [8, 16]).output("y", [8, 32])
    draft.const("w", rng.normal(size=shape).astype(np.float32))
    draft.const("x_scale", np.float32(0.05)).const("x_zero", np.int8(0))
    draft.const("w_scale", np.full(shape[axis], 0.04, np.float32))
    draft.const("w_zero", np.zeros(shape[axis], np.int8))
    draft.node("QuantizeLinear", "x x_scale x_zero", "x_q")
    draft.node("DequantizeLinear", "x_q x_scale x_zero", "x_d")
    draft.node("QuantizeLinear", "w w_scale w_zero", "w_q", axis=axis)
    draft.node("DequantizeLinear", "w_q w_scale w_zero", "w_d", axis=axis)
    return draft.node(op_type, "x_d w_d", "y", name="conv", **attributes)


def floats(*nodes: tuple[str, str, str, dict[str, Any]], output: list[Any] | None = None) -> Draft:
    """Return a float graph of x to the last node's output."""
    draft = Draft().input("x", IMAGE)
    for op_type, inputs, made, attributes in nodes:
        draft.node(op_type, inputs, made, **attributes)
    return draft.output(nodes[-1][2], output or IMAGE)


def residual(*quantised: str) -> Draft:
    """conv(x) + x -> ReLU -> a second INT8 convolution; what of the sum comes through pairs."""
    draft = convolution()
    names = {"branch": "y", "skip": "x_d" if "skip" in quantised else "x"}
    if "branch" in quantised:
        draft.node("QuantizeLinear", "y x_scale x_zero", "y_q")
        draft.node("DequantizeLinear", "y_q x_scale x_zero", "y_d")
        names["branch"] = "y_d"
    draft.node("Add", f"{names['branch']} {names['skip']}", "sum").node("Relu", "sum", "r")
    draft.node("QuantizeLinear", "r x_scale x_zero", "r_q")
    draft.node("DequantizeLinear", "r_q x_scale x_zero", "r_d")
    draft.node("Conv", "r_d w_d b", "z", name="conv2", pads=[1] * 4)
    return draft.output("z", IMAGE)


def paired(op_type: str, inputs: str, **attributes) -> Draft:
    """Let an operator read conv(x) through a pair."""
    draft = convolution().node("QuantizeLinear", "y x_scale x_zero", "y_q")
    draft.node("DequantizeLinear", "y_q x_scale x_zero", "y_d")
    return draft.node(op_type, inputs, "z", **attributes).output("z", IMAGE)
