# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The `cpu` form: unsigned activations and 7-bit weights, which ONNX Runtime runs in integers.

On x86 without VNNI, products of 8-bit activations and 8-bit weights saturate the 16-bit sums of
the kernels; weights of 7 bits do not. ONNX Runtime replaces DQ -> operator -> Q by an integer
operator, so here outputs carry pairs too, and the operators between the convolutions (activation,
concatenation, addition, pooling, resizing) run in integers with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx

from av_compress.compress.emit.insertion import (
    Inserter,
    Quantiser,
    Ranges,
    WeightGrid,
    affine_activation,
    symmetric_weight,
    weight_axis,
)
from av_compress.compress.graph import WEIGHTED, GraphIndex, is_depthwise, text_attribute
from av_compress.compress.plan.precision import PrecisionPlan, PrecisionRules, WeightScales
from av_compress.tensors import Array

WEIGHT_LEVELS = 63

# Operators with weights that have integer kernels.
_WEIGHTED = frozenset({"Conv", "Gemm", "MatMul"})
# Operators without weights that ONNX Runtime runs in integers between pairs of any scales.
_INTEGER_OPERATORS = frozenset({"Add", "Mul", "Sigmoid", "LeakyRelu", "Concat", "AveragePool"})
# Operators that move values or pick among them: run in integers where both sides share one scale.
_COMMUTING = frozenset(
    {
        *("MaxPool", "Resize", "Split", "Slice"),
        *("Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze"),
    }
)
_ACTIVATIONS = frozenset(
    {
        *("Relu", "Clip", "LeakyRelu", "PRelu", "Elu", "Sigmoid", "Mul"),
        *("HardSigmoid", "HardSwish", "Tanh", "Softplus", "Mish", "Gelu"),
    }
)
# Operators that disappear into the convolution before them once its output is unsigned.
_ABSORBED = frozenset({"Relu", "Clip"})


@dataclass(frozen=True)
class _Region:
    """What runs in integers.

    Attributes:
        nodes: names of the nodes.
        made: tensors that they make, all with a pair.
        scaled_as: every tensor with a pair -> the tensor whose range gives its scale: itself, but
            behind an operator that commutes with a pair, what that operator reads.

    """

    nodes: frozenset[str]
    made: frozenset[str]
    scaled_as: Mapping[str, str]


def adapt(rules: PrecisionRules) -> PrecisionRules:
    """Migrate no scales: what integer kernels make has one scale for all channels anyway.

    In front of a multiplication that undoes a migration, small channels are lost already. A scale
    for each output channel costs these kernels nothing.
    """
    return replace(rules, migrate=False, weight_scales=WeightScales.CHANNEL)


def narrow(
    model: onnx.ModelProto, plan: PrecisionPlan, magnitudes: Mapping[str, float]
) -> PrecisionPlan:
    """Take out of a plan what has no place in this form; see `quantize.narrow_plan`."""
    index = GraphIndex(model)
    quantised = plan.quantised()
    reasons: dict[str, str] = {}
    for node in index.graph.node:
        if node.op_type not in _WEIGHTED:
            reasons[node.name] = "has no integer kernel on the CPU"
        elif _feeds_spared_depthwise(index, node.output[0], quantised):
            reasons[node.name] = "an integer kernel's one scale collapses the depthwise one behind"
    return plan.in_fp32().spared(reasons)


def weight_grid(plan: PrecisionPlan) -> WeightGrid | None:
    """See `quantize.weight_grid`."""
    return WeightGrid(WEIGHT_LEVELS, lambda scale: scale)


def tensors_to_observe(model: onnx.ModelProto, plan: PrecisionPlan) -> tuple[str, ...]:
    """Return the activations whose ranges give scales, in alphabetical order."""
    region = _region(GraphIndex(model), plan.quantised())
    return tuple(sorted(set(region.scaled_as.values())))


