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
        if self.node.op_type == "Conv":
            return int(self.weight.shape[1]) * self.groups
        return int(self.weight.shape[1 if self._transposed else 0])

    def scale_channels(self, factors: Array) -> Array:
        """Return the stored weights with every input channel's multiplied by its factor.

        Args:
            factors: one per input channel.

        """
        exact = self.weight.astype(np.float64)
        values = np.asarray(factors, np.float64)
        if self.node.op_type == "Conv":
            # [groups, outputs of a group, channels of a group, taps] by [groups, 1, channels, 1].
            outputs = self.weight.shape[0] // self.groups
            inputs = self.weight.shape[1]
            grouped = exact.reshape(self.groups, outputs, inputs, -1)
            scaled = grouped * values.reshape(self.groups, 1, inputs, 1)
        else:
            scaled = exact * (values[None, :] if self._transposed else values[:, None])
        shaped = scaled.reshape(self.weight.shape)
        return np.ascontiguousarray(shaped.astype(self.weight.dtype))

    @property
    def _transposed(self) -> bool:
        return self.node.op_type == "Gemm" and bool(attribute(self.node, "transB", 0))
