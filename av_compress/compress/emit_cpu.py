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
from dataclasses import dataclass

import numpy as np
import onnx

from av_compress.compress.graph import WEIGHTED, GraphIndex
from av_compress.compress.insertion import (
    Inserter,
    Quantiser,
    Ranges,
    affine_activation,
    symmetric_weight,
    weight_axis,
)
from av_compress.compress.precision import PrecisionPlan
from av_compress.tensors import Array

WEIGHT_LEVELS = 63

# Operators without weights that ONNX Runtime runs in integers between a pair on every side.
_INTEGER_OPERATORS = frozenset(
    {"Add", "Mul", "Sigmoid", "LeakyRelu", "Concat", "MaxPool", "AveragePool", "Resize"}
)
# Operators that disappear into the convolution before them once its output is unsigned.
_ABSORBED = frozenset({"Relu", "Clip"})


@dataclass(frozen=True)
class _Region:
    """What runs in integers.

    Attributes:
        nodes: names of the nodes.
        made: tensors that they make, all with a pair.
        read: tensors that they read, all with a pair.

    """

    nodes: frozenset[str]
    made: frozenset[str]
    read: frozenset[str]


def tensors_to_observe(model: onnx.ModelProto, plan: PrecisionPlan) -> tuple[str, ...]:
    """Return the activations that get a pair, in alphabetical order."""
    region = _region(GraphIndex(model), plan.quantised())
    return tuple(sorted(region.made | region.read))


def emit(
    model: onnx.ModelProto,
    plan: PrecisionPlan,
    ranges: Ranges,
    magnitudes: Mapping[str, float],
) -> onnx.ModelProto:
    """Write the form; see `quantize.quantize`. Everything that is not integer stays FP32."""
    index = GraphIndex(model)
    region = _region(index, plan.quantised())
    inserter = Inserter(model)
    how = {name: affine_activation(*ranges[name]) for name in region.made | region.read}
    for node in index.graph.node:
        for position, tensor in enumerate(node.input):
            # Of what integers made there is no float original; of anything else there is.
            if tensor in region.made or (tensor in region.read and node.name in region.nodes):
                inserter.quantise_input(node, position, how[tensor])
        if node.name in plan.quantised():
            _quantise_weight(index, inserter, node, how[node.input[0]])
    return inserter.write()


def _region(index: GraphIndex, quantised: frozenset[str]) -> _Region:
    """Collect the INT8 nodes, and operators between them whose every float input is integer."""
    nodes, made, read = set(quantised), set[str](), set[str]()
    for node in index.graph.node:
        dynamic = [name for name in node.input if _is_activation(index, name)]
        if node.name in quantised:
            read.add(node.input[0])
        elif node.op_type in _INTEGER_OPERATORS and dynamic and made.issuperset(dynamic):
            if node.op_type != "Resize" and len(dynamic) < len(node.input):
                continue
            nodes.add(node.name)
            read.update(dynamic)
        else:
            continue
        result = _visible_output(index, node.output[0])
        if result not in index.outputs:
            made.add(result)
    return _Region(frozenset(nodes), frozenset(made), frozenset(read))


def _visible_output(index: GraphIndex, name: str) -> str:
    """Return the tensor behind an operator that the one making `name` absorbs, else `name`."""
    consumers = index.consumers.get(name, [])
    if len(consumers) == 1 and consumers[0].op_type in _ABSORBED and name not in index.outputs:
        return str(consumers[0].output[0])
    return name


def _is_activation(index: GraphIndex, name: str) -> bool:
    return bool(name) and name not in index.constants and index.is_float(name)


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
