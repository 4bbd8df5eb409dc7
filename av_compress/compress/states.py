# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The weighted nodes of a model as they stand in its file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import onnx
from onnx import TensorProto

from av_compress.compress.graph import WEIGHTED
from av_compress.compress.lint.view import Arrival, LintView, name_of, type_name

_FLOAT_NAMES: Mapping[int, str] = {
    TensorProto.FLOAT: "fp32",
    TensorProto.FLOAT16: "fp16",
    TensorProto.BFLOAT16: "bf16",
    TensorProto.DOUBLE: "fp64",
}


@dataclass(frozen=True)
class NodeState:
    """A weighted node as it stands in a file.

    Attributes:
        op_type: its operator.
        precision: what its pairs and types make it compute in: `int8`, `uint8`, `fp16`, `fp32`.
        macs: multiply-accumulates for one frame; dynamic extents count as 1.
        weights: how many numbers its weight holds.
        reason: why, where a bundle's manifest says so; else empty.

    """

    op_type: str
    precision: str
    macs: int
    weights: int
    reason: str


def weighted_nodes(
    model: onnx.ModelProto, reasons: Mapping[str, str] | None = None
) -> dict[str, NodeState]:
    """Return the weighted nodes of a model by name, each in the precision that it stands in."""
    view = LintView(model)
    return {
        name_of(node): NodeState(
            op_type=str(node.op_type),
            precision=_precision(view, node, activation, weight),
            macs=_macs(view, node),
            weights=math.prod(_weight_shape(view, node)),
            reason=(reasons or {}).get(name_of(node), ""),
        )
        for node, activation, weight in view.weighted
    }


def _precision(view: LintView, node: onnx.NodeProto, activation: Arrival, weight: Arrival) -> str:
    pairs = (activation.pair, weight.pair)
    if activation.quantised and None not in pairs and activation.pair is not None:
        kind = view.type_of(activation.pair.input[0])
        return type_name(kind).lower() if kind else "int8"
    kind = next((k for name in node.input if (k := view.type_of(name))), 0)
    return _FLOAT_NAMES.get(kind, "unknown")


def _macs(view: LintView, node: onnx.NodeProto) -> int:
    shape = _weight_shape(view, node)
    return view.index.macs_with(node, shape) if len(shape) >= 2 else 0


def _weight_shape(view: LintView, node: onnx.NodeProto) -> tuple[int, ...]:
    shape = view.index.shape(node.input[WEIGHTED[node.op_type]])
    return tuple(extent or 1 for extent in shape or ())
