# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What the parser and the builder refuse of a node, and of what type its results are."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import onnx
from onnx import TensorProto

from trt_stand_in.graph import Reading, RefusalError, type_name
from trt_stand_in.operator_types import FLOATS, TAKES
from trt_stand_in.rules_quantize import check_dequantize, check_quantize

_EIGHT = frozenset({"INT8", "UINT8", "FP8", "INT4"})

# Operands whose shapes are brought to one.
_BROADCAST = frozenset(
    [
        "Add",
        "Sub",
        "Mul",
        "Div",
        "Max",
        "Min",
        "Sum",
        "Mean",
        "Pow",
        "Mod",
        "And",
        "Or",
        "Xor",
        "Equal",
        "Less",
        "Greater",
        "LessOrEqual",
        "GreaterOrEqual",
        "Where",
        "PRelu",
    ]
)


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """Return a node's attributes."""
    return {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}


def check_node(reading: Reading, node: onnx.NodeProto) -> None:
    """Check a node, and note the types of what it makes.

    Raises:
        RefusalError: the parser, or the builder, refuses it.

    """
    form = _FORMS.get(node.op_type)
    if form is not None:
        form(node, attributes(node))
    if node.op_type == "QuantizeLinear":
        made = check_quantize(reading, node, attributes(node))
        reading.types[node.output[0]] = made
        return
    if node.op_type == "DequantizeLinear":
        reading.types[node.output[0]] = check_dequantize(reading, node, attributes(node))
        return
    _check_types(reading, node)
    if node.op_type in _BROADCAST:
        _check_broadcast(reading, node)
    if node.op_type == "CumSum" and node.input[1] not in reading.constants:
        raise RefusalError("CumSum: the axis must be an initializer")
    _check_shapes(reading, node)
    groups = _groups(reading, node)
    _note_results(reading, node, groups)


def _check_types(reading: Reading, node: onnx.NodeProto) -> None:
    """Hold the operands to what the operator takes."""
    names = [name for name in node.input if name]
    takes = TAKES.get(node.op_type)
    kinds = [reading.types[name] for name in names]
    if takes is None:
        strange = [kind for kind in kinds if kind in _EIGHT]
    else:
        place = _place(node)
        strange = [kind for kind in kinds[place : place + 1] if kind not in takes]
    if strange:
        raise RefusalError(f"{node.op_type} does not take {strange[0]}")
    if any(name in reading.stored and reading.types[name] == "INT8" for name in names):
        raise RefusalError("INT8 constants are read by DequantizeLinear alone")


def _place(node: onnx.NodeProto) -> int:
    """Return which operand the operator's types are of: of Where the first is a condition."""
    return 1 if node.op_type == "Where" else 0


def _check_broadcast(reading: Reading, node: onnx.NodeProto) -> None:
    shapes = [reading.shapes.get(name) for name in node.input if name]
    known = [shape for shape in shapes if shape is not None]
    for axis in range(1, 1 + max(map(len, known), default=0)):
        extents = {shape[-axis] for shape in known if axis <= len(shape)} - {1, -1}
        if len(extents) > 1:
            raise RefusalError(f"{node.op_type}: shapes {known} cannot be broadcast")


def _check_shapes(reading: Reading, node: onnx.NodeProto) -> None:
    """Refuse what convolutions and products cannot multiply."""
    if node.op_type == "Concat":
        _check_concat(reading, node)
    if node.op_type not in {"Conv", "MatMul", "Gemm"}:
        return
    weight = reading.shapes.get(node.input[1])
    broken = (
        node.op_type == "Conv"
        and node.input[1] in reading.half_vectors
        and node.input[0] in reading.dequantised
        and (not weight or weight[0] != 1)
    )
    if broken and not reading.limits.half_vectors:
        raise RefusalError("MyelinCheckException: CHECK(same_symbolic_shapes) failed")
    first, second = (reading.shapes.get(name) for name in node.input[:2])
    if not first or not second:
        return
    given = attributes(node)
    if node.op_type == "Conv":
        inside = first[1], second[1] * given.get("group", 1)
    else:
        across = -2 if len(second) > 1 else -1
        inside = (
            first[-2 if given.get("transA") else -1],
            second[-1 if given.get("transB") else across],
        )
    if inside[0] != inside[1] and min(inside) >= 0:
        raise RefusalError(f"{node.op_type}: {first} and {second} do not fit")


def _check_concat(reading: Reading, node: onnx.NodeProto) -> None:
    shapes = [reading.shapes.get(name) for name in node.input]
    known = [shape for shape in shapes if shape]
    axis = attributes(node).get("axis", 0)
    rest = [shape[:axis] + shape[axis:][1:] for shape in known]
    for extents in zip(*rest):
        if len(set(extents) - {-1}) > 1:
            raise RefusalError(f"Concat: {known} differ beside axis {axis}")


@cache
def _schema(op_type: str, opset: int) -> Any:
    try:
        return onnx.defs.get_schema(op_type, opset)
    except onnx.defs.SchemaError:
        return onnx.defs.get_schema(op_type)


def _formal(schema: Any, index: int) -> Any:
    formals = schema.inputs
    return formals[min(index, len(formals) - 1)] if formals else None


