# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The precision plan: which precision every weighted node gets, and why."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from fnmatch import fnmatchcase
from typing import Any

import onnx

from av_compress.compress.graph import WEIGHTED, GraphIndex, attribute, is_depthwise
from av_compress.errors import ConfigError
from av_compress.tensors import Array

# Operator -> position of the input that says where values lie.
_PLACES: Mapping[str, int] = {
    **dict.fromkeys(("ScatterND", "ScatterElements", "Gather", "GatherND", "GatherElements"), 1),
    **dict.fromkeys(("Reshape", "Expand", "Tile"), 1),
}


class Precision(Enum):
    """What a node computes in."""

    INT8 = "int8"
    FP16 = "fp16"
    FP32 = "fp32"


class WeightScales(Enum):
    """How many scales an INT8 weight has: one for each output channel, or one for the tensor."""

    CHANNEL = "channel"
    TENSOR = "tensor"


@dataclass(frozen=True)
class NodeRule:
    """What a recipe says of single nodes.

    Attributes:
        match: pattern of their names, as in file names.
        precision: what they compute in.
        migrate: whether their channels may be centred and aligned, where the rules migrate.

    """

    match: str
    precision: Precision
    migrate: bool = True


@dataclass(frozen=True)
class PrecisionRules:
    """What a recipe says of precision.

    Attributes:
        base: precision of what is not INT8 in the `tensorrt` form.
        exclude: patterns (as in file names) of nodes that stay in the base precision, where
            `nodes` does not name them.
        first: quantise the convolutions that read the model's input.
        prediction: quantise the convolutions whose results reach the outputs without another one,
            and those that take the expectation over a softmax behind them (DFL).
        depthwise: quantise depthwise convolutions; with one activation scale for all channels
            they are what makes small detectors collapse.
        migrate: centre and align channels in front of INT8 nodes where it pays, see
            `compress.refine.affine`; depthwise convolutions can then be INT8. Only the `tensorrt`
            form gains by it.
        round: round weights so that they make up for each other's errors, see
            `compress.refine.rounding`.
        correct_bias: correct biases in topological order too, see `compress.refine.bias`.
        unify_concat: one scale for what a concatenation joins and makes, see
            `compress.observe.unify`.
        nodes: single nodes; of those that match a name the first counts, before all rules.
        gemv: quantise matrix products with a single row, whose time is that of reading the matrix.
        min_channels: nodes with fewer input or output channels (of a group) stay in the base
            precision: they gain nothing. Channels of the model's own inputs and predictions do
            not count where `first` and `prediction` ask for these nodes.
        weight_scales: of INT8 weights, in the forms for TensorRT.
        coordinates: names of the model's inputs that hold places in metres and offsets to them.
            One scale for all of these would leave nothing of the offsets: what reads them is INT8
            only where `nodes` names it.

    """

    base: Precision = Precision.FP16
    exclude: tuple[str, ...] = ()
    first: bool = False
    prediction: bool = False
    depthwise: bool = False
    migrate: bool = False
    round: bool = True
    correct_bias: bool = False
    unify_concat: bool = False
    nodes: tuple[NodeRule, ...] = ()
    gemv: bool = False
    min_channels: int = 16
    weight_scales: WeightScales = WeightScales.CHANNEL
    coordinates: frozenset[str] = frozenset()

    @staticmethod
    def from_config(config: Mapping[str, Any]) -> PrecisionRules:
        """Make the rules from the recipe's validated `precision` section."""
        values = dict(config)
        if "base" in values:
            values["base"] = Precision(values["base"])
        if "weight_scales" in values:
            values["weight_scales"] = WeightScales(values["weight_scales"])
        if "exclude" in values:
            values["exclude"] = tuple(values["exclude"])
        if "nodes" in values:
            values["nodes"] = tuple(
                NodeRule(entry["match"], Precision(entry["precision"]), entry.get("migrate", True))
                for entry in values["nodes"]
            )
        return PrecisionRules(**values)

    def named(self, node: str) -> NodeRule | None:
        """Return what is said of a node by its name; None where nothing is."""
        return next((rule for rule in self.nodes if fnmatchcase(node, rule.match)), None)

    def migrates(self, node: str) -> bool:
        """Tell whether the channels in front of a node may be centred and aligned."""
        named = self.named(node)
        return self.migrate and (named is None or named.migrate)


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
        weight_scales: of the weights of INT8 nodes, in the forms that have a choice.

    """

    base: Precision
    nodes: tuple[NodePrecision, ...]
    weight_scales: WeightScales = WeightScales.CHANNEL

    def quantised(self) -> frozenset[str]:
        """Return the names of the nodes in INT8."""
        return frozenset(n.node for n in self.nodes if n.precision is Precision.INT8)

    def spared(self, reasons: Mapping[str, str]) -> PrecisionPlan:
        """Return this plan with nodes (name -> reason) taken out of INT8."""
        nodes = [
            replace(node, precision=self.base, reason=reasons[node.node])
            if node.precision is Precision.INT8 and node.node in reasons
            else node
            for node in self.nodes
        ]
        return replace(self, nodes=tuple(nodes))

    def in_fp32(self) -> PrecisionPlan:
        """Return this plan with FP32 wherever it says FP16."""
        nodes = [
            node if node.precision is Precision.INT8 else replace(node, precision=Precision.FP32)
            for node in self.nodes
        ]
        return replace(self, base=Precision.FP32, nodes=tuple(nodes))

    def with_notes(self, notes: Mapping[str, str]) -> PrecisionPlan:
        """Return this plan with more said (name -> note) of some nodes' reasons."""
        nodes = [
            replace(n, reason=f"{n.reason}; {notes[n.node]}") if n.node in notes else n
            for n in self.nodes
        ]
        return replace(self, nodes=tuple(nodes))

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
    names = [node.name for node in weighted]
    _check_patterns("exclude", rules.exclude, names)
    _check_patterns("nodes", [rule.match for rule in rules.nodes], names)
    predictions = prediction_nodes(index)
    entries = []
    for node in weighted:
        precision, reason = _decide(index, node, rules, predictions)
        entries.append(NodePrecision(node.name, node.op_type, precision, reason, index.macs(node)))
    return PrecisionPlan(rules.base, tuple(entries), rules.weight_scales)


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
        weighted = index.weight(node) is not None
        if weighted:
            found.add(node.name)
        # Behind an expectation stands the convolution that makes the distribution.
        if not weighted or _is_expectation(index, node):
            stack.extend(node.input)
    return frozenset(found)


