# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The `tensorrt` form: signed symmetric INT8 placed so that TensorRT fuses it, FP16 elsewhere.

Strongly typed: what stands in the graph is what TensorRT computes. Weighted nodes read their
activation and their weight through a pair each, never their bias; outputs carry no pair, so that
Conv + activation stays one kernel and the next consumer's pair requantises.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import onnx

from av_compress.compress.emit.fp16 import fp32_reasons, to_fp16
from av_compress.compress.emit.holds import half_scale, scale_fits
from av_compress.compress.emit.insertion import (
    Inserter,
    Quantiser,
    Ranges,
    WeightGrid,
    symmetric_activation,
    symmetric_weight,
    weight_axis,
)
from av_compress.compress.graph import WEIGHTED, GraphIndex
from av_compress.compress.plan.precision import Precision, PrecisionPlan, WeightScales
from av_compress.tensors import Array

WEIGHT_LEVELS = 127
# Seen in TensorRT for RTX 1.7: built, and run in float, with the rounding of INT8.
NO_KERNEL = "a transposed convolution has no INT8 kernel"


def narrow(
    model: onnx.ModelProto, plan: PrecisionPlan, magnitudes: Mapping[str, float]
) -> PrecisionPlan:
    """Spare what no kernel runs in INT8, and say FP32 where FP16 does not hold a node's values.

    See `quantize.narrow_plan`.
    """
    transposed = [n.node for n in plan.nodes if n.op_type == "ConvTranspose"]
    plan = plan.spared(dict.fromkeys(transposed, NO_KERNEL))
    if plan.base is not Precision.FP16:
        return plan.in_fp32()
    reasons = fp32_reasons(model, magnitudes)
    nodes = [
        replace(n, precision=Precision.FP32, reason=f"{n.reason}; not FP16: {reasons[n.node]}")
        if n.precision is Precision.FP16 and n.node in reasons
        else n
        for n in plan.nodes
    ]
    return replace(plan, nodes=tuple(nodes))


def weight_grid(plan: PrecisionPlan) -> WeightGrid | None:
    """See `quantize.weight_grid`."""
    half = plan.base is Precision.FP16
    return WeightGrid(WEIGHT_LEVELS, lambda scale: _stored(half, scale), plan.weight_scales)


def tensors_to_observe(model: onnx.ModelProto, plan: PrecisionPlan) -> tuple[str, ...]:
    """Return the activations that get a pair, in graph order."""
    index = GraphIndex(model)
    return tuple(dict.fromkeys(node.input[p] for node, p in _activations(index, plan)))


def emit(
    model: onnx.ModelProto,
    plan: PrecisionPlan,
    ranges: Ranges,
    magnitudes: Mapping[str, float],
) -> onnx.ModelProto:
    """Write the form; see `quantize.quantize`."""
    return place(
        model,
        plan,
        magnitudes,
        activation=lambda name: symmetric_activation(*ranges[name]),
        weight=lambda value, axis: symmetric_weight(value, axis, WEIGHT_LEVELS),
    )


def place(
    model: onnx.ModelProto,
    plan: PrecisionPlan,
    magnitudes: Mapping[str, float],
    activation: Callable[[str], Quantiser],
    weight: Callable[[Array, int | None], Quantiser],
) -> onnx.ModelProto:
    """Place pairs as TensorRT fuses them, and cast what is left to the plan's base precision.

    Args:
        model: prepared FP32 model; it stays as it is.
        plan: precision of every weighted node.
        magnitudes: tensor name -> largest magnitude seen.
        activation: tensor name -> how it is quantised.
        weight: a weight and the axis of its channels, None for one scale -> how it is quantised.

    """
    index = GraphIndex(model)
    inserter = Inserter(model)
    half = plan.base is Precision.FP16
    for node, position in _activations(index, plan):
        how = activation(node.input[position])
        inserter.quantise_input(node, position, _scaled_for(half, how))
    for node in _quantised(index, plan):
        value = index.weight(node)
        if value is not None:
            shared = plan.weight_scales is WeightScales.TENSOR
            how = weight(value, None if shared else weight_axis(node))
            inserter.quantise_input(node, WEIGHTED[node.op_type], _scaled_for(half, how))
    emitted = inserter.write()
    if not half:
        return emitted
    fp32 = [node.node for node in plan.nodes if node.precision is Precision.FP32]
    return to_fp16(emitted, magnitudes, fp32)


def _scaled_for(half: bool, how: Quantiser) -> Quantiser:
    """Round scales to FP16; where it cannot hold them, the nodes around them stay FP32."""
    return replace(how, scale=_stored(half, how.scale))


def _stored(half: bool, scale: Array) -> Array:
    return half_scale(scale) if half and scale_fits(scale) else scale


def _quantised(index: GraphIndex, plan: PrecisionPlan) -> list[onnx.NodeProto]:
    names = plan.quantised()
    return [node for node in index.graph.node if node.name in names]


def _activations(index: GraphIndex, plan: PrecisionPlan) -> Iterator[tuple[onnx.NodeProto, int]]:
    """Yield the inputs that come through a pair: of INT8 nodes, and of residual additions."""
    quantised = _quantised(index, plan)
    for node in quantised:
        yield node, 0
    read = {node.input[0] for node in quantised}
    names = {node.name for node in quantised}
    for node in index.graph.node:
        position = _skip_input(index, node, names, read)
        if position is not None:
            yield node, position


def _skip_input(
    index: GraphIndex, node: onnx.NodeProto, quantised: set[str], read: set[str]
) -> int | None:
    """Return which input of a residual addition is the skip connection, None where none is.

    With the skip in INT8, TensorRT can run Conv + Add in one INT8 kernel. The skip gets a pair
    only where some INT8 node reads the same tensor anyway: then its integers exist already.
    """
    if node.op_type != "Add" or len(node.input) != 2:
        return None
    if index.shape(node.input[0]) != index.shape(node.input[1]):
        return None
    for branch, skip in ((0, 1), (1, 0)):
        producer = index.producers.get(node.input[branch])
        alone = len(index.consumers.get(node.input[branch], ())) == 1
        if producer is None or producer.name not in quantised or not alone:
            continue
        if node.input[skip] in read:
            return skip
    return None
