# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Inserting QuantizeLinear/DequantizeLinear pairs: one pair a tensor, original names kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import onnx
import onnx_ir as ir
from onnx import helper

from av_compress.compress.graph import attribute
from av_compress.compress.names import Names
from av_compress.compress.plan.precision import WeightScales
from av_compress.tensors import Array

QUANTIZED, DEQUANTIZED = "_quantized", "_dequantized"

# What tells pairs apart: a tensor, the axis and the scales; or a node and which of its inputs.
_Key: TypeAlias = tuple[str, int | None, bytes, bytes] | tuple[str, int]
# Tensor name -> the lowest and the highest value that is represented.
Ranges = Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class Quantiser:
    """How a tensor becomes integers: q = clip(round(x / scale) + zero_point).

    Attributes:
        scale: float32, a scalar or one per channel; positive.
        zero_point: int8, uint8 or FP8, of the same shape.
        axis: the channel's axis; unused for a scalar scale.

    """

    scale: Array
    zero_point: Array
    axis: int = 0

    def integers(self, value: Array, lowest: int, highest: int) -> Array:
        """Quantise a constant, clipped to lowest..highest."""
        scale = self.scale
        if scale.ndim:
            scale = scale.reshape([-1 if i == self.axis else 1 for i in range(value.ndim)])
        steps = np.rint(value.astype(np.float64) / scale)
        return np.asarray(np.clip(steps, lowest, highest).astype(self.zero_point.dtype))


@dataclass(frozen=True)
class WeightGrid:
    """Which weights a form can store.

    Attributes:
        levels: largest number of steps from zero.
        snap: rounds float32 scales to what the form stores.
        scales: how many each weight has.

    """

    levels: int
    snap: Callable[[Array], Array]
    scales: WeightScales = WeightScales.CHANNEL


class Inserter:
    """Collects pairs, then writes a model with them.

    A pair on tensor `x` makes `x_quantized` and `x_dequantized`, with a number behind where the
    model has such names; consumers that asked for the pair
    read the latter, everybody else still reads `x`.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        """Start from `model`, which stays as it is."""
        self._model = onnx.ModelProto()
        self._model.CopyFrom(model)
        self._names = Names(model.graph)
        self._pairs: dict[_Key, list[onnx.NodeProto]] = {}
        self._rewired: dict[str, dict[int, _Key]] = {}
        self._added: dict[str, onnx.TensorProto] = {}

    def quantise_input(self, node: onnx.NodeProto, position: int, how: Quantiser) -> None:
        """Let a node's input come through a pair, shared by all that want the same scales.

        A weight that is read along two axes has two.
        """
        tensor = node.input[position]
        axis = how.axis if how.scale.ndim else None
        key = (tensor, axis, how.scale.tobytes(), how.zero_point.tobytes())
        if key not in self._pairs:
            self._pairs[key] = self._make_pair(tensor, how)
        self._rewire(node, position, key)

    def store_input(
        self, node: onnx.NodeProto, position: int, integers: Array, how: Quantiser
    ) -> None:
        """Let a node's constant input be stored as integers, behind a DequantizeLinear alone."""
        tensor = f"{node.name}_{node.input[position]}"
        names = [
            self._add_constant(f"{tensor}{QUANTIZED}", integers),
            self._add_constant(f"{tensor}_scale", how.scale),
            self._add_constant(f"{tensor}_zero_point", how.zero_point),
        ]
        made = self._names.tensor(f"{tensor}{DEQUANTIZED}")
        key = (node.name, position)
        self._pairs[key] = [self._make_node("DequantizeLinear", names, made, how)]
        self._rewire(node, position, key)

    def write(self) -> onnx.ModelProto:
        """Return the model with every pair right before the first node that reads it."""
        graph = self._model.graph
        nodes: list[onnx.NodeProto] = []
        written: set[_Key] = set()
        for node in graph.node:
            for position, key in sorted(self._rewired.get(node.name, {}).items()):
                pair = self._pairs[key]
                if key not in written:
                    nodes.extend(pair)
                    written.add(key)
                node.input[position] = pair[-1].output[0]
            nodes.append(node)
        del graph.node[:]
        graph.node.extend(nodes)
        graph.initializer.extend(self._added[name] for name in sorted(self._added))
        drop_unused_constants(graph)
        return self._model

    def _add_constant(self, wanted: str, value: Array) -> str:
        name = self._names.tensor(wanted)
        # Unlike ONNX's own helper of older releases, this knows FP8.
        self._added[name] = ir.to_proto(ir.tensor(value, name=name))
        return name

    def _rewire(self, node: onnx.NodeProto, position: int, key: _Key) -> None:
        self._rewired.setdefault(node.name, {})[position] = key

    def _make_pair(self, tensor: str, how: Quantiser) -> list[onnx.NodeProto]:
        scale = self._add_constant(f"{tensor}_scale", how.scale)
        zero_point = self._add_constant(f"{tensor}_zero_point", how.zero_point)
        quantized = self._names.tensor(f"{tensor}{QUANTIZED}")
        dequantized = self._names.tensor(f"{tensor}{DEQUANTIZED}")
        return [
            self._make_node("QuantizeLinear", [tensor, scale, zero_point], quantized, how),
            self._make_node("DequantizeLinear", [quantized, scale, zero_point], dequantized, how),
        ]

    def _make_node(
        self, op_type: str, inputs: list[str], output: str, how: Quantiser
    ) -> onnx.NodeProto:
        name = self._names.node(f"{output}_{op_type}")
        node = helper.make_node(op_type, inputs, [output], name=name)
        # The axis means nothing for a scalar, and parsers are spared the question.
        if how.scale.ndim:
            node.attribute.append(helper.make_attribute("axis", how.axis))
        return node


