# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""A build's findings, as data for its report."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from av_compress.report.build_data import FP32, BuildReport, Execution, PassRow, TensorRange

if TYPE_CHECKING:
    from av_compress.build.basis import Basis
    from av_compress.build.builder import Build


def build_report(build: Build) -> BuildReport:
    """Collect what the report shows of a build."""
    judge = build.judge
    accuracy = {}
    if judge is not None:
        accuracy[FP32] = judge.precisions(judge.reference)
        for candidate in build.candidates:
            if candidate.observed is not None:
                accuracy[candidate.emitter] = judge.precisions(candidate.observed)
    return BuildReport(
        manifest=build.manifest,
        accuracy=accuracy,
        execution=tuple(_execution(build)),
        macs={node.node: node.macs for node in _main_basis(build).plan.nodes},
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


def _main_basis(build: Build) -> Basis:
    """Return the basis of the first form: where the forms' differ, the page shows its ranges."""
    return build.bases[build.recipe.emitters[0]]


def _steps(build: Build) -> Iterator[PassRow]:
    before = len(build.prepared.model.graph.node)
    for emitter, basis in build.bases.items():
        if basis.migrated:
            folded = sum(bool(m.folded_into) for m in basis.migrated)
            detail = f"{folded} folded, {len(basis.migrated) - folded} by a multiplication"
            after = len(basis.model.graph.node)
            yield PassRow(f"migrate scales ({emitter})", before, after, detail)
        if basis.search is not None:
            tried = len(basis.search.steps)
            share = f"{100 * basis.plan.int8_mac_share():.1f} %"
            nodes = len(basis.model.graph.node)
            yield PassRow(
                f"search plan ({emitter})",
                nodes,
                nodes,
                f"{share} in INT8 after {tried} evaluations",
            )


def _execution(build: Build) -> Iterator[Execution]:
    if build.judge is None:
        return
    reference = build.judge.reference
    yield Execution(FP32, reference.engine, reference.execute_ms)
    for candidate in build.candidates:
        # TensorRT's form is only simulated here, in float: its time says nothing.
        if candidate.emitter == "cpu" and candidate.observed is not None:
            observed = candidate.observed
            yield Execution(candidate.emitter, observed.engine, observed.execute_ms)


def _ranges(build: Build) -> Iterator[TensorRange]:
    calibration = _main_basis(build).calibration
    for name, observer in calibration.observers.items():
        low, high = calibration.ranges[name]
        yield TensorRange(
            name=name,
            minimum=observer.min,
            maximum=observer.max,
            low=low,
            high=high,
            bin_width=observer.bin_width,
            counts=observer.signed_counts,
        )
