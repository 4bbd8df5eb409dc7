# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Plots of how a candidate was found: where INT8 hurts, what its share costs, what it gains."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from av_compress.engines.measurements import SpeedRecord, Spread
from av_compress.report.build_data import BuildReport, SearchRows, SensitivityRow
from av_compress.report.build_tables import CANDIDATES, NAMES
from av_compress.report.numbers import milliseconds
from av_compress.report.page import Picture
from av_compress.report.plots import (
    BAD,
    CANDIDATE,
    INK,
    MUTED,
    REFERENCE,
    WARN,
    draw,
    legend_above,
    only_horizontal_grid,
    only_vertical_grid,
    short,
)

# So many nodes are named; the others are bars without a name.
_NAMED = 10


def sensitivity(emitter: str, rows: SearchRows, order: Sequence[str]) -> Picture:
    """Draw what every node costs alone in INT8, and name the dearest.

    Args:
        emitter: the form.
        rows: what a search saw; at least one node.
        order: node names in the order of the model.

    """
    place = {name: number for number, name in enumerate(order)}
    nodes = sorted(rows.sensitivities, key=lambda one: place.get(one.node, len(place)))
    dearest = sorted(nodes, key=lambda one: (-one.loss, one.node))[:_NAMED]

    def paint(everything: Axes, named: Axes) -> None:
        _paint_nodes(everything, nodes)
        everything.set_ylabel(rows.unit)
        everything.set_title(f"{NAMES[emitter]}: each node, in order")
        _paint_named(named, dearest)
        named.set_xlabel(rows.unit)
        named.set_title("Those that cost most")

    alt = (
        f"{NAMES[emitter]}: the cost of each of {len(nodes)} nodes when it alone is INT8. Most: "
        f"{', '.join(one.node for one in dearest[:3])}."
    )
    return draw(paint, alt, 3.0, columns=2)


def share(report: BuildReport, emitter: str) -> Picture | None:
    """Draw loss against INT8 share: plans of the search, and candidates on the gate samples.

    Returns None where there are not two points to see.
    """
    rows = report.searches.get(emitter)
    artefact = report.manifest.artefacts[emitter]
    judged = [
        (attempt.candidate, attempt.int8_mac_share, check.figure)
        for attempt in artefact.attempts
        for check in attempt.checks
        if attempt.int8_mac_share is not None and check.figure is not None
        if check.gate == "accuracy"
    ]
    limit = artefact.gate.max_loss if artefact.gate is not None else 0.0
    if len(judged) + (len(rows.shares) if rows is not None else 0) < 2:
        return None

    def paint(axes: Axes) -> None:
        axes.axhline(limit, color=BAD, linewidth=1.2, label=f"allowed: {limit:g}")
        if rows is not None:
            _paint_shares(axes, rows)
        _paint_candidates(axes, judged)
        axes.set_xlabel("% of multiply-accumulates in INT8")
        axes.set_ylabel("points lost against FP32")
        axes.set_title(f"{NAMES[emitter]}")
        axes.margins(x=0.08, y=0.12)
        legend_above(axes, 4)

    tried = ", ".join(f"{CANDIDATES[kind]} {found:.2f}" for kind, _, found in judged)
    alt = f"Points lost over share of arithmetic in INT8, {NAMES[emitter]}. Candidates: {tried}."
    return draw(paint, alt, 2.8)