def weight_axis(node: onnx.NodeProto) -> int | None:
    """Return the axis of the output channels in a node's weight; None: quantise per tensor."""
    if node.op_type == "Conv":
        return 0
    if node.op_type == "ConvTranspose":
        # With groups, the axis counts channels of one group, and scales would be shared by force.
        return 1 if attribute(node, "group", 1) == 1 else None
    if node.op_type == "Gemm":
        return 0 if attribute(node, "transB", 0) else 1
    return 1


def symmetric_weight(weight: Array, axis: int | None, levels: int) -> Quantiser:
    """Quantise weights to [-levels, levels], zero at zero, by their largest magnitude.

    Args:
        weight: float32.
        axis: channel axis for one scale a channel; None for one scale.
        levels: 127 for INT8, 63 where integer sums would overflow (reduced range); 448 for FP8
            (E4M3), whose largest number that is.

    """
    if axis is None:
        largest = np.abs(weight).max(initial=0.0, keepdims=False)
    else:
        others = tuple(i for i in range(weight.ndim) if i != axis)
        largest = np.abs(weight).max(axis=others, initial=0.0)
    scale = with_dead_channels(np.asarray(largest, np.float64) / levels)
    scale32 = np.maximum(scale, np.finfo(np.float32).tiny).astype(np.float32)
    return Quantiser(scale32, np.zeros(scale32.shape, np.int8), axis or 0)


def with_dead_channels(scales: Array) -> Array:
    """Give channels that are all zeros, and with that their scale, the largest one of the others.

    Any positive one will do for them; but whether FP16 holds a tensor's scales is judged by those
    that weigh, and none of the tensor's own may be hidden by one that stands for nothing.
    """
    largest = float(scales.max(initial=0.0))
    return np.asarray(np.where(scales > 0, scales, largest or 1.0))


def symmetric_activation(low: float, high: float, levels: int = 127) -> Quantiser:
    """Quantise activations with zero at zero; for `levels` see `symmetric_weight`."""
    scale = _positive(max(abs(low), abs(high)) / levels)
    return Quantiser(np.asarray(scale, np.float32), np.asarray(0, np.int8))


def _positive(scale: float) -> float:
    """Return a scale that is positive in float32; for a tensor that is always zero any will do."""
    return max(scale, float(np.finfo(np.float32).tiny)) if scale > 0 else 1.0


def affine_activation(low: float, high: float) -> Quantiser:
    """Quantise activations to [0, 255], zero exactly representable."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = _positive((high - low) / 255.0)
    zero_point = int(np.clip(np.rint(-low / scale), 0, 255))
    return Quantiser(np.asarray(scale, np.float32), np.asarray(zero_point, np.uint8))


def drop_unused_constants(graph: onnx.GraphProto) -> None:
    """Remove the initialisers that nothing reads."""
    used = {name for node in graph.node for name in node.input}
    used |= {value.name for value in graph.output}
    if _has_subgraphs(graph):
        return
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _has_subgraphs(graph: onnx.GraphProto) -> bool:
    """Tell whether subgraphs exist, which may read any constant by name."""
    return any(
        a.type in {onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS}
        for node in graph.node
        for a in node.attribute
    )