def _groups(reading: Reading, node: onnx.NodeProto) -> dict[str, str]:
    """Return the type that each of the schema's type letters stands for.

    Raises:
        RefusalError: a letter would stand for two.

    """
    schema = _schema(node.op_type, max(reading.opset, 13))
    groups: dict[str, str] = {}
    place = _formal(schema, _place(node))
    primary = place.type_str if node.op_type in TAKES and place is not None else None
    for index, name in enumerate(node.input):
        formal = _formal(schema, index)
        if not name or formal is None:
            continue
        letter, kind = formal.type_str, reading.types[name]
        if formal.option == onnx.defs.OpSchema.FormalParameterOption.Variadic and (
            not formal.is_homogeneous
        ):
            continue
        if reading.limits.strongly_typed and groups.get(letter, kind) != kind:
            raise RefusalError(
                f"{node.op_type} must have same input types. But they are of types "
                f"{groups[letter]} and {kind}."
            )
        groups.setdefault(letter, kind)
        if letter != primary:
            _check_allowed(node, schema, letter, kind)
    return groups


_WORDS = {"FLOAT": "float", "HALF": "float16", "BF16": "bfloat16", "BOOL": "bool"}


def _check_allowed(node: onnx.NodeProto, schema: Any, letter: str, kind: str) -> None:
    words = [f"tensor({_WORDS.get(kind, kind.lower())})"]
    if kind in FLOATS:
        # Which of them is TensorRT's own matter, and in the operators' table.
        words = ["tensor(float)", "tensor(float16)", "tensor(bfloat16)"]
    for constraint in schema.type_constraints:
        if constraint.type_param_str == letter and not (
            set(words) & set(constraint.allowed_type_strs)
        ):
            raise RefusalError(f"{node.op_type} does not take {kind}")


def _note_results(reading: Reading, node: onnx.NodeProto, groups: dict[str, str]) -> None:
    special = _RESULTS.get(node.op_type)
    schema = _schema(node.op_type, max(reading.opset, 13))
    for index, name in enumerate(node.output):
        if not name:
            continue
        if special is not None and index == 0:
            reading.types[name] = special(reading, node, attributes(node))
            continue
        formal = schema.outputs[min(index, len(schema.outputs) - 1)]
        reading.types[name] = groups.get(formal.type_str) or _fixed(reading, schema, formal)


def _fixed(reading: Reading, schema: Any, formal: Any) -> str:
    allowed = [formal.type_str]
    for constraint in schema.type_constraints:
        if constraint.type_param_str == formal.type_str:
            allowed = list(constraint.allowed_type_strs)
    words = {"tensor(int64)": "INT64", "tensor(bool)": "BOOL", "tensor(int32)": "INT32"}
    found = words.get(allowed[0], "FLOAT") if len(allowed) == 1 else "FLOAT"
    return "INT32" if found == "INT64" and reading.limits.narrow else found


def _cast(reading: Reading, node: onnx.NodeProto, given: dict[str, Any]) -> str:
    return type_name(reading, given["to"], f"Cast {node.name!r}")


def _cast_like(reading: Reading, node: onnx.NodeProto, _given: dict[str, Any]) -> str:
    return reading.types[node.input[1]]


def _constant(reading: Reading, node: onnx.NodeProto, given: dict[str, Any]) -> str:
    if "value" in given:
        name = type_name(reading, given["value"].data_type, f"Constant {node.name!r}")
        reading.stored.add(node.output[0])
        return name
    whole = any(key.startswith("value_int") for key in given)
    return type_name(reading, TensorProto.INT64 if whole else TensorProto.FLOAT, "Constant")


def _filled(reading: Reading, node: onnx.NodeProto, given: dict[str, Any]) -> str:
    value = given.get("value")
    return type_name(reading, value.data_type if value else TensorProto.FLOAT, "ConstantOfShape")


def _by_dtype(reading: Reading, node: onnx.NodeProto, given: dict[str, Any]) -> str:
    return type_name(reading, given.get("dtype", TensorProto.FLOAT), node.op_type)


def _branch(reading: Reading, node: onnx.NodeProto, given: dict[str, Any]) -> str:
    graph = given.get("then_branch") or given.get("body")
    return reading.types[graph.output[-1 if "body" in given else 0].name]


_RESULTS: dict[str, Callable[[Reading, onnx.NodeProto, dict[str, Any]], str]] = {
    "Cast": _cast,
    "CastLike": _cast_like,
    "Constant": _constant,
    "ConstantOfShape": _filled,
    "RandomNormal": _by_dtype,
    "RandomUniform": _by_dtype,
    "EyeLike": _by_dtype,
    "If": _branch,
    "Loop": _branch,
    "Scan": _branch,
}


def _resize(node: onnx.NodeProto, given: dict[str, Any]) -> None:
    if given.get("coordinate_transformation_mode") == b"tf_crop_and_resize":
        raise RefusalError("Resize: tf_crop_and_resize is not supported", "UNSUPPORTED_NODE_ATTR")
    if given.get("antialias"):
        raise RefusalError("Resize: antialias is not supported", "UNSUPPORTED_NODE_ATTR")


def _pool(node: onnx.NodeProto, given: dict[str, Any]) -> None:
    if any(extent != 1 for extent in given.get("dilations", [])):
        raise RefusalError("This version of TensorRT does not support dilations other than 1.")
    if len(node.output) > 1 and node.output[1]:
        raise RefusalError("This version of TensorRT does not support the indices output.")


_FORMS: dict[str, Callable[[onnx.NodeProto, dict[str, Any]], None]] = {
    "Resize": _resize,
    "MaxPool": _pool,
    "AveragePool": _pool,
}
