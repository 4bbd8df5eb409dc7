# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Questions that passes ask of a graph."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

import numpy as np
import onnx
from onnx import numpy_helper

from av_compress.tensors import Array

# Operators with weights, and which of their inputs is the weight.
WEIGHTED: Mapping[str, int] = {"Conv": 1, "ConvTranspose": 1, "Gemm": 1, "MatMul": 1}

_CONTROL_FLOW = frozenset({"If", "Loop", "Scan", "SequenceMap"})


class GraphIndex:
    """Looks up producers, consumers, constants and shapes of a model's top-level graph."""

    def __init__(self, model: onnx.ModelProto) -> None:
        """Index `model`, whose shapes have been inferred; it must not change afterwards."""
        self.model = model
        self.graph = model.graph

    @cached_property
    def producers(self) -> Mapping[str, onnx.NodeProto]:
        """Tensor name -> the node that makes it."""
        return {name: node for node in self.graph.node for name in node.output if name}

    @cached_property
    def consumers(self) -> Mapping[str, list[onnx.NodeProto]]:
        """Tensor name -> the nodes that read it, in graph order, be it in their subgraphs."""
        found: dict[str, list[onnx.NodeProto]] = {}
        for node in self.graph.node:
            names = (*node.input, *captured(node)) if holds_graphs(node) else node.input
            for name in dict.fromkeys(names):
                found.setdefault(name, []).append(node)
        return found

    @cached_property
    def constants(self) -> Mapping[str, onnx.TensorProto]:
        """Initialiser name -> tensor."""
        return {tensor.name: tensor for tensor in self.graph.initializer}

    @cached_property
    def outputs(self) -> frozenset[str]:
        """Names of the graph's outputs."""
        return frozenset(value.name for value in self.graph.output)

    @cached_property
    def types(self) -> Mapping[str, onnx.TypeProto.Tensor]:
        """Tensor name -> element type and shape."""
        values = [*self.graph.input, *self.graph.value_info, *self.graph.output]
        return {value.name: value.type.tensor_type for value in values}

    def shape(self, name: str) -> tuple[int | None, ...] | None:
        """Return a tensor's extents, None where dynamic; None where nothing is known."""
        if name in self.constants:
            return tuple(self.constants[name].dims)
        kind = self.types.get(name)
        if kind is None or not kind.HasField("shape"):
            return None
        return tuple(
            dim.dim_value if dim.HasField("dim_value") else None for dim in kind.shape.dim
        )

    def is_float(self, name: str) -> bool:
        """Tell whether a tensor is float32."""
        if name in self.constants:
            return bool(self.constants[name].data_type == onnx.TensorProto.FLOAT)
        kind = self.types.get(name)
        return kind is not None and kind.elem_type == onnx.TensorProto.FLOAT

    def constant(self, name: str) -> Array | None:
        """Return a constant's value, None where `name` is no constant."""
        tensor = self.constants.get(name)
        return None if tensor is None else numpy_helper.to_array(tensor)

    def weight(self, node: onnx.NodeProto) -> Array | None:
        """Return the constant weight of a weighted node, None where it has none."""
        position = WEIGHTED.get(node.op_type)
        if position is None or len(node.input) <= position:
            return None
        return self.constant(node.input[position])

    def macs(self, node: onnx.NodeProto) -> int:
        """Return the multiply-accumulates of a weighted node for one frame; 0 for others.

        Dynamic extents count as 1.
        """
        position = WEIGHTED.get(node.op_type)
        if position is None or len(node.input) <= position:
            return 0
        weight = self.constants.get(node.input[position])
        return 0 if weight is None else self.macs_with(node, tuple(weight.dims))

    def macs_with(self, node: onnx.NodeProto, weight: tuple[int, ...]) -> int:
        """Return the multiply-accumulates of a weighted node whose weight has a shape."""
        shape = self.shape(node.output[0]) or ()
        extents = [extent or 1 for extent in shape]
        if node.op_type == "Conv":
            return math.prod(extents) * math.prod(weight[1:])
        if node.op_type == "ConvTranspose":
            source = [extent or 1 for extent in self.shape(node.input[0]) or ()]
            return math.prod(source) * math.prod(weight[1:])
        return math.prod(extents) * _depth(node, weight)


