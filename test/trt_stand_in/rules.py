# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What the parser and the builder refuse of a node, and of what type its results are."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import onnx
from onnx import TensorProto

from trt_stand_in.graph import FLOATS, Reading, RefusalError, type_name
from trt_stand_in.rules_quantize import check_dequantize, check_quantize

# May carry integers of eight bits from a QuantizeLinear to a DequantizeLinear.
_MOVES = frozenset(
    [
        "Concat",
        "Expand",
        "Flatten",
        "Gather",
        "Identity",
        "MaxPool",
        "Pad",
        "Reshape",
        "Resize",
        "Slice",
        "Split",
        "Squeeze",
        "Transpose",
        "Unsqueeze",
        "If",
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
    _check_eight_bits(reading, node)
    groups = _groups(reading, node)
    _note_results(reading, node, groups)


def _check_eight_bits(reading: Reading, node: onnx.NodeProto) -> None:
    if node.op_type in _MOVES or node.op_type == "Cast":
        stored = [name for name in node.input if name in reading.stored]
        if any(reading.types[name] == "INT8" for name in stored):
            raise RefusalError("INT8 constants are read by DequantizeLinear alone")
        return
    kinds = {reading.types[name] for name in node.input if name}
    if kinds & {"INT8", "UINT8", "FP8", "INT4"}:
        raise RefusalError(f"{node.op_type} does not take {', '.join(sorted(kinds))}")


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
        _check_allowed(node, schema, letter, kind)
    return groups


_WORDS = {"FLOAT": "float", "HALF": "float16", "BF16": "bfloat16", "BOOL": "bool"}


def _check_allowed(node: onnx.NodeProto, schema: Any, letter: str, kind: str) -> None:
    if kind in FLOATS:
        return
    for constraint in schema.type_constraints:
        word = f"tensor({_WORDS.get(kind, kind.lower())})"
        if constraint.type_param_str == letter and word not in constraint.allowed_type_strs:
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
