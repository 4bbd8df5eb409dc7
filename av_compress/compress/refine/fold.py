# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Which nodes in front of an affine migration can take it over, at no cost when the model runs.

Dividing the channels that a node reads commutes with activations such as ReLU, so it can be done
to the rows of the weights that make them, or to the factors and the bias of a normalisation. A
shift can be taken from a bias where nothing lies between. Nobody else may read what changes.
Behind a shift that a bias takes, a convolution would pad with other zeros: there it stays.

Sources: Nagel et al., Data-Free Quantization, 2019, section 4.1 (cross-layer equalisation); Xiao
et al., SmoothQuant, 2022, section 4 (normalisations).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from av_compress.compress.graph import GraphIndex, attribute
from av_compress.compress.layers import Layer, output_channels, per_output
from av_compress.compress.refine.affine import Affine, can_shift, migrated_input
from av_compress.compress.refine.constants import constant_value, set_input
from av_compress.tensors import Array

# f(k x) = k f(x) for every positive k, element by element, and for every channel of planes.
_ELEMENTWISE = frozenset({"Relu", "LeakyRelu", "PRelu"})
_POOLS = frozenset({"MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"})
# The largest weight of a channel may end up between these: beyond, FP16 has few digits or none.
LARGEST_CONSTANT, SMALLEST_CONSTANT = 1e4, 1e-4


@dataclass(frozen=True)
class Fold:
    """Nodes that take over what an affine map does to the node that reads them.

    Attributes:
        layer: the node whose input is mapped.
        affine: how.
        nodes: from the one right in front of it up to where the division ends.
        shifted: whether the shift is taken over as well.

    """

    layer: Layer
    affine: Affine
    nodes: tuple[onnx.NodeProto, ...]
    shifted: bool

    @property
    def producer(self) -> str:
        """Name of the node that the division ends in."""
        return str(self.nodes[-1].name)

    @property
    def left(self) -> Affine:
        """What is left to be done in front of the node."""
        shifts = np.zeros_like(self.affine.shifts) if self.shifted else self.affine.shifts
        divided = shifts / self.affine.factors
        return Affine(np.ones_like(self.affine.factors), divided, foldable=False)

    def renamed(self) -> dict[str, str]:
        """Return old name -> new name of the tensors whose values change, the nearest first."""
        name = self.layer.name
        nearest = f"{name}_scaled" if self.left.shifted else migrated_input(name)
        old = [str(node.output[0]) for node in self.nodes]
        return dict(zip(old, (nearest, *(f"{name}_scaled_{i}" for i in range(1, len(old))))))

    def factors_of(self, tensor: str) -> tuple[Array, Array]:
        """Return m and s of what becomes of a tensor, (x - s) / m, one per channel."""
        factors = self.affine.factors
        shifted = self.shifted and tensor == self.nodes[0].output[0]
        return factors, self.affine.shifts if shifted else np.zeros_like(factors)

    def apply(self, model: onnx.ModelProto, live: Mapping[str, onnx.NodeProto]) -> str:
        """Change a model, and return the name of what the node is to read.

        Args:
            model: is changed.
            live: name of a tensor before any change -> the node of `model` that makes it.

        """
        names = self.renamed()
        for node in self.nodes:
            tensor = str(node.output[0])
            changed = live[tensor]
            _divide(model, changed, self.layer, *self.factors_of(tensor))
            changed.output[0] = names[tensor]
            for position, name in enumerate(changed.input):
                changed.input[position] = names.get(name, name)
        for value in model.graph.value_info:
            value.name = names.get(value.name, value.name)
        return next(iter(names.values()))


def find_fold(index: GraphIndex, layer: Layer, affine: Affine) -> Fold | None:
    """Look for nodes that can take over an affine map, exactly; None where there are none.

    Args:
        index: of the model without any map.
        layer: a node of it.
        affine: what is to be done to its input.

    """
    if not affine.foldable:
        return None
    nodes: list[onnx.NodeProto] = []
    tensor, shifted = str(layer.node.input[0]), False
    while tensor is not None and _read_once(index, tensor):
        node = index.producers[tensor]
        shift = affine.shifted and not layer.padded and not nodes and _bears_shift(index, node)
        if not _bears(index, node, layer, affine, shift):
            return None
        nodes.append(node)
        shifted = shifted or shift
        source = _passed_on(index, node)
        if source is None or not affine.scaled:
            useful = affine.scaled or shifted
            return Fold(layer, affine, tuple(nodes), shifted) if useful else None
        tensor = source
    return None


def _read_once(index: GraphIndex, tensor: str) -> bool:
    readers = index.consumers.get(tensor, [])
    once = len(readers) == 1 and list(readers[0].input).count(tensor) == 1
    return once and tensor in index.producers and tensor not in index.outputs


def _passed_on(index: GraphIndex, node: onnx.NodeProto) -> str | None:
    """Return what has to be divided too, in front of a node that bears it; None: nothing."""
    if node.op_type in _ELEMENTWISE | _POOLS:
        return str(node.input[0])
    return str(node.input[1 - _constant_at(index, node)]) if node.op_type == "Add" else None


def _bears(
    index: GraphIndex, node: onnx.NodeProto, layer: Layer, affine: Affine, shift: bool
) -> bool:
    """Tell whether a node's constants can be divided, or need not be."""
    if node.domain:
        return False
    planes = layer.node.op_type == "Conv"
    if node.op_type in _POOLS:
        return planes
    if node.op_type == "PRelu":
        return index.constant(node.input[1]) is not None
    if node.op_type in _ELEMENTWISE:
        return True
    weights, added = _constants(index, node, layer)
    if weights is None and added is None:
        return False
    shifts = affine.shifts if shift else np.zeros_like(affine.shifts)
    fits = weights is None or _fits(weights, affine.factors)
    bias = np.zeros(1) if added is None else added
    return fits and _bias_fits(bias, shifts, affine.factors)


