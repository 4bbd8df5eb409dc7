# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""A replay as one page and as a table for the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from av_compress.fileio import write_text
from av_compress.metrics.agreement import Agreement, PoseTotals, Totals
from av_compress.metrics.replay import GateOutcome, ReplayResult, WorstFrame, latencies
from av_compress.report.disagreement import disagreement_pictures
from av_compress.report.numbers import NONE, fixed, milliseconds, percent, plural, signed
from av_compress.report.page import Fact, Picture, Verdict, jpeg_picture, render
from av_compress.report.tables import Cell, Table
from av_compress.telemetry.windows import LatencySummary

PAGE_NAME = "report.html"

# Reasons repeat: a page lists this many unusable frames, the JSON lists all.
_BAD_FRAMES = 20
# The terminal's table names the classes with most boxes.
_CLASSES = 12
# Pixels that a worst frame is embedded with, twice side by side.
_PICTURE_WIDTH = 720

_GATES = {
    "matched": "reference's boxes found again",
    "extra": "other boxes, against the reference's",
    "mean_iou": "mean overlap of matched boxes",
    "mean_score_shift": "mean change of score of matched boxes",
    "p99_ms": "99th percentile of the total time",
    "bad": "unusable frames",
}
_CLASS_COLUMNS = (
    *("class", "matched", "missed", "extra"),
    *("found again", "mean IoU", "score shift", "most"),
)
# Of boxes in space.
_POSE_COLUMNS = ("moved m", "most", "turned deg", "most")
_SHARES = ("matched", "extra", "bad")


@dataclass(frozen=True)
class _Worst:
    """A frame as the reference and as the candidate saw it."""

    title: str
    caption: str
    reference: Picture
    candidate: Picture


def write_replay_report(result: ReplayResult, directory: Path) -> Path:
    """Write a replay's page, `report.html`, into a folder that is made where it is absent.

    Returns:
        The page's path.

    """
    path = directory / PAGE_NAME
    write_text(path, render_replay_report(result))
    return path


def render_replay_report(result: ReplayResult) -> str:
    """Return a replay's page as HTML that needs no other file; equal results give equal text."""
    # Plots take a second to import, and the table for the terminal does without them.
    from av_compress.report import replay_plots

    compared = result.agreement is not None
    return render(
        "replay.html.j2",
        title=f"Replay of {result.source}",
        verdict=_verdict(result),
        facts=_facts(result),
        gates=_gate_table(result.gates) if result.gates else None,
        agreement_plots=(
            [replay_plots.agreement_series(result), replay_plots.agreement_distributions(result)]
            if compared
            else []
        ),
        classes=None if result.agreement is None else class_table(result.agreement),
        latency_plots=[replay_plots.latency_series(result), replay_plots.latency_stages(result)],
        latencies=latency_table(result),
        worst=[_worst(frame, result.class_names) for frame in result.worst],
        compared=compared,
        bad=_bad_table(result) if result.bad else None,
        bad_count=len(result.bad),
        models=_model_table(result),
        wall=f"{fixed(result.wall_s, 1)} s",
    )


def replay_table(result: ReplayResult) -> str:
    """Return a replay's figures as text for the terminal."""
    parts = [f"{result.source}: {plural(len(result.frames), 'frame')}{_bad_note(result)}"]
    parts.append(latency_table(result).text())
    if result.agreement is not None:
        parts.append(class_table(result.agreement).text(_CLASSES))
    if result.gates:
        parts.append(_gate_table(result.gates).text())
    return "\n\n".join(parts)


def latency_table(result: ReplayResult) -> Table:
    """Tabulate every stage's latencies in milliseconds, the reference's total below."""
    candidate = latencies([frame.spans for frame in result.frames])
    stages = [name for name in candidate if name != "total"]
    footer = [_latency_row("total", candidate["total"])]
    if result.reference is not None:
        reference = latencies([frame.reference_spans for frame in result.frames])
        footer.append(_latency_row("total of the reference", reference["total"]))
    return Table(
        ("ms", "mean", "p50", "p95", "p99", "max"),
        [_latency_row(name, candidate[name]) for name in stages],
        footer=footer,
    )


def class_table(agreement: Agreement) -> Table:
    """Tabulate agreement per class, most boxes first, and altogether."""
    ordered = sorted(agreement.per_class.items(), key=lambda item: (-_boxes(item[1]), item[0]))
    rows = [_class_row(name, totals) for name, totals in ordered]
    footer = _class_row("all classes", agreement)
    if agreement.pose is None:
        return Table(_CLASS_COLUMNS, rows, footer=[footer])
    rows = [(*row, *_pose_cells(totals.pose)) for row, (_, totals) in zip(rows, ordered)]
    footer = (*footer, *_pose_cells(agreement.pose))
    return Table((*_CLASS_COLUMNS, *_POSE_COLUMNS), rows, footer=[footer])


def _latency_row(label: str, one: LatencySummary) -> tuple[str, ...]:
    values = (one.mean_ms, one.p50_ms, one.p95_ms, one.p99_ms, one.max_ms)
    return (label, *map(milliseconds, values))


def _boxes(totals: Totals) -> int:
    return totals.matched + totals.missed + totals.extra


def _class_row(name: str, totals: Totals) -> tuple[str | Cell, ...]:
    return (
        name,
        f"{totals.matched}",
        Cell(f"{totals.missed}", "bad" if totals.missed else ""),
        f"{totals.extra}",
        percent(_found_again(totals)),
        fixed(totals.mean_iou, 3),
        signed(totals.mean_score_shift, 3),
        fixed(totals.max_score_shift, 3),
    )


