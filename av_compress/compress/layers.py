# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Weighted nodes by their input channels, wherever their operators keep these."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx

from av_compress.compress.graph import GraphIndex, attribute
from av_compress.tensors import Array


@dataclass(frozen=True)
class Layer:
    """A Conv, Gemm or MatMul with constant weights.

    Attributes:
        node: the node.
        weight: its weights as they are stored.
        groups: of a convolution; else 1.

    """

    node: onnx.NodeProto
    weight: Array
    groups: int

    @staticmethod
    def of(index: GraphIndex, node: onnx.NodeProto) -> Layer | None:
        """View a node; None where it is none of these, or its weights are no matrix."""
        weight = index.weight(node)
        if weight is None or node.op_type not in {"Conv", "Gemm", "MatMul"}:
            return None
        if node.op_type == "Gemm" and attribute(node, "transA", 0):
            return None
        if node.op_type == "MatMul" and weight.ndim != 2:
            return None
        return Layer(node, weight, attribute(node, "group", 1))

    @property
    def name(self) -> str:
        """The node's name."""
        return str(self.node.name)

    @property
    def channel_axis(self) -> int:
        """Axis of the input tensor that holds its channels."""
        return 1 if self.node.op_type == "Conv" else -1

    @property
    def channels(self) -> int:
        """How many channels the input has."""
        return input_channels(self.node, self.weight)

    def scale_channels(self, factors: Array) -> Array:
        """Return the stored weights with every input channel's multiplied by its factor.

        Args:
            factors: one per input channel.

        """
        exact = self.weight.astype(np.float64)
        scaled = exact * per_input(self.node, self.weight, np.asarray(factors, np.float64))
        return np.ascontiguousarray(scaled.astype(self.weight.dtype))


def input_channels(node: onnx.NodeProto, weight: Array) -> int:
    """Count the input channels of a weighted node."""
    if node.op_type == "Conv":
        return int(weight.shape[1]) * attribute(node, "group", 1)
    if node.op_type == "ConvTranspose":
        return int(weight.shape[0])
    return int(weight.shape[1 if attribute(node, "transB", 0) else 0])


def output_channels(node: onnx.NodeProto, weight: Array) -> int:
    """Count the output channels of a weighted node."""
    if node.op_type == "Conv":
        return int(weight.shape[0])
    if node.op_type == "ConvTranspose":
        return int(weight.shape[1]) * attribute(node, "group", 1)
    return int(weight.shape[0 if attribute(node, "transB", 0) else 1])


def per_input(node: onnx.NodeProto, weight: Array, values: Array) -> Array:
    """Give one value an input channel the shape in which it multiplies a node's weight."""
    ones = (1,) * (weight.ndim - 2)
    if node.op_type == "ConvTranspose":
        return values.reshape(-1, 1, *ones)
    if node.op_type == "Conv":
        groups = attribute(node, "group", 1)
        rows = np.repeat(values.reshape(groups, -1), weight.shape[0] // groups, axis=0)
        return rows.reshape(*weight.shape[:2], *ones)
    return values[None, :] if attribute(node, "transB", 0) else values[:, None]


def per_output(node: onnx.NodeProto, weight: Array, values: Array) -> Array:
    """Give one value an output channel the shape in which it multiplies a node's weight."""
    ones = (1,) * (weight.ndim - 2)
    if node.op_type == "Conv":
        return values.reshape(-1, 1, *ones)
    if node.op_type == "ConvTranspose":
        groups = attribute(node, "group", 1)
        rows = np.repeat(values.reshape(groups, -1), weight.shape[0] // groups, axis=0)
        return rows.reshape(*weight.shape[:2], *ones)
    return values[:, None] if attribute(node, "transB", 0) else values[None, :]
