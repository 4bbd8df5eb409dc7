# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Two models side by side: what stands in their files, and what a bundle says of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import onnx

from av_compress.compress.optimize.prepare import load_model
from av_compress.compress.states import NodeState, weighted_nodes
from av_compress.engines.bundle import Bundle
from av_compress.engines.manifest import ArtefactRecord
from av_compress.fileio import sha256_file
from av_compress.validate.side_by_side import SideBySide


@dataclass(frozen=True)
class Side:
    """One of the two.

    Attributes:
        name: the bundle's folder and form, or the model's file name, without its path.
        sha256: hash of the model file.
        bytes: size of the model, with its external data.
        operators: number of nodes.
        nodes: name -> weighted node, in graph order.
        accuracy: metric -> points, of a bundle's gate; empty where there is none.
        judged_on: the frames of that gate, in words.
        form: a key of `FORMS` for a bundle's; empty for a model.

    """

    name: str
    sha256: str
    bytes: int
    operators: int
    nodes: Mapping[str, NodeState]
    accuracy: Mapping[str, float] = field(default_factory=dict)
    judged_on: str = ""
    form: str = ""

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all weighted nodes for one frame."""
        return sum(node.macs for node in self.nodes.values())

    @property
    def int8_share(self) -> float:
        """Share of multiply-accumulates in 8-bit integers, 0..1."""
        inside = sum(n.macs for n in self.nodes.values() if n.precision in {"int8", "uint8"})
        return inside / self.macs if self.macs else 0.0


@dataclass(frozen=True)
class NodeChange:
    """A weighted node that the two compute in different precisions."""

    node: str
    a: NodeState
    b: NodeState


@dataclass(frozen=True)
class Diff:
    """Two models side by side.

    Attributes:
        a: the first.
        b: the second.
        changes: weighted nodes of both, by name, whose precision differs, in a's order.
        only_a: names of weighted nodes that b does not have.
        only_b: names of weighted nodes that a does not have.
        measured: what running both on the same frames showed; None where nothing was run.

    """

    a: Side
    b: Side
    changes: tuple[NodeChange, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    measured: SideBySide | None = None


def diff(a: Side, b: Side, measured: SideBySide | None = None) -> Diff:
    """Compare two sides node by node."""
    return Diff(
        a,
        b,
        changes=tuple(
            NodeChange(name, node, b.nodes[name])
            for name, node in a.nodes.items()
            if name in b.nodes and node.precision != b.nodes[name].precision
        ),
        only_a=tuple(name for name in a.nodes if name not in b.nodes),
        only_b=tuple(name for name in b.nodes if name not in a.nodes),
        measured=measured,
    )


def model_side(path: Path) -> Side:
    """Look at an ONNX file.

    Raises:
        ModelError: absent, not ONNX, or its external data cannot be read.

    """
    model = load_model(path)
    return Side(
        name=path.name,
        sha256=sha256_file(path),
        bytes=path.stat().st_size + _external_bytes(path),
        operators=len(model.graph.node),
        nodes=weighted_nodes(model),
    )


def bundle_side(bundle: Bundle, emitter: str) -> Side:
    """Look at a form of a bundle.

    Raises:
        BundleError: the bundle has no such form, or its file was changed.

    """
    record = bundle.record(emitter)
    model = onnx.load_from_string(bundle.read_artefact(emitter))
    reasons = {node.node: node.reason for node in record.nodes}
    return Side(
        name=f"{bundle.root.resolve().name}/{emitter}",
        sha256=record.sha256,
        bytes=record.bytes,
        operators=len(model.graph.node),
        nodes=weighted_nodes(model, reasons),
        accuracy=_accuracy(record),
        judged_on=_judged_on(record),
        form=emitter,
    )


def _accuracy(record: ArtefactRecord) -> dict[str, float]:
    gate = record.gate
    if gate is None:
        return {}
    own = {name: value for name, value in gate.figures.items() if not name.startswith("fp32_")}
    return {gate.metric: gate.candidate, **own}


def _judged_on(record: ArtefactRecord) -> str:
    return "" if record.gate is None else f"{record.gate.frames} frames of {record.gate.source}"


def _external_bytes(path: Path) -> int:
    """Return the size of the files beside a model that hold its data."""
    bare = onnx.load(path, load_external_data=False)
    names = {
        entry.value
        for tensor in bare.graph.initializer
        for entry in tensor.external_data
        if entry.key == "location"
    }
    return sum((path.parent / name).stat().st_size for name in names)
