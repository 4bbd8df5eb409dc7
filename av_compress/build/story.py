# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""A build's findings, as data for its report."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median
from typing import TYPE_CHECKING

from av_compress.compress.search.plan_search import Search
from av_compress.report.build_data import (
    FP32,
    BuildReport,
    PassRow,
    SearchRows,
    SensitivityRow,
    ShareRow,
    TensorRange,
)

if TYPE_CHECKING:
    from av_compress.build.attempts import FormOutcome
    from av_compress.build.builder import Build


def build_report(build: Build) -> BuildReport:
    """Collect what the report shows of a build."""
    judge = build.judge
    accuracy = {}
    if judge is not None:
        accuracy[FP32] = judge.reference_precisions
        for emitter, form in build.forms.items():
            if form.candidate.observed is not None:
                accuracy[emitter] = judge.precisions(form.candidate.observed)
    return BuildReport(
        manifest=build.manifest,
        accuracy=accuracy,
        measurements=None if judge is None else build.measurements,
        searches={} if judge is None else dict(_searches(build, judge.config.max_loss)),
        macs={node.node: node.macs for node in _main_form(build).candidate.plan.nodes},
        passes=tuple(
            PassRow(
                r.name,
                r.nodes_before,
                r.nodes_after,
                r.detail,
                (r.macs_before, r.macs_after),
                r.deviation,
            )
            for r in build.prepared.reports
        )
        + tuple(_steps(build)),
        deviation=build.prepared.deviation,
        ranges=tuple(_ranges(build)),
    )


def _main_form(build: Build) -> FormOutcome:
    """Return the first form: where the forms differ, the page shows its ranges."""
    return build.forms[build.recipe.emitters[0]]


def _steps(build: Build) -> Iterator[PassRow]:
    before = len(build.prepared.model.graph.node)
    for emitter, form in build.forms.items():
        basis = form.candidate.basis
        nodes = basis.model.graph.node
        inside = basis.plan.quantised()
        choices = [c for name, c in basis.choices.items() if name in inside]
        if choices:
            after = len(basis.refinements[emitter].apply(basis.model, inside).graph.node)
            centred = sum(c.affine.shifted for c in choices)
            gain = median(c.gain_db for c in choices)
            detail = (
                f"{len(choices)} nodes, {centred} of them centred; {gain:.1f} dB less error at "
                "their outputs, estimated, in the median"
            )
            yield PassRow(f"migrate scales ({emitter})", before, after, detail)
        if form.searched:
            tried = sum(len(found.steps) for found in _found(form))
            share = f"{100 * form.searched[-1].plan.int8_mac_share():.1f} %"
            yield PassRow(
                f"search plan ({emitter})",
                len(nodes),
                len(nodes),
                f"{share} in INT8 after {tried} evaluations",
            )


def _searches(build: Build, max_loss: float) -> Iterator[tuple[str, SearchRows]]:
    for emitter, form in build.forms.items():
        found = _found(form)
        if not found:
            continue
        steps = (step for one in found for step in one.steps)
        rows = SearchRows(
            sensitivities=tuple(_sensitivities(found[-1])),
            unit=_unit(found[-1]),
            # Of plans that were searched with lower aims, too: what holds is up to the limit.
            shares=tuple(ShareRow(s.int8_mac_share, s.loss, s.loss <= max_loss) for s in steps),
            max_loss=max_loss,
        )
        yield emitter, rows


def _found(form: FormOutcome) -> list[Search]:
    return [basis.search for basis in form.searched if basis.search is not None]


def _sensitivities(found: Search) -> Iterator[SensitivityRow]:
    precisions = {node.node: node.precision.value for node in found.plan.nodes}
    for one in found.ranking:
        cost = one.error if one.shift is None else one.shift
        yield SensitivityRow(one.node, one.macs, cost, one.sqnr_db, precisions[one.node])


def _unit(found: Search) -> str:
    if any(one.shift is None for one in found.ranking):
        return "share of the outputs' variance"
    return "mean shift of detections"


def _ranges(build: Build) -> Iterator[TensorRange]:
    candidate = _main_form(build).candidate
    basis, calibration = candidate.basis, candidate.basis.calibration
    # Both with and without migrations were observed: what counts is what the form has.
    held = basis.represented(candidate.plan, candidate.emitter)
    for name, observer in calibration.observers.items():
        if name not in held:
            continue
        low, high = calibration.ranges[name]
        yield TensorRange(
            name=name,
            minimum=observer.min,
            maximum=observer.max,
            low=low,
            high=high,
            bin_width=observer.bin_width,
            counts=observer.signed_counts,
            method=calibration.methods[name].replace("_", " "),
        )
