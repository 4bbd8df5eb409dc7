# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""A build as one page: accepted or refused, and everything that was measured on the way."""

from __future__ import annotations

from pathlib import Path

import yaml

from av_compress.engines.manifest import GateRecord
from av_compress.fileio import write_text
from av_compress.report import build_tables
from av_compress.report.build_data import (
    FP32,
    BuildReport,
    Execution,
    PassRow,
    TensorRange,
)
from av_compress.report.build_tables import METRICS, NAMES, TRUTHS
from av_compress.report.numbers import fixed, general, milliseconds, percent, plural, signed, size
from av_compress.report.page import Fact, Verdict, render

__all__ = [
    "FP32",
    "BuildReport",
    "Execution",
    "PassRow",
    "TensorRange",
    "render_build_report",
    "write_build_report",
]


def write_build_report(report: BuildReport, path: Path) -> None:
    """Write a build's page as one HTML file that needs no other."""
    write_text(path, render_build_report(report))


def render_build_report(report: BuildReport) -> str:
    """Return a build's page as HTML; equal reports give equal text."""
    # Plots take a second to import, which what only needs the data does not have to pay.
    from av_compress.report import build_plots

    manifest = report.manifest
    worst = build_tables.worst_ranges(report.ranges)
    return render(
        "build.html.j2",
        title=manifest.name,
        verdict=_verdict(report),
        facts=_facts(report),
        gates=build_tables.gate_table(manifest) if _gates(report) else None,
        gate=next(iter(_gates(report).values()), None),
        accuracy=build_tables.accuracy_table(report) if report.accuracy else None,
        accuracy_plot=build_plots.accuracy(report) if report.accuracy else None,
        classes={
            TRUTHS[truth]: build_tables.class_table(report, truth)
            for truth in build_tables.truths(report)
        },
        cost=build_tables.cost_table(report),
        cost_plot=build_plots.cost(report),
        executed=bool(report.execution),
        precision_plot=build_plots.precision(report) if report.macs else None,
        reasons=build_tables.reason_table(report),
        nodes=build_tables.node_table(report),
        ranges=build_tables.range_table(report.ranges) if report.ranges else None,
        ranges_plot=build_plots.ranges(worst) if worst else None,
        passes=build_tables.pass_table(report.passes) if report.passes else None,
        deviation=_deviation(report.deviation),
        hashes=build_tables.hash_table(manifest),
        versions=build_tables.version_table(manifest),
        calibration=manifest.calibration,
        frames=build_tables.frame_table(manifest.calibration),
        recipe=yaml.safe_dump(dict(manifest.recipe), sort_keys=False, allow_unicode=True),
    )


def _deviation(value: float | None) -> str | None:
    """Return None where it is not known, nothing where there is none."""
    if not value:
        return None if value is None else ""
    return general(value, 1)


def _gates(report: BuildReport) -> dict[str, GateRecord]:
    gates = {name: one.gate for name, one in sorted(report.manifest.artefacts.items())}
    return {name: gate for name, gate in gates.items() if gate is not None}


def _verdict(report: BuildReport) -> Verdict:
    gates = _gates(report)
    if not gates:
        return Verdict("", "Not judged", "The recipe asked for no check of accuracy.")
    failed = {name: gate for name, gate in gates.items() if not gate.passed}
    if failed:
        reasons = "; ".join(
            f"{NAMES[name]} falls from {fixed(gate.reference)} to {fixed(gate.candidate)} in "
            f"{METRICS[gate.metric]}, a loss of {fixed(gate.reference - gate.candidate)} points; "
            f"{fixed(gate.max_loss)} is allowed"
            for name, gate in failed.items()
        )
        return Verdict("bad", "Refused", f"{reasons}.")
    changes = " and ".join(
        f"{NAMES[name]} changes by {signed(gate.candidate - gate.reference)}"
        for name, gate in gates.items()
    )
    first = next(iter(gates.values()))
    return Verdict(
        "good",
        "Accepted",
        f"In {METRICS[first.metric]}, {changes} points against FP32 on "
        f"{plural(first.frames, 'frame')}; a loss of {fixed(first.max_loss)} is allowed.",
    )


def _facts(report: BuildReport) -> list[Fact]:
    facts = []
    for name, gate in _gates(report).items():
        change = gate.candidate - gate.reference
        facts.append(
            Fact(
                signed(change),
                f"points, {NAMES[name]}",
                f"{fixed(gate.reference)} → {fixed(gate.candidate)}",
                "" if gate.passed else "bad",
            )
        )
    source = report.manifest.source
    for name, artefact in sorted(report.manifest.artefacts.items()):
        facts.append(
            Fact(
                size(artefact.bytes),
                f"{NAMES[name]} model",
                f"{percent(artefact.bytes / source.bytes, 0)} of {size(source.bytes)}",
            )
        )
    share = max(artefact.int8_mac_share for artefact in report.manifest.artefacts.values())
    facts.append(Fact(percent(share), "of the arithmetic in INT8", "multiply-accumulates"))
    return facts + _speed_fact(report)


def _speed_fact(report: BuildReport) -> list[Fact]:
    times = {one.model: one.median_ms for one in report.execution}
    if FP32 not in times or "cpu" not in times:
        return []
    ratio = times[FP32] / times["cpu"]
    note = f"{milliseconds(times[FP32])} → {milliseconds(times['cpu'])} ms"
    return [Fact(f"{ratio:.2f} ×", "as fast as FP32, cpu form", note)]
