# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What FP16 holds: constants, scales and activations, and the operators that know the type."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum
from functools import cache

import numpy as np
import onnx
import onnx_ir as ir

from av_compress.tensors import Array

# Beyond this, FP16's spacing of half a unit and more is felt in box coordinates, and what follows
# may overflow at 65504.
ACTIVATION_LIMIT = 512.0
# Inside, these square what they read: 65504 is reached at 255.
_SQUARING_LIMIT = 128.0
_SQUARING = frozenset(
    {
        *("ReduceL2", "ReduceSumSquare", "LpNormalization", "GlobalLpPool", "LpPool"),
        *("LayerNormalization", "InstanceNormalization", "GroupNormalization"),
        "MeanVarianceNormalization",
    }
)
_INFO = np.finfo(np.float16)
LARGEST = float(_INFO.max)
# Under the smallest normal number each halving costs a bit of precision.
_SMALLEST_NORMAL = float(_INFO.smallest_normal)
_SMALLEST = float(_INFO.smallest_subnormal)
# What a constant, or the scales of a tensor, may change by, as a share of their norm. Rounding
# among normal numbers changes each by at most 2^-11.
_TOLERANCE = 2.0**-7

# Operators that write FP32 whatever they read, and those whose inputs are coordinates, to which
# FP16 gives a spacing of half a unit and more.
_FP32_OPERATORS = frozenset({"Constant", "ConstantOfShape", "CastLike", "RoiAlign", "GridSample"})
# Inputs that kernels want in FP32, although the standard allows FP16.
_FP32_INPUTS = frozenset({("Resize", 1), ("Resize", 2)})
# Operator and position of bounds: those that FP16 cannot hold bound nothing that it can.
_BOUNDS = frozenset(
    {("Clip", 1), ("Clip", 2), *((op, i) for op in ("Min", "Max") for i in (0, 1))}
)
# What is added to a sum weighs as much as it is of the sum.
_BIASES = frozenset({("Conv", 2), ("ConvTranspose", 2), ("Gemm", 2)})
# Operators that read any type on their first input and need no cast there.
_AGNOSTIC = frozenset({"Cast", "QuantizeLinear", "Shape", "Size"})


class Reading(Enum):
    """In which type a node reads a float tensor: its own, FP32 in any case, or whatever it is."""

    OWN = "own"
    FP32 = "fp32"
    ANY = "any"


def is_float(value: ir.Value | None) -> bool:
    """Tell whether a value is a float32 tensor."""
    return (
        value is not None
        and isinstance(value.type, ir.TensorType)
        and value.dtype == ir.DataType.FLOAT
    )


def typed_inputs(node: ir.Node) -> Iterator[tuple[int, ir.Value]]:
    """Yield the float inputs, with their positions, that a node reads in its own type."""
    for position, value in _float_inputs(node):
        if not reads_fp32(node, position) and not (position == 0 and node.op_type in _AGNOSTIC):
            yield position, value


def reading(graph: ir.Graph, node: ir.Node, position: int, forced: frozenset[str]) -> Reading:
    """Tell how a node reads a float tensor.

    Args:
        graph: the top-level graph; the node may stand in a subgraph.
        node: the reader.
        position: which of its inputs the tensor is.
        forced: names of the nodes that have to be FP32.

    """
    if node.graph is not graph or reads_fp32(node, position):
        return Reading.FP32
    if position == 0 and node.op_type in _AGNOSTIC and node.name not in forced:
        return Reading.ANY
    return Reading.OWN


def reads_fp32(node: ir.Node, position: int) -> bool:
    """Tell whether the standard, or a kernel, wants FP32 at an input."""
    if (node.op_type, position) in _FP32_INPUTS:
        return True
    schema = _schema_of(node)
    return schema is not None and not _knows_half(schema, list(schema.inputs), position)


def has_type(node: ir.Node) -> bool:
    """Tell whether a node has one float type for all that it reads and makes."""
    return any(is_float(v) for v in node.outputs) or any(True for _ in typed_inputs(node))


