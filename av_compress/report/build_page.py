# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""A build as one page: accepted or refused, and everything that was measured on the way."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

from av_compress.engines.manifest import GateRecord, Manifest
from av_compress.fileio import write_text
from av_compress.report import build_tables, variants
from av_compress.report.build_data import (
    FP32,
    BuildReport,
    PassRow,
    SearchRows,
    SensitivityRow,
    ShareRow,
    TensorRange,
)
from av_compress.report.build_tables import NAMES, TRUTHS
from av_compress.report.build_verdict import forms, verdict
from av_compress.report.numbers import general
from av_compress.report.page import Picture, render
from av_compress.report.tables import Table

__all__ = [
    "FP32",
    "BuildReport",
    "PassRow",
    "SearchRows",
    "SensitivityRow",
    "ShareRow",
    "TensorRange",
    "render_build_report",
    "write_build_report",
]


@dataclass(frozen=True)
class CompiledForm:
    """A form that was chosen by what a compiler made of it, in words and tables."""

    name: str
    target: str
    words: str
    table: Table
    convolutions: Table


def write_build_report(report: BuildReport, path: Path) -> None:
    """Write a build's page as one HTML file that needs no other."""
    write_text(path, render_build_report(report))


def render_build_report(report: BuildReport) -> str:
    """Return a build's page as HTML; equal reports give equal text."""
    manifest = report.manifest
    measurements = report.measurements
    return render(
        "build.html.j2",
        title=manifest.name,
        verdict=verdict(report),
        facts=(),
        forms=forms(report),
        attempts=build_tables.attempt_table(report),
        conditions=build_tables.condition_table(report),
        gate=_gate(report),
        plots=_plots(report),
        accuracy=build_tables.accuracy_table(report) if report.accuracy else None,
        classes={
            TRUTHS[truth]: build_tables.class_table(report, truth)
            for truth in build_tables.truths(report)
        },
        choices=_choices(manifest),
        cost=build_tables.cost_table(report),
        speed=build_tables.speed_table(measurements) if measurements else None,
        machine=measurements.machine if measurements else "",
        reasons=build_tables.reason_table(report),
        nodes=build_tables.node_table(report),
        sensitivities={
            NAMES[name]: build_tables.sensitivity_table(rows)
            for name, rows in sorted(report.searches.items())
            if rows.sensitivities
        },
        ranges=build_tables.range_table(report.ranges) if report.ranges else None,
        passes=build_tables.pass_table(report.passes) if report.passes else None,
        deviation=_deviation(report.deviation),
        hashes=build_tables.hash_table(manifest),
        versions=build_tables.version_table(manifest),
        calibration=manifest.calibration,
        frames=build_tables.frame_table(manifest.calibration),
        recipe=yaml.safe_dump(dict(manifest.recipe), sort_keys=False, allow_unicode=True),
    )


def _choices(manifest: Manifest) -> list[CompiledForm]:
    return [
        CompiledForm(
            name=NAMES[name],
            target=variants.target_words(one.choice),
            words=variants.choice_words(one.choice),
            table=variants.variant_table(one.choice),
            convolutions=variants.convolution_table(one.choice),
        )
        for name, one in sorted(manifest.artefacts.items())
        if one.choice is not None
    ]


def _plots(report: BuildReport) -> dict[str, list[Picture]]:
    """Draw what there is to draw: topic -> pictures."""
    # Plots take a second to import, which what only needs the data does not have to pay.
    from av_compress.report import build_plots, search_plots, variant_plots

    order = list(report.macs)
    searches = sorted(report.searches.items())
    shares = [search_plots.share(report, name) for name in sorted(report.manifest.artefacts)]
    worst = build_tables.worst_ranges(report.ranges)
    timed = report.measurements.speed if report.measurements is not None else ()
    return {
        "accuracy": [build_plots.accuracy(report)] if report.accuracy else [],
        "sensitivity": [
            search_plots.sensitivity(name, rows, order)
            for name, rows in searches
            if rows.sensitivities
        ],
        "share": [picture for picture in shares if picture is not None],
        "latency": [search_plots.latency(timed)] if timed else [],
        "compiled": variant_plots.moved(report.manifest),
        "size": [build_plots.sizes(report)],
        "precision": [build_plots.precision(report)] if report.macs else [],
        "ranges": [build_plots.ranges(worst)] if worst else [],
    }


def _deviation(value: float | None) -> str | None:
    """Return None where it is not known, nothing where there is none."""
    if not value:
        return None if value is None else ""
    return general(value, 1)


def _gate(report: BuildReport) -> GateRecord | None:
    gates = (one.gate for _, one in sorted(report.manifest.artefacts.items()))
    return next((gate for gate in gates if gate is not None), None)
