# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Checks of element types and of the opset, against the standard and the target."""

from __future__ import annotations

from collections.abc import Iterator

import onnx
from onnx import TensorProto

from av_compress.compress.graph import attribute, content
from av_compress.compress.lint.checks.operators import INTEGER
from av_compress.compress.lint.rule import Finding
from av_compress.compress.lint.targets import Target
from av_compress.compress.lint.view import (
    DEQUANTIZE,
    QUANTIZE,
    LintView,
    name_of,
    type_name,
)

_QUANTISED = frozenset(
    {
        *(TensorProto.INT8, TensorProto.UINT8, TensorProto.INT4, TensorProto.UINT4),
        *(TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT8E5M2),
    }
)
# What may read UINT8 that no QuantizeLinear made.
_READS_UINT8 = frozenset({"Cast", "Identity"})
_MODEL = "the model"


def opset_new(view: LintView, target: Target) -> Iterator[Finding]:
    """Find a model of an opset that the target does not promise to read yet."""
    if view.opset > target.opset_max:
        yield Finding(_MODEL, f"opset {view.opset}, read up to {target.opset_max}")


def opset_old(view: LintView, target: Target) -> Iterator[Finding]:
    """Find a model of an opset that the target does not promise to read any more."""
    if view.opset < target.opset_min:
        yield Finding(_MODEL, f"opset {view.opset}, read from {target.opset_min}")


def not_standard(view: LintView, target: Target) -> Iterator[Finding]:
    """Find what the standard's own checker refuses, and data that it does not look at."""
    for tensor in view.source.graph.initializer:
        if content(tensor) is None:
            yield Finding(tensor.name, "its data is not what its type and shape say")
    try:
        onnx.checker.check_model(view.source, full_check=True)
    except ValueError:
        return  # The checker wants less than 2 GiB.
    except Exception as error:  # ValidationError and InferenceError have no common base class.
        text = " ".join(str(error).split())
        yield Finding(_MODEL, f"not valid ONNX: {text[:200]}")


def unsupported_type(view: LintView, target: Target) -> Iterator[Finding]:
    """Find tensors of types that the target does not have."""
    graph = view.index.graph
    named = [value.name for value in (*graph.input, *graph.output)]
    for name in dict.fromkeys([*named, *view.index.constants]):
        kind = view.type_of(name)
        if kind and kind not in target.types:
            yield Finding(name, f"tensor of type {type_name(kind)}")
    for node in view.of_type("Cast"):
        kind = attribute(node, "to", 0)
        if kind and kind not in target.types:
            yield Finding(name_of(node), f"casts to {type_name(kind)}")


def double(view: LintView, target: Target) -> Iterator[Finding]:
    """Find tensors in FP64."""
    graph = view.index.graph
    named = [value.name for value in (*graph.input, *graph.output)]
    for name in dict.fromkeys([*named, *view.index.constants]):
        if view.type_of(name) == TensorProto.DOUBLE:
            yield Finding(name, "tensor of type DOUBLE")


def mixed_types(view: LintView, target: Target) -> Iterator[Finding]:
    """Find nodes whose inputs have different types though the standard wants one."""
    for node in view.nodes:
        if node.op_type != QUANTIZE or not target.mixed_scales:
            yield from _mixed(view, node)


def scale_type(view: LintView, target: Target) -> Iterator[Finding]:
    """Find quantisers that read a tensor and a scale of different types, where that is built."""
    for node in view.of_type(QUANTIZE) if target.mixed_scales else ():
        yield from _mixed(view, node)


def _mixed(view: LintView, node: onnx.NodeProto) -> Iterator[Finding]:
    """Yield the different types of a node's inputs that the standard wants to be of one."""
    together: dict[str, set[int]] = {}
    for name, formal in _formal_inputs(view, node):
        kind = view.type_of(name)
        if kind and formal.is_homogeneous and "tensor(" not in formal.type_str:
            together.setdefault(formal.type_str, set()).add(kind)
    for kinds in together.values():
        if len(kinds) > 1:
            both = " and ".join(sorted(type_name(kind) for kind in kinds))
            yield Finding(name_of(node), f"{node.op_type} of {both}")


def integer_arithmetic(view: LintView, target: Target) -> Iterator[Finding]:
    """Find operators that read quantised values for which the standard has no meaning."""
    for node in view.nodes:
        if node.op_type in {QUANTIZE, DEQUANTIZE}:
            continue
        for name, formal in _formal_inputs(view, node):
            kind = view.type_of(name)
            if kind in _QUANTISED and f"tensor({type_name(kind).lower()})" not in formal.types:
                yield Finding(name_of(node), f"{node.op_type} reads {type_name(kind)} {name}")
                break


def uint8_arithmetic(view: LintView, target: Target) -> Iterator[Finding]:
    """Find operators on UINT8 that came so from outside, or stands so in the file."""
    outside = {value.name for value in view.index.graph.input} | set(view.index.constants)
    for name in sorted(outside):
        if view.type_of(name) != TensorProto.UINT8:
            continue
        for node in view.index.consumers.get(name, ()):
            known = node.op_type in _READS_UINT8 or node.op_type == DEQUANTIZE
            if not known and not _is_zero_point(node, name):
                yield Finding(name_of(node), f"{node.op_type} reads UINT8 {name}")


def uint8_dequantised(view: LintView, target: Target) -> Iterator[Finding]:
    """Find UINT8 behind DequantizeLinear that no QuantizeLinear of the graph made."""
    outside = {value.name for value in view.index.graph.input} | set(view.index.constants)
    for node in view.of_type(DEQUANTIZE):
        name = node.input[0]
        if name in outside and view.type_of(name) == TensorProto.UINT8:
            yield Finding(name_of(node), f"restores UINT8 {name}")


def quantised_constant(view: LintView, target: Target) -> Iterator[Finding]:
    """Find stored integers of 8 bits that something else than DequantizeLinear reads."""
    for name in view.index.constants:
        if view.type_of(name) not in _QUANTISED - {TensorProto.UINT8}:
            continue
        for node in view.index.consumers.get(name, ()):
            stored = node.op_type == DEQUANTIZE or node.op_type in INTEGER
            if not stored and not _is_zero_point(node, name):
                yield Finding(name_of(node), f"{node.op_type} reads stored integers {name}")


def half_on_cpu(view: LintView, target: Target) -> Iterator[Finding]:
    """Find FP16 where it has no arithmetic of its own."""
    for node in view.nodes:
        kinds = {view.type_of(name) for name in node.input}
        if node.op_type != "Cast" and TensorProto.FLOAT16 in kinds:
            yield Finding(name_of(node), f"{node.op_type} in FP16")


def _formal_inputs(
    view: LintView, node: onnx.NodeProto
) -> Iterator[tuple[str, onnx.defs.OpSchema.FormalParameter]]:
    """Yield a node's inputs with what the standard says of each."""
    if node.domain not in {"", "ai.onnx"}:
        return
    try:
        schema = onnx.defs.get_schema(node.op_type, max(view.opset, 1), "")
    except onnx.defs.SchemaError:
        return
    if not schema.inputs:
        return
    for position, name in enumerate(node.input):
        if name:
            yield name, schema.inputs[min(position, len(schema.inputs) - 1)]


def _is_zero_point(node: onnx.NodeProto, name: str) -> bool:
    pair = node.op_type in {QUANTIZE, DEQUANTIZE}
    return pair and len(node.input) > 2 and node.input[2] == name