def reason_for_fp32(node: ir.Node, magnitudes: Mapping[str, float]) -> str:
    """Say why a node of the top-level graph cannot compute in FP16; empty where it can.

    Args:
        node: a node that has a type, see `has_type`.
        magnitudes: tensor name -> largest magnitude seen; a tensor without an entry is taken to
            fit.

    """
    return next(_reasons(node, magnitudes), "")


def _reasons(node: ir.Node, magnitudes: Mapping[str, float]) -> Iterator[str]:
    if any(a.type in {ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS} for a in _attributes(node)):
        yield f"{node.op_type}: its subgraphs stay FP32"
    schema = _schema_of(node)
    if schema is None:
        yield f"operator {node.domain or 'ai.onnx'}.{node.op_type}: its types are not known"
        return
    yield from _reasons_of_type(node, schema)
    if node.op_type in {"QuantizeLinear", "DequantizeLinear"}:
        yield from _reasons_of_scale(node)
        return
    for position, value in typed_inputs(node):
        if value.const_value is not None:
            yield from _reasons_of_constant(node, position, value, magnitudes)
        else:
            producer = value.producer()
            if producer is None or producer.op_type != "DequantizeLinear":
                yield from _reasons_of_range(node, value, magnitudes)
            elif reason_for_fp32(producer, magnitudes):
                # A cast between the two would keep a compiler from fusing them.
                yield reason_for_fp32(producer, magnitudes)
    for made in node.outputs:
        if is_float(made):
            yield from _reasons_of_range(node, made, magnitudes)


def _reasons_of_type(node: ir.Node, schema: onnx.defs.OpSchema) -> Iterator[str]:
    if node.op_type in _FP32_OPERATORS or "dtype" in node.attributes:
        yield f"{node.op_type} stays FP32"
    values = [v for v in (*node.inputs, *node.outputs) if v is not None and v.name]
    unknown = [v.name for v in values if not isinstance(v.type, ir.TensorType)]
    if unknown:
        yield f"the type of {unknown[0]} is not that of a tensor, or not known"
    for position, made in enumerate(node.outputs):
        if is_float(made) and not _knows_half(schema, list(schema.outputs), position):
            yield f"{node.op_type} knows no FP16"


def _reasons_of_scale(node: ir.Node) -> Iterator[str]:
    """Q and DQ of a pair may end in different types: their scale has to be the same in both."""
    scale, point = node.inputs[1], node.inputs[2] if len(node.inputs) > 2 else None
    value = None if scale is None else constant(scale)
    if value is None:
        yield f"{node.op_type}: its scale is no constant"
        return
    source = node.inputs[0]
    paired = source is None or source.const_value is None or is_float(source)
    exact = np.array_equal(half_scale(value), value)
    if not exact and (paired or not scale_fits(value)):
        yield f"FP16 does not hold the scale of {source.name if source else ''}"
    elif float(np.abs(value).max(initial=0.0)) * _largest_integer(point) > LARGEST:
        yield f"what {node.name} makes exceeds FP16"


def _reasons_of_constant(
    node: ir.Node, position: int, value: ir.Value, magnitudes: Mapping[str, float]
) -> Iterator[str]:
    array = constant(value)
    if array is None or not array.size:
        return
    place = (node.op_type, position)
    half = np.asarray(half_constant(node, position, array), np.float64)
    exact = array.astype(np.float64)
    if place in _BOUNDS:
        return
    if float(np.abs(exact).max()) > LARGEST:
        yield f"FP16 does not hold the constant {value.name}"
    elif place == ("Div", 1) and bool(((half == 0) & (exact != 0)).any()):
        yield f"the divisor {value.name} becomes zero in FP16"
    elif place in _BIASES:
        weighs = max(float(np.abs(exact).max()), magnitudes.get(node.outputs[0].name or "", 0.0))
        if float(np.abs(half - exact).max()) > _TOLERANCE * weighs:
            yield f"the bias {value.name} is too small for FP16"
    elif not _close(half, exact):
        yield f"the constant {value.name} is too small for FP16"