def emit(
    model: onnx.ModelProto,
    plan: PrecisionPlan,
    ranges: Ranges,
    magnitudes: Mapping[str, float],
) -> onnx.ModelProto:
    """Write the form; see `quantize.quantize`. Everything that is not integer stays FP32."""
    index = GraphIndex(model)
    quantised = plan.quantised()
    region = _region(index, quantised)
    inserter = Inserter(model)
    how = {name: affine_activation(*ranges[source]) for name, source in region.scaled_as.items()}
    for node in index.graph.node:
        for position, tensor in enumerate(node.input):
            # Of what integers made there is no float original; of anything else there is.
            if tensor in region.made or (tensor in how and node.name in region.nodes):
                inserter.quantise_input(node, position, how[tensor])
        if node.name in quantised:
            _quantise_weight(index, inserter, node, how[node.input[0]])
    return inserter.write()


def _region(index: GraphIndex, quantised: frozenset[str]) -> _Region:
    """Collect the INT8 nodes, and operators between them whose every float input is integer."""
    nodes, made, scaled_as = set(quantised), set[str](), dict[str, str]()
    for node in index.graph.node:
        if node.name in quantised:
            scaled_as.setdefault(node.input[0], node.input[0])
        elif not _runs_in_integers(index, node, made):
            continue
        nodes.add(node.name)
        commutes = node.op_type in _COMMUTING
        for output in node.output:
            name = output if commutes else _visible_output(index, output)
            if name not in index.outputs:
                made.add(name)
                scaled_as[name] = scaled_as[node.input[0]] if commutes else name
    return _Region(frozenset(nodes), frozenset(made), scaled_as)


def _feeds_spared_depthwise(index: GraphIndex, name: str, quantised: frozenset[str]) -> bool:
    """Tell whether a tensor, through activations at most, reaches a depthwise float convolution.

    Integer kernels write integers. In front of a depthwise convolution, one scale for all channels
    does the harm for which that convolution was spared.
    """
    for consumer in index.consumers.get(name, ()):
        weight = index.weight(consumer)
        if weight is not None:
            if consumer.name not in quantised and is_depthwise(consumer, weight):
                return True
        elif consumer.op_type in _ACTIVATIONS and _feeds_spared_depthwise(
            index, consumer.output[0], quantised
        ):
            return True
    return False


def _runs_in_integers(index: GraphIndex, node: onnx.NodeProto, made: set[str]) -> bool:
    """Tell whether an operator without weights has an integer kernel for what it reads."""
    if node.op_type in _COMMUTING:
        # Behind the first input stand sizes and axes; a second result of MaxPool is an index.
        alone = len(node.output) == 1 or node.op_type == "Split"
        return alone and node.input[0] in made and text_attribute(node, "mode") != "cubic"
    return node.op_type in _INTEGER_OPERATORS and made.issuperset(node.input)


def _visible_output(index: GraphIndex, name: str) -> str:
    """Return the tensor behind an operator that the one making `name` absorbs, else `name`."""
    consumers = index.consumers.get(name, [])
    if len(consumers) == 1 and consumers[0].op_type in _ABSORBED and name not in index.outputs:
        return str(consumers[0].output[0])
    return name


def _quantise_weight(
    index: GraphIndex, inserter: Inserter, node: onnx.NodeProto, activation: Quantiser
) -> None:
    weight = index.weight(node)
    if weight is None:
        return
    how = symmetric_weight(weight, weight_axis(node), WEIGHT_LEVELS)
    integers = how.integers(weight, -WEIGHT_LEVELS, WEIGHT_LEVELS)
    inserter.store_input(node, WEIGHTED[node.op_type], integers, how)
    bias = index.constant(node.input[2]) if len(node.input) > 2 else None
    if node.op_type == "Conv" and bias is not None:
        scale = np.asarray(how.scale * activation.scale, np.float32)
        _store_bias(inserter, node, bias, Quantiser(scale, np.zeros(scale.shape, np.int32)))


def _store_bias(inserter: Inserter, node: onnx.NodeProto, bias: Array, how: Quantiser) -> None:
    """Store a bias as INT32 in units of the accumulator, as integer convolutions add it."""
    limit = np.iinfo(np.int32).max
    # A bias far larger than anything the convolution adds to it has no place there: it stays
    # float, and so does the convolution at run time.
    if np.abs(bias.astype(np.float64) / how.scale).max(initial=0.0) < limit:
        inserter.store_input(node, 2, how.integers(bias, -limit, limit), how)
