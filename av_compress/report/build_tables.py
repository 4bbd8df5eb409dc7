# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Tables of a build's page."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from av_compress.engines.manifest import ArtefactRecord, CalibrationRecord, Manifest
from av_compress.metrics.average_precision import ClassAP, DetectionAP
from av_compress.metrics.range_error import signal_to_noise_db
from av_compress.report.build_data import FP32, BuildReport, PassRow, TensorRange
from av_compress.report.numbers import (
    NONE,
    amount,
    fixed,
    general,
    milliseconds,
    percent,
    points,
    signed,
    size,
)
from av_compress.report.tables import Cell, Table

NAMES = {FP32: "FP32", "tensorrt": "tensorrt form", "cpu": "cpu form"}
TRUTHS = {"labels": "labels", "agreement": "FP32’s own detections"}
METRICS = {
    "ap50": "AP50 on labels",
    "ap": "AP on labels",
    "agreement_ap50": "AP50 against FP32’s own detections",
    "agreement_ap": "AP against FP32’s own detections",
}
SHORT = {"ap50": "AP50", "ap": "AP"}
# So many of the tensors that INT8 represents worst are drawn.
WORST = 6


def truths(report: BuildReport) -> list[str]:
    """List what the gate samples were judged against, that of the gate's metric first."""
    gates = [artefact.gate for artefact in report.manifest.artefacts.values()]
    labelled = any(gate is not None and not gate.metric.startswith("agreement") for gate in gates)
    order = ("labels", "agreement") if labelled else ("agreement", "labels")
    return [truth for truth in order if truth in report.accuracy.get(FP32, {})]


def gate_table(manifest: Manifest) -> Table:
    """Tabulate the conditions and how they went."""
    rows = []
    for name, artefact in sorted(manifest.artefacts.items()):
        gate = artefact.gate
        if gate is None:
            continue
        verdict = Cell("passed", "good") if gate.passed else Cell("FAILED", "bad")
        change = signed(gate.candidate - gate.reference)
        measured = (fixed(gate.reference), fixed(gate.candidate), change)
        metric = METRICS.get(gate.metric, gate.metric)
        rows.append((NAMES[name], metric, verdict, *measured, fixed(gate.max_loss)))
    headers = ("model", "condition", "verdict", "FP32", "INT8", "change", "allowed loss")
    return Table(headers, rows, left=3)


def accuracy_table(report: BuildReport) -> Table:
    """Tabulate every model's average precision against every truth, in points."""
    columns = [(truth, metric) for truth in truths(report) for metric in ("ap50", "ap")]
    headers = [f"{SHORT[metric]}, {TRUTHS[truth]}" for truth, metric in columns]
    rows = [
        (NAMES[model], *(points(getattr(found[truth], metric)) for truth, metric in columns))
        for model, found in _ordered(report)
    ]
    return Table(("model", *headers), rows)


def class_table(report: BuildReport, truth: str) -> Table:
    """Tabulate AP50 per class, most objects first, each emitter's change beside it."""
    emitters = [model for model, _ in _ordered(report) if model != FP32]
    headers = ["class", "objects", "FP32 AP50"]
    for emitter in emitters:
        headers += [NAMES[emitter], "change"]
    reference = report.accuracy[FP32][truth].per_class
    rows: list[list[str]] = []
    for name in by_objects(report.accuracy[FP32][truth]):
        row = [name, f"{reference[name].truths}", points(reference[name].ap50)]
        for emitter in emitters:
            found = report.accuracy[emitter][truth].per_class.get(name)
            row += _beside(reference[name], found)
        rows.append(row)
    return Table(headers, rows)


def by_objects(accuracy: DetectionAP) -> list[str]:
    """List the classes, those with most objects first."""
    classes = accuracy.per_class
    return sorted(classes, key=lambda name: (-classes[name].truths, name))


def cost_table(report: BuildReport) -> Table:
    """Tabulate sizes and execution times."""
    source = report.manifest.source
    sizes = {FP32: source.bytes}
    sizes |= {name: one.bytes for name, one in sorted(report.manifest.artefacts.items())}
    times = {one.model: one for one in report.execution}
    reference = times[FP32].median_ms if FP32 in times else None
    rows = []
    for model, count in sizes.items():
        time = times.get(model)
        ratio = NONE
        if time is not None and reference is not None:
            ratio = f"{reference / time.median_ms:.2f} ×"
        rows.append(
            (
                NAMES[model],
                NONE if time is None else time.engine,
                size(count),
                percent(count / source.bytes, 0),
                NONE if time is None else milliseconds(time.median_ms),
                ratio,
            )
        )
    headers = ("model", "run by", "file", "of FP32", "execute ms", "speed")
    return Table(headers, rows, left=2)


