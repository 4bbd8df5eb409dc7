# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Weighted nodes as matrices: output channels by what each of them sums over."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx

from av_compress.compress.graph import (
    GraphIndex,
    attribute,
    float_attribute,
    int_list,
    text_attribute,
)
from av_compress.tensors import Array

Floats = npt.NDArray[np.float64]


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
        """View a node; None where it is none of these, or its weights are no matrix.

        None too for a Gemm with factors of its own: its outputs are not the sums of its weights.
        """
        weight = index.weight(node)
        if weight is None or node.op_type not in {"Conv", "Gemm", "MatMul"}:
            return None
        if node.op_type == "Gemm" and not _is_plain(node):
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

    @property
    def taps(self) -> int:
        """How many weights an output channel has for one input channel."""
        return int(np.prod(self.weight.shape[2:])) if self.node.op_type == "Conv" else 1

    @property
    def padded(self) -> bool:
        """Tell whether a convolution pads its input, with zeros."""
        automatic = text_attribute(self.node, "auto_pad", "NOTSET")
        return automatic.startswith("SAME") or any(int_list(self.node, "pads"))

    def matrix(self) -> Floats:
        """Return the weights as float64 [groups, outputs of a group, channels of a group * taps].

        The last axis holds a channel's taps next to each other.
        """
        exact = self.weight.astype(np.float64)
        if self.node.op_type == "Conv":
            return exact.reshape(self.groups, len(exact) // self.groups, -1)
        return (exact if self._transposed else exact.T)[None]

    def stored(self, matrix: Floats) -> Array:
        """Return weights in the form of `matrix` as they are stored: the inverse of it."""
        if self.node.op_type == "Conv":
            shaped = matrix.reshape(self.weight.shape)
        else:
            shaped = matrix[0] if self._transposed else matrix[0].T
        return np.ascontiguousarray(shaped.astype(self.weight.dtype))

    def scale_channels(self, factors: Array) -> Array:
        """Return the stored weights with every input channel's multiplied by its factor.

        Args:
            factors: one per input channel.

        """
        values = np.asarray(factors, np.float64).reshape(self.groups, -1)
        return self.stored(self.matrix() * np.repeat(values, self.taps, axis=1)[:, None, :])

    def response(self, values: Array) -> Floats:
        """Return what the output channels sum up to where every input channel is constant.

        Args:
            values: one per input channel; zero padding does not count.

        Returns:
            float64 [output channels].

        """
        constant = np.asarray(values, np.float64).reshape(self.groups, -1)
        spread = np.repeat(constant, self.taps, axis=1)
        return np.asarray(np.einsum("gok,gk->go", self.matrix(), spread).reshape(-1))

    @property
    def _transposed(self) -> bool:
        return self.node.op_type == "Gemm" and bool(attribute(self.node, "transB", 0))


def _is_plain(node: onnx.NodeProto) -> bool:
    """Tell whether a Gemm is a product and a sum, and nothing more."""
    factors = {float_attribute(node, name, 1.0) for name in ("alpha", "beta")}
    return factors == {1.0} and not attribute(node, "transA", 0)


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