def _bears_shift(index: GraphIndex, node: onnx.NodeProto) -> bool:
    if node.op_type in {"Add", "LayerNormalization"}:
        return True
    layer = Layer.of(index, node)
    return layer is not None and can_shift(index, layer)


def _constants(
    index: GraphIndex, node: onnx.NodeProto, layer: Layer
) -> tuple[Array | None, Array | None]:
    """Return what a node multiplies by, channel by channel in magnitude, and what it adds.

    Both are None where it does not end in channels that `layer` reads, or they are not constant.
    """
    if node.op_type == "Add":
        return None, _per_channel(index, node, layer)
    if node.op_type == "Mul":
        return _per_channel(index, node, layer), None
    if node.op_type == "LayerNormalization":
        return _normalisation(index, node, layer)
    return _weights(index, node, layer)


def _weights(
    index: GraphIndex, node: onnx.NodeProto, layer: Layer
) -> tuple[Array | None, Array | None]:
    made = Layer.of(index, node)
    if made is None or (node.op_type == "Conv") != (layer.node.op_type == "Conv"):
        return None, None
    bias = _bias(index, node)
    if bias is None or output_channels(node, made.weight) != layer.channels:
        return None, None
    return np.abs(made.matrix()).max(axis=2).reshape(-1), bias


def _normalisation(
    index: GraphIndex, node: onnx.NodeProto, layer: Layer
) -> tuple[Array | None, Array | None]:
    rank = len(index.shape(node.output[0]) or ())
    gamma, beta = index.constant(node.input[1]), _bias(index, node)
    last = attribute(node, "axis", -1) in {-1, rank - 1} and layer.channel_axis == -1
    if not last or gamma is None or gamma.shape != (layer.channels,):
        return None, None
    return (None, None) if beta is None else (np.abs(gamma), beta)


def _bias(index: GraphIndex, node: onnx.NodeProto) -> Array | None:
    """Return a node's constant bias, zero where it has none; None where it is no constant."""
    absent = len(node.input) < 3 or not node.input[2]
    return np.zeros(1) if absent else index.constant(node.input[2])


def _constant_at(index: GraphIndex, node: onnx.NodeProto) -> int:
    return 0 if node.input[0] in index.constants else 1


def _per_channel(index: GraphIndex, node: onnx.NodeProto, layer: Layer) -> Array | None:
    """Return a constant operand, one value a channel; None where it has other axes or is none."""
    position = _constant_at(index, node)
    value = index.constant(node.input[position])
    shape = index.shape(node.output[0])
    if value is None or shape is None or index.shape(node.input[1 - position]) != shape:
        return None
    padded = (1,) * (len(shape) - value.ndim) + value.shape
    wanted = _shape(len(shape), layer, layer.channels)
    if len(padded) != len(shape) or any(a not in {1, b} for a, b in zip(padded, wanted)):
        return None
    return np.broadcast_to(value.reshape(-1), layer.channels)


def _shape(rank: int, layer: Layer, channels: int) -> tuple[int, ...]:
    axis = layer.channel_axis % rank
    return tuple(channels if i == axis else 1 for i in range(rank))


def _fits(largest: Array, factors: Array) -> bool:
    """Tell whether constants stay where FP16 holds them well, or get no worse."""
    before = np.abs(largest).astype(np.float64)
    after = before / factors
    high = after <= np.maximum(LARGEST_CONSTANT, before)
    low = after >= np.minimum(SMALLEST_CONSTANT, before)
    return bool((high & low).all())


def _bias_fits(bias: Array, shifts: Array, factors: Array) -> bool:
    return bool((np.abs(bias - shifts) / factors).max() <= LARGEST_CONSTANT)


def _divide(
    model: onnx.ModelProto, node: onnx.NodeProto, layer: Layer, factors: Array, shifts: Array
) -> None:
    """Let a node make (x - s) / m instead of x; nothing of a node that passes that on."""
    if node.op_type in {"Add", "Mul"}:
        names = {tensor.name for tensor in model.graph.initializer}
        position = 0 if node.input[0] in names else 1
        value = constant_value(model, node.input[position]).astype(np.float64)
        rank = max(value.ndim, 1)
        if layer.channel_axis == 1:
            rank = layer.weight.ndim
        shape = _shape(rank, layer, -1)
        changed = (np.broadcast_to(value.reshape(-1), factors.shape) - shifts) / factors
        set_input(model, node, position, changed.reshape(shape).astype(np.float32))
    elif node.op_type not in _ELEMENTWISE | _POOLS:
        weight = constant_value(model, node.input[1])
        by = factors
        if node.op_type != "LayerNormalization":
            by = per_output(node, weight, factors)
        set_input(model, node, 1, (weight.astype(np.float64) / by).astype(np.float32))
        _divide_bias(model, node, factors, shifts)


def _divide_bias(
    model: onnx.ModelProto, node: onnx.NodeProto, factors: Array, shifts: Array
) -> None:
    bias = np.zeros(1)
    if len(node.input) > 2 and node.input[2]:
        bias = constant_value(model, node.input[2]).astype(np.float64)
    if bias.any() or shifts.any():
        set_input(model, node, 2, ((bias - shifts) / factors).astype(np.float32))
