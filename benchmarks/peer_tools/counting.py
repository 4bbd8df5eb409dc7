# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""How much of a Q/DQ graph is INT8: counted from the graph alone, whoever wrote it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np
import onnx
from onnx import numpy_helper

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
# Operators that only move values: what lies on an INT8 grid before them does so behind them.
MOVERS = frozenset(
    {"Identity", "MaxPool", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze"}
    | {"Slice", "Split", "Concat", "Gather", "DepthToSpace", "SpaceToDepth"}
)


@dataclass(frozen=True)
class Int8Use:
    """What of a model is INT8.

    Attributes:
        int8_mac_share: multiply-accumulates of weighted nodes whose activation and weights both
            come through DequantizeLinear, as a share of those of all weighted nodes.
        tensorrt_mac_share: the same, where TensorRT takes every pair as it stands: activation
            scale per tensor, int8, zero points 0.
        activation_quantisers: QuantizeLinear nodes on activations.
        per_channel_activation_quantisers: those with a scale a channel.
        unsigned_activation_quantisers: those of uint8.
        offset_activation_quantisers: those with a zero point that is not 0.

    """

    int8_mac_share: float
    tensorrt_mac_share: float
    activation_quantisers: int
    per_channel_activation_quantisers: int
    unsigned_activation_quantisers: int
    offset_activation_quantisers: int


def count_int8(model: onnx.ModelProto) -> Int8Use:
    """Count what of `model` is INT8.

    Raises:
        ValueError: a weighted node's shape is unknown.

    """
    return _Graph(model).use()


def as_figures(use: Int8Use) -> dict[str, float | int]:
    """Return the figures as JSON values."""
    return {k: round(v, 4) if isinstance(v, float) else v for k, v in asdict(use).items()}


class _Graph:
    def __init__(self, model: onnx.ModelProto) -> None:
        self.graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
        self.makers = {name: node for node in self.graph.node for name in node.output if name}
        self.constants = {t.name: numpy_helper.to_array(t) for t in self.graph.initializer}
        for node in self.graph.node:
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                self.constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
        # Tensors that depend on no input of the model; nodes stand in topological order.
        self.fixed = set(self.constants)
        for node in self.graph.node:
            if all(name in self.fixed for name in node.input if name):
                self.fixed.update(node.output)
        values = [*self.graph.input, *self.graph.value_info, *self.graph.output]
        self.shapes = {
            value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
            for value in values
        }

    def use(self) -> Int8Use:
        total = int8 = tensorrt = 0
        for node in self.graph.node:
            if node.op_type not in WEIGHTED or node.input[1] not in self.fixed:
                continue
            macs = self.macs(node)
            total += macs
            pairs = [self.pairs(name) for name in node.input[:2]]
            if all(pairs):
                int8 += macs
                plain = all(self.is_symmetric(pair) for pair in [*pairs[0], *pairs[1]])
                per_tensor = all(self.scale(pair).size == 1 for pair in pairs[0])
                tensorrt += macs * (plain and per_tensor)
        quantisers = [
            node
            for node in self.graph.node
            if node.op_type == "QuantizeLinear" and node.input[0] not in self.fixed
        ]
        return Int8Use(
            int8_mac_share=int8 / total,
            tensorrt_mac_share=tensorrt / total,
            activation_quantisers=len(quantisers),
            per_channel_activation_quantisers=sum(self.scale(n).size > 1 for n in quantisers),
            unsigned_activation_quantisers=sum(
                self.zero_point(n).dtype == np.uint8 for n in quantisers
            ),
            offset_activation_quantisers=sum(
                bool(np.any(self.zero_point(n) != 0)) for n in quantisers
            ),
        )

    def pairs(self, name: str) -> list[onnx.NodeProto]:
        """Return the DequantizeLinear nodes that all of a tensor comes from; else nothing."""
        maker = self.makers.get(name)
        if maker is None:
            return []
        if maker.op_type == "DequantizeLinear":
            return [maker]
        if maker.op_type not in MOVERS:
            return []
        moved = maker.input if maker.op_type == "Concat" else maker.input[:1]
        found = [self.pairs(source) for source in moved]
        return [pair for pairs in found for pair in pairs] if all(found) else []

    def is_symmetric(self, node: onnx.NodeProto) -> bool:
        zero = self.zero_point(node)
        return zero.dtype == np.int8 and not np.any(zero)

    def scale(self, node: onnx.NodeProto) -> np.ndarray:
        return self.constants[node.input[1]]

    def zero_point(self, node: onnx.NodeProto) -> np.ndarray:
        """Return a zero point; where it is left out, 0 of the type that the standard says."""
        if len(node.input) > 2 and node.input[2]:
            return self.constants[node.input[2]]
        if node.op_type == "QuantizeLinear":
            return np.zeros(1, np.uint8)
        source = node.input[0]
        if source in self.constants:
            return np.zeros(1, self.constants[source].dtype)
        return self.zero_point(self.makers[source])

    def macs(self, node: onnx.NodeProto) -> int:
        """Return the multiply-accumulates of a weighted node."""
        weight = self.shape(node.input[1])
        if node.op_type == "ConvTranspose":
            return math.prod(self.shape(node.input[0])) * math.prod(weight[1:])
        outputs = math.prod(self.shape(node.output[0]))
        if node.op_type == "Conv":
            return outputs * math.prod(weight[1:])
        transposed = any(a.name == "transB" and a.i for a in node.attribute)
        return outputs * weight[-1 if transposed else -2]

    def shape(self, name: str) -> tuple[int, ...]:
        found = self.constants[name].shape if name in self.constants else self.shapes.get(name, ())
        if not found or not all(found):
            raise ValueError(f"the shape of {name} is unknown")
        return found
