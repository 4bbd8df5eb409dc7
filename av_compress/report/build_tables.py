# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Tables of a build's page."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence

from av_compress.engines.forms import FORMS
from av_compress.engines.manifest import (
    ArtefactRecord,
    CalibrationRecord,
    CheckRecord,
    Manifest,
)
from av_compress.engines.measurements import Measurements, Spread
from av_compress.metrics.average_precision import ClassAP, DetectionAP
from av_compress.metrics.range_error import signal_to_noise_db
from av_compress.report.build_data import FP32, BuildReport, PassRow, SearchRows, TensorRange
from av_compress.report.conditions import explain
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
from av_compress.report.tables import Cell, Table, Tone

NAMES = {FP32: "FP32", **{name: f"{name} form" for name in FORMS}}
TRUTHS = {"labels": "labels", "agreement": "FP32’s own detections"}
METRICS = {
    "ap50": "AP50 on labels",
    "ap": "AP on labels",
    "agreement_ap50": "AP50 against FP32’s own detections",
    "agreement_ap": "AP against FP32’s own detections",
}
CANDIDATES = {"int8": "INT8", "mixed": "mixed", "fp16": "FP16", "fp32": "FP32"}
GATES = {
    "accuracy": "accuracy",
    "class": "accuracy of each class",
    "size": "size",
    "speed": "speed",
}
_VERDICTS = {
    "passed": Cell("passed", "good"),
    "failed": Cell("FAILED", "bad"),
    "not_judged": Cell("not judged", "quiet"),
}
_TONES: Mapping[str, Tone] = {"accepted": "good", "refused": "bad", "skipped": "quiet"}
SHORT = {"ap50": "AP50", "ap": "AP"}
_DIGITS = re.compile(r"\d")
_PRECISIONS = re.compile(r"\b(INT8|FP16|FP32|int8|fp16|fp32)\b")
# So many of the tensors that INT8 represents worst are drawn.
WORST = 6


def model_name(report: BuildReport, model: str) -> str:
    """Name a model with the candidate that it is: `cpu form, INT8`."""
    attempt = report.manifest.artefacts[model].attempt
    return NAMES[model] if attempt is None else f"{NAMES[model]}, {CANDIDATES[attempt.candidate]}"


def truths(report: BuildReport) -> list[str]:
    """List what the gate samples were judged against, that of the gate's metric first."""
    gates = [artefact.gate for artefact in report.manifest.artefacts.values()]
    labelled = any(gate is not None and not gate.metric.startswith("agreement") for gate in gates)
    order = ("labels", "agreement") if labelled else ("agreement", "labels")
    return [truth for truth in order if truth in report.accuracy.get(FP32, {})]


def condition_table(report: BuildReport) -> Table:
    """Tabulate the conditions on what was accepted, or came nearest, and how they went."""
    rows = []
    for emitter, artefact in sorted(report.manifest.artefacts.items()):
        attempt = artefact.attempt
        for check in attempt.checks if attempt is not None else ():
            words = explain(check, report.speed(emitter, artefact.sha256))
            rows.append((model_name(report, emitter), GATES[check.gate], _verdict(check), words))
    return Table(("model", "condition", "verdict", "measured"), rows, left=4)


def attempt_table(report: BuildReport) -> Table:
    """Tabulate every candidate of every form in the order in which they were tried."""
    rows = []
    for emitter, artefact in sorted(report.manifest.artefacts.items()):
        for attempt in artefact.attempts:
            figures = {check.gate: check for check in attempt.checks}
            timed = report.speed(emitter, attempt.sha256)
            rows.append(
                (
                    NAMES[emitter],
                    CANDIDATES[attempt.candidate],
                    Cell(attempt.verdict, _TONES[attempt.verdict]),
                    attempt.reason,
                    percent(attempt.int8_mac_share),
                    _lost(figures.get("accuracy")),
                    NONE if attempt.bytes is None else size(attempt.bytes),
                    f"{timed.speedup:.2f} ×" if timed else NONE,
                )
            )
    headers = ("form", "candidate", "verdict", "why", "in INT8", "points lost", "file", "speed")
    return Table(headers, rows, left=4)


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
    """Tabulate the sizes of what was accepted, or came nearest."""
    source = report.manifest.source
    rows = [(NAMES[FP32], source.name, size(source.bytes), "100 %")]
    for emitter, one in sorted(report.manifest.artefacts.items()):
        share = percent(one.bytes / source.bytes, 0)
        rows.append((model_name(report, emitter), one.path, size(one.bytes), share))
    return Table(("model", "file", "size", "of the source"), rows, left=2)