def reason_table(report: BuildReport) -> Table:
    """Tabulate why nodes have their precision: how many, and how much arithmetic they are."""
    artefacts = report.manifest.artefacts
    groups: dict[tuple[tuple[str, ...], str], list[str]] = {}
    for name, precisions, reason, _ in _nodes(artefacts):
        groups.setdefault((precisions, reason), []).append(name)
    total = sum(report.macs.values())
    found = [
        (precisions, reason, len(names), sum(report.macs.get(name, 0) for name in names))
        for (precisions, reason), names in groups.items()
    ]
    rows = [
        (reason, *precisions, f"{count}", percent(macs / total) if total else NONE)
        for precisions, reason, count, macs in sorted(found, key=lambda row: (-row[3], row[1]))
    ]
    headers = ("reason", *(NAMES[name] for name in sorted(artefacts)), "nodes", "of arithmetic")
    return Table(headers, rows, left=1 + len(artefacts))


def node_table(report: BuildReport) -> Table:
    """Tabulate every weighted node."""
    artefacts = report.manifest.artefacts
    total = sum(report.macs.values())
    rows = []
    for name, precisions, reason, op_type in _nodes(artefacts):
        macs = report.macs.get(name)
        share = percent(macs / total) if macs is not None and total else NONE
        rows.append(
            (name, op_type, *precisions, reason, NONE if macs is None else amount(macs), share)
        )
    headers = ("node", "operator", *(NAMES[name] for name in sorted(artefacts)), "reason")
    return Table((*headers, "MACs", "share"), rows, left=3 + len(artefacts))


def worst_ranges(ranges: Iterable[TensorRange]) -> list[TensorRange]:
    """Choose the tensors that INT8 represents worst, the worst first."""
    return _by_noise(ranges)[:WORST]


def range_table(ranges: Iterable[TensorRange]) -> Table:
    """Tabulate what was seen of each tensor and what is represented, the worst first."""
    rows = [
        (
            one.name,
            general(one.minimum),
            general(one.maximum),
            general(one.low),
            general(one.high),
            fixed(noise_db(one), 1),
        )
        for one in _by_noise(ranges)
    ]
    headers = ("tensor", "smallest seen", "largest seen", "represented from", "to", "SNR dB")
    return Table(headers, rows)


def noise_db(one: TensorRange) -> float:
    """Return a tensor's power over its quantisation error, in decibels."""
    return signal_to_noise_db(one.counts, one.bin_width, one.low, one.high)


def pass_table(passes: Sequence[PassRow]) -> Table:
    """Tabulate the preparation's passes."""
    rows = [
        (
            one.name,
            one.detail or Cell("nothing to do", "quiet"),
            f"{one.nodes_before}",
            f"{one.nodes_after}",
            *((NONE, NONE) if one.macs is None else map(amount, one.macs)),
            NONE if one.deviation is None else general(one.deviation, 2),
        )
        for one in passes
    ]
    headers = ("pass", "what it did", "nodes before", "after", "MACs before", "after", "moved by")
    return Table(headers, rows, left=2)


def hash_table(manifest: Manifest) -> Table:
    """Tabulate everything that has a hash."""
    rows = [
        ("source model", manifest.source.name, Cell(manifest.source.sha256, "quiet")),
        ("recipe", manifest.name, Cell(manifest.recipe_sha256, "quiet")),
        (
            "calibration samples",
            manifest.calibration.source,
            Cell(manifest.calibration.sha256, "quiet"),
        ),
    ]
    for name, artefact in sorted(manifest.artefacts.items()):
        rows.append((NAMES[name], artefact.path, Cell(artefact.sha256, "quiet")))
    return Table(("what", "name", "sha256"), rows, left=3)


def version_table(manifest: Manifest) -> Table:
    """Tabulate the tools."""
    return Table(("tool", "version"), sorted(manifest.versions.items()), left=2)


def frame_table(calibration: CalibrationRecord) -> Table:
    """Tabulate the calibration samples."""
    rows = [(frame.key, Cell(frame.sha256, "quiet")) for frame in calibration.frames]
    return Table(("frame", "sha256 of its pixels"), rows, left=2)


def _ordered(report: BuildReport) -> list[tuple[str, Mapping[str, DetectionAP]]]:
    names = [FP32, *sorted(name for name in report.accuracy if name != FP32)]
    return [(name, report.accuracy[name]) for name in names]


def _beside(reference: ClassAP, found: ClassAP | None) -> list[str]:
    if found is None:
        return [NONE, NONE]
    return [points(found.ap50), signed(100.0 * (found.ap50 - reference.ap50))]


def _nodes(
    artefacts: Mapping[str, ArtefactRecord],
) -> list[tuple[str, tuple[str, ...], str, str]]:
    """Return name, precision per emitter, reason and operator of every weighted node."""
    emitters = sorted(artefacts)
    per_emitter = [{node.node: node for node in artefacts[name].nodes} for name in emitters]
    rows = []
    for node in artefacts[emitters[0]].nodes:
        others = [
            nodes[node.node].precision.upper() for nodes in per_emitter if node.node in nodes
        ]
        rows.append((node.node, tuple(others), node.reason, node.op_type))
    return rows


def _by_noise(ranges: Iterable[TensorRange]) -> list[TensorRange]:
    found = [(noise_db(one), one) for one in ranges]
    ordered = sorted(found, key=lambda pair: (pair[0], pair[1].name))
    return [one for noise, one in ordered if not math.isinf(noise)]