def _reasons_of_range(
    node: ir.Node, value: ir.Value, magnitudes: Mapping[str, float]
) -> Iterator[str]:
    largest = magnitudes.get(value.name or "", 0.0)
    limit = range_limit(node.op_type)
    if largest > limit:
        yield f"{value.name} reaches {largest:.3g}, over {limit:g}"
    elif 0.0 < largest < _SMALLEST_NORMAL:
        yield f"{value.name} reaches only {largest:.3g}, which FP16 holds with few bits"


def range_limit(op_type: str) -> float:
    """Return the largest magnitude that an operator may read or make in FP16."""
    return _SQUARING_LIMIT if op_type in _SQUARING else ACTIVATION_LIMIT


def constant(value: ir.Value) -> Array | None:
    """Return a constant's content, None where a value is no constant."""
    return None if value.const_value is None else np.asarray(value.const_value.numpy())


def half_constant(node: ir.Node, position: int, value: Array) -> Array:
    """Round a constant of a node to FP16; a bound beyond what FP16 holds becomes its largest."""
    if (node.op_type, position) in _BOUNDS:
        value = np.clip(value, -LARGEST, LARGEST)
    with np.errstate(over="ignore"):
        return np.asarray(value.astype(np.float16))


def half_scale(scale: Array) -> Array:
    """Round scales to what FP16 holds, up, so that nothing is clipped that was not before.

    Q and DQ may end in different types; a scale that is exact in both is the same to both.
    """
    half = np.minimum(scale, LARGEST).astype(np.float16)
    up = np.where(half.astype(np.float64) < scale, np.nextafter(half, np.float16(np.inf)), half)
    return np.asarray(np.clip(up, np.float16(_SMALLEST), np.float16(LARGEST)), np.float32)


def scale_fits(scale: Array) -> bool:
    """Tell whether scales rounded by `half_scale` are nearly what they were."""
    return _close(half_scale(scale).astype(np.float64), scale.astype(np.float64))


def _close(half: Array, exact: Array) -> bool:
    """Tell whether the elements that weigh keep their precision."""
    change, whole = float(np.square(half - exact).sum()), float(np.square(exact).sum())
    return change <= _TOLERANCE**2 * whole


def _largest_integer(point: ir.Value | None) -> float:
    """Return the largest magnitude that a quantised type holds."""
    kind = None if point is None else point.dtype
    if kind is None:
        return 255.0
    dtype = kind.numpy()
    if dtype.kind in "iu":
        return float(max(abs(int(np.iinfo(dtype).min)), int(np.iinfo(dtype).max)))
    # FLOAT8E4M3FN; its wider sisters hold more, but only in the last of their steps.
    return 448.0


def _float_inputs(node: ir.Node) -> Iterator[tuple[int, ir.Value]]:
    for position, value in enumerate(node.inputs):
        if value is not None and is_float(value):
            yield position, value


def _attributes(node: ir.Node) -> Iterator[ir.Attr]:
    return iter(node.attributes.values())


def _schema_of(node: ir.Node) -> onnx.defs.OpSchema | None:
    graph = node.graph
    version = node.version or (None if graph is None else graph.opset_imports.get(node.domain))
    return None if node.domain or version is None else _schema(node.op_type, version)


@cache
def _schema(op_type: str, version: int) -> onnx.defs.OpSchema | None:
    try:
        return onnx.defs.get_schema(op_type, version, "")
    except onnx.defs.SchemaError:
        return None


def _knows_half(
    schema: onnx.defs.OpSchema, parameters: list[onnx.defs.OpSchema.FormalParameter], position: int
) -> bool:
    """Tell whether an input or output of an operator may be FP16."""
    # The last of some operators' parameters stands for any number of values.
    name = parameters[min(position, len(parameters) - 1)].type_str
    for constraint in schema.type_constraints:
        if constraint.type_param_str == name:
            return "tensor(float16)" in constraint.allowed_type_strs
    return name == "tensor(float16)"
