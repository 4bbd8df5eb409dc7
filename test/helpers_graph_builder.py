# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Writes a graph node by node, and knows the shape of every tensor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

INPUT = "image"
ACTIVATIONS = ("Relu", "LeakyRelu", "PRelu", "Clip", "SiLU", "HardSwish", "Elu", "none")


class RandomGraph:
    """Builds a graph; knows every tensor's shape. Images are [1, c, h, w], tokens [1, n, d]."""

    def __init__(self, seed: int, channels: int = 4, side: int = 8) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.shapes: dict[str, tuple[int, ...]] = {INPUT: (1, channels, side, side)}
        self.images = [INPUT]
        self.outputs: list[str] = []

    def add(self, op_type: str, inputs: Sequence[str], shape: Sequence[int], **attributes) -> str:
        name = f"t{len(self.nodes)}"
        node = helper.make_node(op_type, inputs, [name], name=f"{op_type}_{name}", **attributes)
        self.nodes.append(node)
        self.shapes[name] = tuple(int(extent) for extent in shape)
        return name

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def normal(self, shape: Sequence[int], fan: int) -> str:
        return self.constant(self.rng.normal(0, np.sqrt(2 / fan), shape))

    def pick(self, options: Sequence[Any]) -> Any:
        return options[int(self.rng.integers(len(options)))]

    def conv(self, source: str, channels: int, size: int = 3, **extra) -> str:
        _, inside, height, width = self.shapes[source]
        group = extra.get("group", 1)
        weight = self.normal((channels, inside // group, size, size), inside // group * size**2)
        bias = (
            [] if self.rng.random() < 0.3 else [self.constant(self.rng.normal(0, 0.1, channels))]
        )
        attributes = {"pads": [size // 2] * 4, "strides": [1, 1], "dilations": [1, 1], **extra}
        top, left, bottom, right = attributes["pads"]
        reach = attributes["dilations"][0] * (size - 1) + 1
        stride = attributes["strides"][0]
        sides = (height + top + bottom, width + left + right)
        shape = (1, channels, *((side - reach) // stride + 1 for side in sides))
        return self.add("Conv", [source, weight, *bias], shape, **attributes)

    def same(self, op_type: str, *inputs: str, **attributes) -> str:
        return self.add(op_type, inputs, self.shapes[inputs[0]], **attributes)

    def activated(self, source: str) -> str:
        kind = self.pick(
            ["Relu", "LeakyRelu", "PRelu", "Clip", "SiLU", "HardSwish", "Elu", "none"]
        )
        channels = self.shapes[source][1]
        if kind == "PRelu":
            slope = self.constant(self.rng.uniform(0, 0.3, (channels, 1, 1)))
            return self.same("PRelu", source, slope)
        if kind == "Clip":
            return self.same("Clip", source, self.constant(0), self.constant(6))
        if kind == "SiLU":
            return self.same("Mul", source, self.same("Sigmoid", source))
        if kind == "HardSwish":
            shifted = self.same("Add", source, self.constant(3))
            clipped = self.same("Clip", shifted, self.constant(0), self.constant(6))
            return self.same("Div", self.same("Mul", source, clipped), self.constant(6))
        return source if kind == "none" else self.same(kind, source)

    def transposed(self, source: str, perm: Sequence[int]) -> str:
        shape = [self.shapes[source][axis] for axis in perm]
        return self.add("Transpose", [source], shape, perm=list(perm))

    def reshaped(self, source: str, shape: Sequence[int]) -> str:
        return self.add("Reshape", [source, self.constant(shape, np.int64)], shape)

    def linear(self, source: str, width: int) -> str:
        *outer, depth = self.shapes[source]
        product = self.add("MatMul", [source, self.normal((depth, width), depth)], (*outer, width))
        return self.same("Add", product, self.constant(self.rng.normal(0, 0.1, width)))

    def normalised(self, source: str) -> str:
        """LayerNorm over the last axis, as exporters before opset 17 write it."""
        shape = (*self.shapes[source][:-1], 1)
        mean = self.add("ReduceMean", [source], shape, axes=[-1])
        centred = self.same("Sub", source, mean)
        squared = self.same("Pow", centred, self.constant(2))
        variance = self.add("ReduceMean", [squared], shape, axes=[-1])
        spread = self.same("Sqrt", self.same("Add", variance, self.constant(1e-5)))
        return self.same("Div", centred, spread)

    def model(self, opset: int = 13) -> onnx.ModelProto:
        outputs = self.outputs or [self.images[-1]]
        graph = helper.make_graph(
            self.nodes,
            "random",
            [_value(INPUT, self.shapes[INPUT])],
            [_value(name, self.shapes[name]) for name in dict.fromkeys(outputs)],
            self.constants,
        )
        opsets = [helper.make_opsetid("", opset)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def _value(name: str, shape: Sequence[int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
