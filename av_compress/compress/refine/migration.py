# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Scale migration: channels of an activation made alike, the difference moved into the weights.

One scale for all channels of an activation leaves the small channels a few steps. Dividing channel
c by a factor m_c, and multiplying what the weights do with that channel by m_c, changes nothing in
real arithmetic, but gives every channel its share of the steps. For a depthwise convolution, whose
weights have a scale of their own for each channel, it is free; for others the weights' steps pay
(Xiao et al., SmoothQuant, 2022; Nagel et al., Data-Free Quantization, 2019).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper

from av_compress.compress.graph import GraphIndex
from av_compress.compress.layers import Layer
from av_compress.errors import ModelError
from av_compress.tensors import Array

# f(a x) = a f(x) for every positive a, each channel by itself.
_HOMOGENEOUS = frozenset(
    {"Relu", "LeakyRelu", "PRelu", "MaxPool", "AveragePool", "GlobalAveragePool", "Identity"}
)


@dataclass(frozen=True)
class Migrated:
    """A migration that was made.

    Attributes:
        node: the node whose weights took the factors.
        folded_into: the convolution that took their inverse; empty where a multiplication does.
        added: name of that multiplication; empty where it was folded.
        spread: largest factor over smallest.

    """

    node: str
    folded_into: str
    added: str
    spread: float

    @property
    def description(self) -> str:
        """In words, for a plan's reasons."""
        where = f"folded into {self.folded_into}" if self.folded_into else "by a multiplication"
        return f"scales migrated, {where} (spread {self.spread:.3g})"


def migrate(
    model: onnx.ModelProto, factors: Mapping[str, Array]
) -> tuple[onnx.ModelProto, tuple[Migrated, ...]]:
    """Migrate scales in a model.

    Args:
        model: prepared FP32 model; it stays as it is.
        factors: node name -> m_c, positive, one per channel of the node's input.

    Returns:
        the model, equal in real arithmetic, and what was done to each node.

    Raises:
        ModelError: a node is absent or none whose input channels can be scaled.

    """
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    made = tuple(_migrate_one(changed, name, value) for name, value in factors.items())
    return changed, made


def folding_target(index: GraphIndex, node: onnx.NodeProto) -> onnx.NodeProto | None:
    """Return the convolution that can take the inverse of a node's factors, if there is one.

    Between the two, values may only pass through what is positively homogeneous and keeps
    channels apart, and nobody else may see them.
    """
    name = node.input[0]
    while True:
        producer = index.producers.get(name)
        if producer is None or name in index.outputs or len(index.consumers[name]) != 1:
            return None
        layer = Layer.of(index, producer)
        if layer is not None and producer.op_type == "Conv":
            return producer
        if producer.op_type not in _HOMOGENEOUS or len(producer.output) != 1:
            return None
        name = producer.input[0]


def _migrate_one(model: onnx.ModelProto, name: str, factors: Array) -> Migrated:
    index = GraphIndex(model)
    node = next((n for n in model.graph.node if n.name == name), None)
    layer = None if node is None else Layer.of(index, node)
    if node is None or layer is None:
        raise ModelError(f"no node {name!r} whose input channels can be scaled")
    if factors.size != layer.channels or not (factors > 0).all():
        raise ModelError(f"node {name!r} needs one positive factor for each input channel")
    target = folding_target(index, node)
    _set_weight(model, node, 1, layer.scale_channels(factors))
    added = ""
    if target is not None:
        _divide_outputs(model, index, target, factors)
    else:
        added = _insert_multiplication(model, index, layer, factors)
    spread = float(factors.max() / factors.min())
    return Migrated(name, target.name if target is not None else "", added, spread)


def _divide_outputs(
    model: onnx.ModelProto, index: GraphIndex, node: onnx.NodeProto, factors: Array
) -> None:
    weight = index.weight(node)
    assert weight is not None
    divided = weight / factors.reshape(-1, *(1,) * (weight.ndim - 1))
    bias = index.constant(node.input[2]) if len(node.input) > 2 else None
    _set_weight(model, node, 1, divided.astype(np.float32))
    if bias is not None:
        _set_weight(model, node, 2, (bias / factors).astype(np.float32))


def _insert_multiplication(
    model: onnx.ModelProto, index: GraphIndex, layer: Layer, factors: Array
) -> str:
    node, source = layer.node, layer.node.input[0]
    shape = [1] * len(index.shape(source) or layer.weight.shape)
    shape[layer.channel_axis] = -1
    made, inverse = f"{node.name}_migrated", f"{node.name}_migration"
    value = (1.0 / factors).astype(np.float32).reshape(shape)
    model.graph.initializer.append(numpy_helper.from_array(value, inverse))
    multiplication = helper.make_node("Mul", [source, inverse], [made], name=f"{made}_Mul")
    position = next(i for i, n in enumerate(model.graph.node) if n.name == node.name)
    known = index.types.get(source)
    if known is not None:
        info = model.graph.value_info.add(name=made)
        info.type.tensor_type.CopyFrom(known)
    node.input[0] = made
    model.graph.node.insert(position, multiplication)
    return str(multiplication.name)


def _set_weight(model: onnx.ModelProto, node: onnx.NodeProto, position: int, value: Array) -> None:
    """Give a node a constant of its own: another may share the one that it had."""
    old = node.input[position]
    shared = sum(list(n.input).count(old) for n in model.graph.node) > 1
    name = f"{node.name}_{old}" if shared else old
    for tensor in model.graph.initializer:
        if tensor.name == name:
            tensor.CopyFrom(numpy_helper.from_array(value, name))
            return
    model.graph.initializer.append(numpy_helper.from_array(value, name))
    node.input[position] = name
