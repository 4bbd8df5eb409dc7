# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Checks of placement: which inputs come through pairs, and what stands between."""

from __future__ import annotations

from collections.abc import Iterator

import onnx

from av_compress.compress.graph import WEIGHTED, attribute, is_depthwise
from av_compress.compress.lint.rule import Finding
from av_compress.compress.lint.targets import Target
from av_compress.compress.lint.view import DEQUANTIZE, QUANTIZE, Arrival, LintView, name_of

_ACTIVATIONS = frozenset(
    {
        *("Relu", "LeakyRelu", "PRelu", "Clip", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh"),
        *("Elu", "Softplus", "Mish", "Gelu", "BatchNormalization"),
    }
)
# Operators without weights that compute in INT8 where both of their sides are INT8.
_TWO_SIDED = frozenset(
    {"AveragePool", "GlobalAveragePool", "Add", "Mul", "Resize", "Concat", "ReduceMean"}
)


def activation_only(view: LintView, target: Target) -> Iterator[Finding]:
    """Find nodes of whose two factors one alone comes through a pair, and is no weight."""
    for node, activation, weight in view.weighted:
        if view.is_constant(node.input[WEIGHTED[node.op_type]]):
            alone = activation.quantised and weight.pair is None
        else:
            moving = not view.is_constant(node.input[0])
            alone = moving and activation.quantised != weight.quantised
        if alone:
            yield Finding(name_of(node), "one activation quantised, the other factor not")


def weight_only(view: LintView, target: Target) -> Iterator[Finding]:
    """Find nodes whose weight alone comes through a pair."""
    for node, activation, weight in view.weighted:
        if activation.pair is None and _constant_pair(weight, view):
            yield Finding(name_of(node), "weight quantised, activation not")


def pair_hidden(view: LintView, target: Target) -> Iterator[Finding]:
    """Find pairs that stand before something else than the node that they are for."""
    for node, activation, weight in view.weighted:
        if activation.pair is None or weight.pair is None:
            continue
        # What stands behind a constant's pair is folded; but a Cast to a wider type is not.
        cast = weight.between is not None and weight.between.op_type == "Cast"
        between = activation.between or (weight.between if cast else None)
        if between is not None:
            text = f"{between.op_type} {name_of(between)} stands between it and its pair"
            yield Finding(name_of(node), text)


def weight_axis(view: LintView, target: Target) -> Iterator[Finding]:
    """Find weights with a scale for each slice along another axis than the outputs'."""
    for node, _, weight in view.weighted:
        wanted = _output_axis(view, node)
        if weight.axis is not None and wanted is not None and weight.axis != wanted:
            text = f"scales along axis {weight.axis}, outputs along axis {wanted}"
            yield Finding(name_of(node), text)


def bias(view: LintView, target: Target) -> Iterator[Finding]:
    """Find biases that come through a pair in 8 bits."""
    for node in view.of_type("Conv", "ConvTranspose", "Gemm"):
        if len(node.input) < 3 or not node.input[2]:
            continue
        pair = view.arrival(node, 2).pair
        if pair is not None and view.type_of(pair.input[0]) != onnx.TensorProto.INT32:
            yield Finding(name_of(node), f"bias {node.input[2]} comes through a pair")


def transposed(view: LintView, target: Target) -> Iterator[Finding]:
    """Find transposed convolutions in INT8."""
    for node, activation, weight in view.weighted:
        if node.op_type == "ConvTranspose" and activation.quantised and weight.pair is not None:
            yield Finding(name_of(node), "transposed convolution between pairs")


def depthwise(view: LintView, target: Target) -> Iterator[Finding]:
    """Find depthwise convolutions in INT8."""
    for node, activation, weight in view.weighted:
        value = None if weight.pair is None else view.integers(weight.pair)
        if activation.quantised and value is not None and is_depthwise(node, value):
            yield Finding(name_of(node), f"{value.shape[0]} channels, each by itself")


def dangling(view: LintView, target: Target) -> Iterator[Finding]:
    """Find quantisers whose integers nobody restores."""
    for node in view.of_type(QUANTIZE):
        readers = view.index.consumers.get(node.output[0], [])
        if not readers:
            where = "the graph's output" if node.output[0] in view.index.outputs else "nobody"
            yield Finding(name_of(node), f"its integers go to {where}")


def residual_both(view: LintView, target: Target) -> Iterator[Finding]:
    """Find additions of a convolution's result in which that result too has a pair."""
    for node in view.of_type("Add"):
        pairs = [_direct_pair(view, name) for name in node.input]
        if len(pairs) != 2 or None in pairs:
            continue
        branches = [p for p in pairs if p is not None and _from_weighted_alone(view, p)]
        if len(branches) == 1:
            yield Finding(name_of(node), f"branch comes through {name_of(branches[0])}")


def residual_skip(view: LintView, target: Target) -> Iterator[Finding]:
    """Find additions to an INT8 convolution whose skip is float though its integers exist."""
    inside = {name_of(node) for node, activation, _ in view.weighted if activation.quantised}
    for node in view.of_type("Add"):
        if len(node.input) != 2 or _shapes_differ(view, node):
            continue
        for branch, skip in (node.input, reversed(node.input)):
            made = view.index.producers.get(branch)
            alone = len(view.index.consumers.get(branch, ())) == 1
            integers = any(r.op_type == QUANTIZE for r in view.index.consumers.get(skip, ()))
            if made is not None and name_of(made) in inside and alone and integers:
                yield Finding(name_of(node), f"skip {skip} is read as float")
                break


def one_sided(view: LintView, target: Target) -> Iterator[Finding]:
    """Find operators without weights that read INT8 alone and write float."""
    for node in view.of_type(*_TWO_SIDED):
        moving = [name for name in node.input if name and not view.is_constant(name)]
        if not moving or any(_direct_pair(view, name) is None for name in moving):
            continue
        readers = view.index.consumers.get(node.output[0], [])
        if readers and not any(reader.op_type == QUANTIZE for reader in readers):
            yield Finding(name_of(node), f"{node.op_type} reads INT8 and writes float")


def before_activation(view: LintView, target: Target) -> Iterator[Finding]:
    """Find pairs between a weighted node and its normalisation or activation."""
    for node in view.of_type(DEQUANTIZE):
        quantiser = view.index.producers.get(node.input[0])
        if quantiser is None or quantiser.op_type != QUANTIZE:
            continue
        made = view.index.producers.get(quantiser.input[0])
        readers = view.index.consumers.get(node.output[0], [])
        if made is None or made.op_type not in WEIGHTED:
            continue
        for reader in readers:
            if reader.op_type in _ACTIVATIONS:
                text = f"pair between {name_of(made)} and {reader.op_type} {name_of(reader)}"
                yield Finding(name_of(quantiser), text)
                break


def concat_scales(view: LintView, target: Target) -> Iterator[Finding]:
    """Find concatenations in INT8 of tensors with different scales."""
    for node in view.of_type("Concat"):
        pairs = [_direct_pair(view, name) for name in node.input]
        readers = view.index.consumers.get(node.output[0], [])
        if None in pairs or not any(reader.op_type == QUANTIZE for reader in readers):
            continue
        scales = [view.constant(pair.input[1]) for pair in pairs if pair is not None]
        different = {float(s.reshape(-1)[0]) for s in scales if s is not None and s.size == 1}
        if len(different) > 1:
            yield Finding(name_of(node), f"{len(different)} scales among {len(pairs)} inputs")


def _constant_pair(weight: Arrival, view: LintView) -> bool:
    """Tell whether a pair restores a constant."""
    return weight.pair is not None and view.is_constant(weight.pair.output[0])


def _output_axis(view: LintView, node: onnx.NodeProto) -> int | None:
    """Return the axis of a weight along which TensorRT takes a scale for each output."""
    if node.op_type == "Conv":
        return 0
    if node.op_type == "ConvTranspose":
        return 1 if attribute(node, "group", 1) == 1 else None
    if node.op_type == "Gemm":
        return 0 if attribute(node, "transB", 0) else 1
    rank = view.rank(node.input[1])
    return None if rank is None else rank - 1


def _direct_pair(view: LintView, name: str) -> onnx.NodeProto | None:
    producer = view.index.producers.get(name)
    return producer if producer is not None and producer.op_type == DEQUANTIZE else None


def _from_weighted_alone(view: LintView, pair: onnx.NodeProto) -> bool:
    """Tell whether a pair stands on a weighted node's result that nobody else reads."""
    quantiser = view.index.producers.get(pair.input[0])
    if quantiser is None or quantiser.op_type != QUANTIZE:
        return False
    made = view.index.producers.get(quantiser.input[0])
    alone = len(view.index.consumers.get(quantiser.input[0], ())) == 1
    return made is not None and made.op_type in WEIGHTED and alone


def _shapes_differ(view: LintView, node: onnx.NodeProto) -> bool:
    return view.index.shape(node.input[0]) != view.index.shape(node.input[1])
