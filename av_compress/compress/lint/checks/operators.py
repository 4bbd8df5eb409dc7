# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Checks of operators: which there are, in which form, and with which shapes."""

from __future__ import annotations

from collections.abc import Iterator

import onnx

from av_compress.compress.graph import text_attribute
from av_compress.compress.lint.rule import Finding
from av_compress.compress.lint.targets import Target
from av_compress.compress.lint.view import LintView, name_of

_STANDARD = frozenset({"", "ai.onnx"})
# Domains whose operators ONNX Runtime has on every CPU.
_RUNTIME_DOMAINS = frozenset({"com.microsoft", "ai.onnx.ml", "ai.onnx.preview.training"})
INTEGER = frozenset(
    {
        *("QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger"),
        *("DynamicQuantizeLinear", "QLinearAdd", "QLinearMul", "QLinearConcat", "QGemm"),
        *("QLinearSigmoid", "QLinearLeakyRelu", "QLinearAveragePool", "QAttention"),
        *("QLinearGlobalAveragePool", "QLinearSoftmax", "DynamicQuantizeMatMul"),
    }
)
_CONTROL = frozenset({"If", "Loop", "Scan"})
_POOLS = frozenset({"MaxPool", "AveragePool", "LpPool"})


def integer_operator(view: LintView, target: Target) -> Iterator[Finding]:
    """Find operators that compute in integers by themselves."""
    for node in view.all_nodes:
        if node.op_type in INTEGER:
            yield Finding(name_of(node), node.op_type)


def unsupported(view: LintView, target: Target) -> Iterator[Finding]:
    """Find operators of the standard that the target does not read."""
    for node in view.all_nodes:
        if node.op_type in target.unsupported and node.op_type not in INTEGER:
            yield Finding(name_of(node), node.op_type)


def custom(view: LintView, target: Target) -> Iterator[Finding]:
    """Find operators that neither the standard nor the model itself defines."""
    for node in view.all_nodes:
        if not _defined(view, node) and not _known_by_name(node, target):
            domain = f"{node.domain}." if node.domain else ""
            yield Finding(name_of(node), f"{domain}{node.op_type}")


def custom_on_cpu(view: LintView, target: Target) -> Iterator[Finding]:
    """Find operators that ONNX Runtime does not have."""
    for node in view.all_nodes:
        if not _defined(view, node) and node.domain not in _RUNTIME_DOMAINS:
            domain = f"{node.domain}." if node.domain else ""
            yield Finding(name_of(node), f"{domain}{node.op_type}")


def domain_ignored(view: LintView, target: Target) -> Iterator[Finding]:
    """Find operators of other domains that bear the name of a standard one."""
    for node in view.all_nodes:
        if not _defined(view, node) and _known_by_name(node, target):
            yield Finding(name_of(node), f"{node.domain}.{node.op_type}")


def form(view: LintView, target: Target) -> Iterator[Finding]:
    """Find standard operators in a form that the target does not read."""
    for node in view.all_nodes:
        reason = _unread_form(node)
        if reason and node.domain in _STANDARD:
            yield Finding(name_of(node), f"{node.op_type} with {reason}")


def control_flow(view: LintView, target: Target) -> Iterator[Finding]:
    """Find conditions and loops."""
    for node in view.all_nodes:
        if node.op_type in _CONTROL:
            yield Finding(name_of(node), node.op_type)


def dynamic_shape(view: LintView, target: Target) -> Iterator[Finding]:
    """Find inputs whose extents are not fixed."""
    for value in view.index.graph.input:
        shape = view.index.shape(value.name)
        if shape is None or None in shape:
            extents = "?" if shape is None else ",".join(str(e or "?") for e in shape)
            yield Finding(value.name, f"input of shape [{extents}]")


def _defined(view: LintView, node: onnx.NodeProto) -> bool:
    """Tell whether the standard or the model defines an operator."""
    own = {(function.domain, function.name) for function in view.source.functions}
    if (node.domain, node.op_type) in own:
        return True
    # A name that came or went with another opset is still one of the standard.
    return node.domain in _STANDARD and _is_standard(node.op_type)


def _known_by_name(node: onnx.NodeProto, target: Target) -> bool:
    """Tell whether a parser that looks at names alone takes an operator for a standard one."""
    known = _is_standard(node.op_type) and node.op_type not in target.unsupported
    return node.domain not in _STANDARD and known


def _is_standard(op_type: str) -> bool:
    return bool(onnx.defs.has(op_type, ""))


def _unread_form(node: onnx.NodeProto) -> str:
    if node.op_type == "Resize":
        if text_attribute(node, "coordinate_transformation_mode") == "tf_crop_and_resize":
            return "coordinate_transformation_mode tf_crop_and_resize"
        return "antialias" if any(a.name == "antialias" and a.i for a in node.attribute) else ""
    if node.op_type == "MaxPool" and len(node.output) > 1 and node.output[1]:
        return "its Indices output"
    if node.op_type in _POOLS:
        dilations = next((list(a.ints) for a in node.attribute if a.name == "dilations"), [])
        return f"dilations {dilations}" if any(d != 1 for d in dilations) else ""
    return ""
