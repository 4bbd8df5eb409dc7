# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The precision plan: which precision every weighted node gets, and why."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from fnmatch import fnmatchcase
from typing import Any

import onnx

from av_compress.compress.graph import WEIGHTED, GraphIndex, is_depthwise
from av_compress.errors import ConfigError
from av_compress.tensors import Array


class Precision(Enum):
    """What a node computes in."""

    INT8 = "int8"
    FP16 = "fp16"
    FP32 = "fp32"


@dataclass(frozen=True)
class PrecisionRules:
    """What a recipe says of precision.

    Attributes:
        base: precision of what is not INT8 in the `tensorrt` form.
        exclude: patterns (as in file names) of nodes that stay in the base precision.
        first: quantise the convolutions that read the model's input.
        prediction: quantise the convolutions whose results reach the outputs without another one.
        depthwise: quantise depthwise convolutions; with one activation scale for all channels
            they are what makes small detectors collapse.
        min_channels: convolutions with fewer input or output channels stay in the base precision:
            they gain nothing.

    """

    base: Precision = Precision.FP16
    exclude: tuple[str, ...] = ()
    first: bool = False
    prediction: bool = False
    depthwise: bool = False
    min_channels: int = 16

    @staticmethod
    def from_config(config: Mapping[str, Any]) -> PrecisionRules:
        """Make the rules from the recipe's validated `precision` section."""
        values = dict(config)
        if "base" in values:
            values["base"] = Precision(values["base"])
        if "exclude" in values:
            values["exclude"] = tuple(values["exclude"])
        return PrecisionRules(**values)


@dataclass(frozen=True)
class NodePrecision:
    """A node's precision and the reason for it."""

    node: str
    op_type: str
    precision: Precision
    reason: str
    macs: int


@dataclass(frozen=True)
class PrecisionPlan:
    """Precision of every weighted node, in graph order.

    Attributes:
        base: precision of everything else.
        nodes: one entry a weighted node.

    """

    base: Precision
    nodes: tuple[NodePrecision, ...]

    def quantised(self) -> frozenset[str]:
        """Return the names of the nodes in INT8."""
        return frozenset(n.node for n in self.nodes if n.precision is Precision.INT8)

    def int8_mac_share(self) -> float:
        """Return the share of multiply-accumulates in INT8, 0..1."""
        total = sum(node.macs for node in self.nodes)
        inside = sum(n.macs for n in self.nodes if n.precision is Precision.INT8)
        return inside / total if total else 0.0


def make_plan(model: onnx.ModelProto, rules: PrecisionRules) -> PrecisionPlan:
    """Apply the rules to every weighted node.

    Args:
        model: prepared model (named nodes, inferred shapes).
        rules: what the recipe says.

    Raises:
        ConfigError: a pattern of `exclude` matches no node; the nearest names are given.

    """
    index = GraphIndex(model)
    weighted = [node for node in index.graph.node if node.op_type in WEIGHTED]
    _check_patterns(rules.exclude, [node.name for node in weighted])
    predictions = prediction_nodes(index)
    entries = []
    for node in weighted:
        spared = _reason_to_spare(index, node, rules, predictions)
        precision = rules.base if spared else Precision.INT8
        reason = spared or "weights and input quantised"
        entries.append(NodePrecision(node.name, node.op_type, precision, reason, index.macs(node)))
    return PrecisionPlan(rules.base, tuple(entries))


def prediction_nodes(index: GraphIndex) -> frozenset[str]:
    """Return the weighted nodes from which an output is reached without another weighted node."""
    found: set[str] = set()
    seen: set[str] = set()
    stack = list(index.outputs)
    while stack:
        name = stack.pop()
        node = index.producers.get(name)
        if node is None or name in seen:
            continue
        seen.add(name)
        if index.weight(node) is not None:
            found.add(node.name)
        else:
            stack.extend(node.input)
    return frozenset(found)


def _reason_to_spare(
    index: GraphIndex, node: onnx.NodeProto, rules: PrecisionRules, predictions: frozenset[str]
) -> str:
    weight = index.weight(node)
    if weight is None:
        return "has no constant weights"
    pattern = next((p for p in rules.exclude if fnmatchcase(node.name, p)), None)
    if pattern is not None:
        return f"excluded by the recipe ({pattern})"
    if not index.is_float(node.input[0]) or node.input[0] in index.constants:
        return "its input is not a float activation"
    if not rules.first and _reads_input(index, node):
        return "reads the model's input"
    if not rules.prediction and node.name in predictions:
        return "makes a prediction"
    return _spared_by_shape(node, weight, rules)


def _spared_by_shape(node: onnx.NodeProto, weight: Array, rules: PrecisionRules) -> str:
    if node.op_type == "Conv":
        if is_depthwise(node, weight):
            return "" if rules.depthwise else "depthwise: channels differ too much for one scale"
        channels = min(weight.shape[0], weight.shape[1])
    elif node.op_type == "ConvTranspose":
        channels = min(weight.shape[0], weight.shape[1])
    else:
        channels = min(weight.shape[-2:])
        if weight.ndim != 2:
            return "its weight is not a matrix"
    few = channels < rules.min_channels
    return f"only {channels} channels" if few else ""


def _reads_input(index: GraphIndex, node: onnx.NodeProto) -> bool:
    """Tell whether a node reads a graph input with nothing weighted in between."""
    stack, seen = [node.input[0]], set()
    while stack:
        name = stack.pop()
        producer = index.producers.get(name)
        if producer is None:
            # An optional input that is not given has no name.
            if name and name not in index.constants:
                return True
        elif producer.name not in seen and index.weight(producer) is None:
            seen.add(producer.name)
            stack.extend(producer.input)
    return False


def _check_patterns(patterns: tuple[str, ...], names: list[str]) -> None:
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            near = difflib.get_close_matches(pattern, names, n=3, cutoff=0.3) or names[:3]
            raise ConfigError(
                f"precision.exclude: {pattern!r} matches no weighted node; allowed: names such "
                f"as {', '.join(near)}"
            )