def _pose_cells(pose: PoseTotals | None) -> tuple[str, ...]:
    if pose is None:
        return (NONE,) * len(_POSE_COLUMNS)
    yaws = (math.degrees(yaw) for yaw in (pose.mean_yaw, pose.max_yaw))
    moved = (pose.mean_position, pose.max_position)
    return (*(fixed(one, 3) for one in moved), *(fixed(yaw, 1) for yaw in yaws))


def _found_again(totals: Totals) -> float | None:
    truths = totals.matched + totals.missed
    return totals.matched / truths if truths else None


def _verdict(result: ReplayResult) -> Verdict:
    failed = [gate for gate in result.gates if not gate.passed]
    if failed:
        reasons = "; ".join(f"{_gate_name(gate)}: {_gate_text(gate)}" for gate in failed)
        return Verdict("bad", "Failed", f"{reasons[0].upper()}{reasons[1:]}.")
    sentence = f"{result.candidate.name} ran over {plural(len(result.frames), 'frame')}"
    if result.agreement is not None and result.reference is not None:
        share = percent(_found_again(result.agreement))
        sentence += f" and found {share} of the boxes of {result.reference.name} again"
    if not result.gates:
        return Verdict("", "Not judged", f"{sentence}. No condition was set.")
    held = "The condition holds" if len(result.gates) == 1 else "Every condition holds"
    return Verdict("good", "Passed", f"{sentence}. {held}.")


def _gate_name(gate: GateOutcome) -> str:
    return _GATES.get(gate.metric, gate.metric)


def _gate_value(gate: GateOutcome, value: float) -> str:
    if gate.metric in _SHARES:
        return percent(value, 2)
    return f"{milliseconds(value)} ms" if gate.metric == "p99_ms" else fixed(value, 4)


def _gate_limit(gate: GateOutcome) -> str:
    return f"{'at least' if gate.bound == 'min' else 'at most'} {_gate_value(gate, gate.limit)}"


def _gate_text(gate: GateOutcome) -> str:
    return f"{_gate_value(gate, gate.value)}, must be {_gate_limit(gate)}"


def _gate_table(gates: Sequence[GateOutcome]) -> Table:
    rows = [
        (
            _gate_name(gate),
            Cell("passed", "good") if gate.passed else Cell("FAILED", "bad"),
            _gate_value(gate, gate.value),
            _gate_limit(gate),
        )
        for gate in gates
    ]
    return Table(("condition", "verdict", "measured", "limit"), rows, left=2)


def _facts(result: ReplayResult) -> list[Fact]:
    total = latencies([frame.spans for frame in result.frames])["total"]
    facts = []
    if result.agreement is not None:
        agreement = result.agreement
        truths = agreement.matched + agreement.missed
        facts += [
            Fact(
                percent(_found_again(agreement)),
                "of the reference's boxes found again",
                f"{agreement.matched} of {truths}",
            ),
            Fact(
                f"{agreement.missed} / {agreement.extra}",
                "boxes missed / extra",
                f"in {plural(agreement.frames, 'frame')}",
            ),
            Fact(
                fixed(agreement.mean_iou, 3),
                "mean IoU of matched boxes",
                f"score shift {signed(agreement.mean_score_shift, 3)}",
            ),
        ]
    facts.append(Fact(f"{milliseconds(total.p50_ms)} ms", "median time", _reference_note(result)))
    facts.append(
        Fact(
            f"{milliseconds(total.p99_ms)} ms",
            "99th percentile",
            f"longest {milliseconds(total.max_ms)} ms",
        )
    )
    unusable = _bad_note(result).removeprefix(", ")
    facts.append(Fact(f"{len(result.frames):,}", "frames", unusable, "bad" if result.bad else ""))
    return facts


def _reference_note(result: ReplayResult) -> str:
    if result.reference is None:
        return "decode to postprocess"
    reference = latencies([frame.reference_spans for frame in result.frames])["total"]
    return f"reference {milliseconds(reference.p50_ms)} ms"


def _bad_note(result: ReplayResult) -> str:
    return f", {len(result.bad)} unusable" if result.bad else ", all usable"


def _worst(frame: WorstFrame, class_names: Sequence[str]) -> _Worst:
    record = frame.record
    before, after = disagreement_pictures(frame.frame, record, class_names, _PICTURE_WIDTH)
    agreement = record.agreement
    assert agreement is not None
    caption = (
        f"{len(agreement.pairs)} matched, {len(agreement.missed)} missed, "
        f"{len(agreement.extra)} extra"
    )
    title = f"Frame {record.index}"
    return _Worst(
        title,
        f"{record.key}: {caption}",
        jpeg_picture(before, f"{title}, boxes of the reference"),
        jpeg_picture(after, f"{title}, boxes of the candidate"),
    )


def _bad_table(result: ReplayResult) -> Table:
    rows = [(f"{bad.index}", bad.key, bad.reason) for bad in result.bad[:_BAD_FRAMES]]
    return Table(("frame", "name", "reason"), rows, left=3)


def _model_table(result: ReplayResult) -> Table:
    rows = [
        (role, model.name, model.engine, model.sha256)
        for role, model in (("candidate", result.candidate), ("reference", result.reference))
        if model is not None
    ]
    return Table(("", "name", "engine", "sha256"), rows, left=4)