def _depth(node: onnx.NodeProto, weight: tuple[int, ...]) -> int:
    """Return over how much a product of matrices sums; 0 for what is no valid weight."""
    if not weight or (node.op_type == "Gemm" and len(weight) != 2):
        return 0
    if node.op_type == "Gemm" and attribute(node, "transB", 0):
        return weight[1]
    # A vector has one axis, and the product none of it.
    return weight[max(len(weight) - 2, 0)]


def content(tensor: onnx.TensorProto) -> Array | None:
    """Return a tensor's value; None where its data is not what its type and shape say."""
    try:
        return numpy_helper.to_array(tensor)
    except (ValueError, TypeError, KeyError):
        return None


def holds_graphs(node: onnx.NodeProto) -> bool:
    """Tell whether a node may hold subgraphs; true of control flow, and of what is not ONNX's."""
    return bool(node.domain) or node.op_type in _CONTROL_FLOW


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Yield the graphs that a node of control flow holds, without theirs."""
    for attr in node.attribute:
        if attr.type == onnx.AttributeProto.GRAPH:
            yield attr.g
        elif attr.type == onnx.AttributeProto.GRAPHS:
            yield from attr.graphs


def nested_nodes(node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    """Yield the nodes of a node's subgraphs, and of theirs."""
    for graph in subgraphs(node):
        for inner in graph.node:
            yield inner
            yield from nested_nodes(inner)


def captured(node: onnx.NodeProto) -> Iterator[str]:
    """Yield the names that a node's subgraphs read, those of their own tensors among them."""
    for graph in subgraphs(node):
        yield from (value.name for value in graph.output)
    for inner in nested_nodes(node):
        yield from inner.input
        for graph in subgraphs(inner):
            yield from (value.name for value in graph.output)


def attribute(node: onnx.NodeProto, name: str, default: int) -> int:
    """Return an integer attribute of a node."""
    return next((int(a.i) for a in node.attribute if a.name == name), default)


def float_attribute(node: onnx.NodeProto, name: str, default: float) -> float:
    """Return a float attribute of a node."""
    return next((float(a.f) for a in node.attribute if a.name == name), default)


def text_attribute(node: onnx.NodeProto, name: str, default: str = "") -> str:
    """Return a text attribute of a node."""
    return next((str(a.s, "utf-8") for a in node.attribute if a.name == name), default)


def int_list(node: onnx.NodeProto, name: str, default: Sequence[int] = ()) -> list[int]:
    """Return a list of integers among a node's attributes."""
    return next((list(a.ints) for a in node.attribute if a.name == name), list(default))


def dequantised(index: GraphIndex, node: onnx.NodeProto) -> Array | None:
    """Return what a DequantizeLinear makes of constants, None where it reads none."""
    values = [index.constant(name) for name in node.input]
    if any(value is None for value in values):
        return None
    integers, scale = np.asarray(values[0]), np.asarray(values[1])
    axis = attribute(node, "axis", 1) % max(integers.ndim, 1)
    shape = [-1 if i == axis else 1 for i in range(integers.ndim)] if scale.ndim else []
    offset = np.zeros(1) if len(values) < 3 else np.asarray(values[2], np.float64).reshape(shape)
    exact = (integers.astype(np.float64) - offset) * scale.astype(np.float64).reshape(shape)
    return np.asarray(exact.astype(scale.dtype))


def is_depthwise(node: onnx.NodeProto, weight: Array) -> bool:
    """Tell whether a convolution, transposed or not, has channels that do not mix."""
    convolves = node.op_type in {"Conv", "ConvTranspose"}
    return convolves and attribute(node, "group", 1) > 1 and weight.shape[1] == 1