def speed_table(measurements: Measurements) -> Table:
    """Tabulate every comparison of times."""
    rows = [
        (
            NAMES[one.emitter],
            CANDIDATES[one.candidate],
            CANDIDATES[one.against],
            _spread(one.candidate_ms),
            _spread(one.against_ms),
            f"{one.speedup:.2f} ×",
            f"{one.rounds}",
            f"{one.threads or 'all'}",
        )
        for one in measurements.speed
    ]
    headers = ("form", "candidate", "against", "ms", "ms of the other", "speed")
    return Table((*headers, "rounds", "threads"), rows, left=3)


def reason_table(report: BuildReport) -> Table:
    """Tabulate why nodes have their precision: how many, and how much arithmetic they are.

    Measured reasons differ in their figures alone: they are one row.
    """
    total = sum(report.macs.values())
    rows = []
    for emitter, artefact in sorted(report.manifest.artefacts.items()):
        groups: dict[tuple[str, str], list[str]] = {}
        for node in artefact.nodes:
            groups.setdefault((node.precision, reason_kind(node.reason)), []).append(node.node)
        found = [
            (precision, reason, len(names), sum(report.macs.get(name, 0) for name in names))
            for (precision, reason), names in groups.items()
        ]
        rows += [
            (
                NAMES[emitter],
                precision.upper(),
                reason,
                f"{count}",
                percent(macs / total) if total else NONE,
            )
            for precision, reason, count, macs in sorted(found, key=lambda row: (-row[3], row[1]))
        ]
    return Table(("form", "precision", "reason", "nodes", "of arithmetic"), rows, left=3)


def reason_kind(reason: str) -> str:
    """Return what a reason shares with others: without its notes, figures and the names in it.

    >>> reason_kind("spared: alone in INT8 it costs 1.2e-03 points; scales migrated")
    'spared: alone in INT8 it costs … points'
    """
    words = reason.partition(";")[0].split()
    return " ".join("…" if _DIGITS.search(_PRECISIONS.sub("", word)) else word for word in words)


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


def sensitivity_table(rows: SearchRows) -> Table:
    """Tabulate what each node costs alone in INT8, the dearest first."""
    table = [
        (
            one.node,
            CANDIDATES[one.precision],
            general(one.loss, 3),
            NONE if one.sqnr_db is None else fixed(one.sqnr_db, 1),
            amount(one.macs),
        )
        for one in sorted(rows.sensitivities, key=lambda one: (-one.loss, one.node))
    ]
    return Table(("node", "given", rows.unit, "SQNR dB", "MACs"), table, left=2)


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
            one.method,
            fixed(noise_db(one), 1),
        )
        for one in _by_noise(ranges)
    ]
    seen = ("tensor", "smallest seen", "largest seen")
    headers = (*seen, "represented from", "to", "chosen by", "SNR dB")
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


def _verdict(check: CheckRecord) -> Cell:
    return _VERDICTS[check.verdict]


def _lost(check: CheckRecord | None) -> str | Cell:
    if check is None:
        return NONE
    text = fixed(check.figure).replace("-", "−")
    return Cell(text, "bad" if check.verdict == "failed" else "")


def _spread(spread: Spread) -> str:
    best, low, high = map(milliseconds, (spread.best, spread.low, spread.high))
    return f"{best} ({low}–{high})"


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
        found = [nodes.get(node.node, node) for nodes in per_emitter]
        reason = node.reason
        if len({one.reason for one in found}) > 1:
            named = zip(emitters, found)
            reason = "; ".join(f"{emitter}: {one.reason}" for emitter, one in named)
        rows.append(
            (node.node, tuple(one.precision.upper() for one in found), reason, node.op_type)
        )
    return rows


def _by_noise(ranges: Iterable[TensorRange]) -> list[TensorRange]:
    found = [(noise_db(one), one) for one in ranges]
    ordered = sorted(found, key=lambda pair: (pair[0], pair[1].name))
    return [one for noise, one in ordered if not math.isinf(noise)]