def _is_expectation(index: GraphIndex, node: onnx.NodeProto) -> bool:
    """Tell whether a weighted node reads a softmax, with nothing but a new layout in between."""
    producer = index.producers.get(node.input[0])
    while producer is not None and producer.op_type in {"Transpose", "Reshape"}:
        producer = index.producers.get(producer.input[0])
    return producer is not None and producer.op_type == "Softmax"


def _decide(
    index: GraphIndex, node: onnx.NodeProto, rules: PrecisionRules, predictions: frozenset[str]
) -> tuple[Precision, str]:
    impossible = _impossible(index, node)
    if impossible:
        return rules.base, impossible
    named = rules.named(node.name)
    if named is not None:
        return named.precision, f"named by the recipe ({named.match})"
    excluded = next((p for p in rules.exclude if fnmatchcase(node.name, p)), None)
    if excluded is not None:
        return rules.base, f"excluded by the recipe ({excluded})"
    spared = _reason_to_spare(index, node, rules, predictions)
    return (rules.base, spared) if spared else (Precision.INT8, "weights and input quantised")


def _impossible(index: GraphIndex, node: onnx.NodeProto) -> str:
    weight = index.weight(node)
    if weight is None:
        return "has no constant weights"
    if not index.is_float(node.input[0]) or node.input[0] in index.constants:
        return "its input is not a float activation"
    if node.op_type == "MatMul" and weight.ndim != 2:
        return "its weight is not a matrix"
    return ""


def _reason_to_spare(
    index: GraphIndex, node: onnx.NodeProto, rules: PrecisionRules, predictions: frozenset[str]
) -> str:
    weight = index.weight(node)
    if weight is None:
        return "has no constant weights"
    return next(_against(index, node, weight, rules, node.name in predictions), "")


def _against(
    index: GraphIndex, node: onnx.NodeProto, weight: Array, rules: PrecisionRules, predicts: bool
) -> Iterator[str]:
    """Yield what the rules say against INT8, the strongest reason first."""
    read = _inputs_read(index, node)
    first = bool(read)
    if rules.coordinates & read:
        yield "reads coordinates, metres and offsets of centimetres side by side"
    if first and not rules.first:
        yield "reads the model's input"
    if predicts and not rules.prediction:
        yield "makes a prediction"
    if is_depthwise(node, weight):
        if not (rules.depthwise or rules.migrate):
            yield "depthwise: channels differ too much for one scale"
        # Every group of it has one channel: to count them says nothing.
        return
    if not rules.gemv and _is_gemv(index, node):
        yield "matrix times vector: its time is that of reading the matrix"
    inputs, outputs = _channels(node, weight)
    counted = [*([] if first else [inputs]), *([] if predicts else [outputs])]
    if min(counted, default=rules.min_channels) < rules.min_channels:
        yield f"only {min(counted)} channels"


def _is_gemv(index: GraphIndex, node: onnx.NodeProto) -> bool:
    if node.op_type not in {"Gemm", "MatMul"}:
        return False
    shape = index.shape(node.output[0])
    return shape is not None and math.prod(extent or 1 for extent in shape[:-1]) == 1


def _channels(node: onnx.NodeProto, weight: Array) -> tuple[int, int]:
    """Return the input and output channels of one group."""
    groups = attribute(node, "group", 1)
    if node.op_type == "Conv":
        return weight.shape[1], weight.shape[0] // groups
    if node.op_type == "ConvTranspose":
        return weight.shape[0] // groups, weight.shape[1]
    rows, columns = weight.shape[-2:]
    return (columns, rows) if attribute(node, "transB", 0) else (rows, columns)


def _inputs_read(index: GraphIndex, node: onnx.NodeProto) -> frozenset[str]:
    """Return the graph inputs that a node reads with nothing weighted in between.

    What says only where values lie, such as the indices of voxels, is not read.
    """
    stack, seen, read = [node.input[0]], set(), set()
    while stack:
        name = stack.pop()
        producer = index.producers.get(name)
        if producer is None:
            # An optional input that is not given has no name.
            if name and name not in index.constants:
                read.add(name)
        elif producer.name not in seen and index.weight(producer) is None:
            seen.add(producer.name)
            places = _PLACES.get(producer.op_type)
            stack.extend(x for i, x in enumerate(producer.input) if i != places)
    return frozenset(read)


def _check_patterns(key: str, patterns: Sequence[str], names: list[str]) -> None:
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            near = difflib.get_close_matches(pattern, names, n=3, cutoff=0.3) or names[:3]
            raise ConfigError(
                f"precision.{key}: {pattern!r} matches no weighted node; allowed: names such "
                f"as {', '.join(near)}"
            )