def latency(speed: Sequence[SpeedRecord]) -> Picture:
    """Draw each candidate's execution time beside that of the next higher precision."""
    bars: list[tuple[str, Spread, str]] = []
    for one in speed:
        form = NAMES[one.emitter]
        bars.append((f"{form}, {CANDIDATES[one.against]}", one.against_ms, REFERENCE))
        bars.append((f"{form}, {CANDIDATES[one.candidate]}", one.candidate_ms, CANDIDATE))

    def paint(axes: Axes) -> None:
        # A gap between one comparison and the next.
        rows = [-(number + 0.4 * (number // 2)) for number in range(len(bars))]
        best = [spread.best for _, spread, _ in bars]
        axes.barh(rows, best, 0.8, color=[color for _, _, color in bars])
        low, high = ([getattr(s, end) for _, s, _ in bars] for end in ("low", "high"))
        axes.hlines(rows, low, high, color=INK, linewidth=1.2)
        axes.scatter([spread.median for _, spread, _ in bars], rows, 12, color=INK, zorder=3)
        # Where bars end stand the lines of the quartiles: the figures stand with the names.
        labels = [f"{name}: {milliseconds(spread.best)} ms" for name, spread, _ in bars]
        axes.set_yticks(rows, labels)
        axes.set_xlim(0.0, 1.05 * max(spread.high for _, spread, _ in bars))
        axes.set_xlabel("ms a frame; bar: the shortest, line: the quartiles, dot: the median")
        axes.set_title("Execution time, each candidate beside the next higher precision")
        only_vertical_grid(axes)

    alt = "; ".join(f"{name}: {milliseconds(spread.best)} ms" for name, spread, _ in bars)
    return draw(paint, f"Execution times. {alt}.", 0.75 + 0.33 * len(bars))


def _paint_nodes(axes: Axes, nodes: Sequence[SensitivityRow]) -> None:
    # Costs that differ by orders of magnitude are seen on a logarithmic scale alone, on which
    # bars have no foot to stand on.
    logarithmic = all(one.loss > 0.0 for one in nodes)
    for label, color, inside in (("INT8", CANDIDATE, True), ("spared", WARN, False)):
        numbers = [i for i, one in enumerate(nodes) if (one.precision == "int8") == inside]
        losses = [nodes[i].loss for i in numbers]
        if numbers and logarithmic:
            axes.scatter(numbers, losses, 14, color=color, label=label)
        elif numbers:
            axes.bar(numbers, losses, 0.85, color=color, label=label)
    if logarithmic:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(numticks=6))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(_plain())
    axes.margins(x=0.02)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_xlabel("node")
    only_horizontal_grid(axes)
    axes.legend(loc="best", ncols=2, handlelength=1.2)


def _plain() -> FuncFormatter:
    """Write ticks without formulas: names contain dollar signs, so no text is read as one."""
    return FuncFormatter(lambda value, _: f"{value:.4g}")


def _paint_named(axes: Axes, nodes: Sequence[SensitivityRow]) -> None:
    rows = range(len(nodes))[::-1]
    colors = [CANDIDATE if one.precision == "int8" else WARN for one in nodes]
    axes.barh(list(rows), [one.loss for one in nodes], 0.75, color=colors)
    axes.set_yticks(list(rows), [short(one.node, 30) for one in nodes], fontsize=7.5)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(_plain())
    only_vertical_grid(axes)


def _paint_shares(axes: Axes, rows: SearchRows) -> None:
    kinds = ((True, CANDIDATE, "plan that holds"), (False, "none", "plan that fails"))
    for passed, face, label in kinds:
        found = [one for one in rows.shares if one.passed == passed]
        if found:
            axes.scatter(
                [100.0 * one.int8_mac_share for one in found],
                [one.loss for one in found],
                22,
                facecolors=face,
                edgecolors=CANDIDATE,
                label=f"{label} (search)",
            )


def _paint_candidates(axes: Axes, judged: Sequence[tuple[str, float, float]]) -> None:
    axes.scatter(
        [100.0 * found for _, found, _ in judged],
        [loss for _, _, loss in judged],
        44,
        color=INK,
        marker="D",
        zorder=3,
        label="candidate (gate)",
    )
    for names, found, loss in _labels(judged):
        axes.annotate(
            ", ".join(names),
            (100.0 * found, loss),
            (7, 4),
            textcoords="offset points",
            color=MUTED,
        )


def _labels(
    judged: Sequence[tuple[str, float, float]],
) -> list[tuple[list[str], float, float]]:
    """Name the candidates; those that lie on one another have one label."""
    height = max(loss for _, _, loss in judged) - min(loss for _, _, loss in judged)
    labels: list[tuple[list[str], float, float]] = []
    for kind, found, loss in judged:
        for names, other, level in labels:
            if abs(other - found) < 0.02 and abs(level - loss) <= 0.08 * height:
                names.append(CANDIDATES[kind])
                break
        else:
            labels.append(([CANDIDATES[kind]], found, loss))
    return labels
