# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Plots of a replay: latency and agreement."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from av_compress.metrics.agreement import FrameAgreement
from av_compress.metrics.replay import FrameRecord, ReplayResult, latencies
from av_compress.report.numbers import plural
from av_compress.report.page import Picture
from av_compress.report.plots import (
    BAD,
    CANDIDATE,
    INK,
    REFERENCE,
    WARN,
    draw,
    legend_above,
    only_horizontal_grid,
    only_vertical_grid,
)
from av_compress.telemetry.windows import NS_PER_MS, LatencySummary

# More columns than this cannot be told apart on a page: neighbouring frames are drawn together.
_COLUMNS = 240

Floats = npt.NDArray[np.float64]


def latency_series(result: ReplayResult) -> Picture:
    """Draw each frame's total time over the drive."""
    numbers = np.array([frame.index for frame in result.frames])
    group = -(-len(numbers) // _COLUMNS)
    at = _grouped(numbers.astype(np.float64), group, np.min)

    def paint(axes: Axes) -> None:
        for name, values, color in _totals(result):
            longest = _grouped(values, group, np.max)
            marker = "o" if len(at) < 60 else ""
            axes.plot(at, longest, color=color, label=name, marker=marker, markersize=2.5)
        for gate in result.gates:
            if gate.metric == "p99_ms":
                axes.axhline(gate.limit, color=BAD, linestyle="--", label="limit of p99")
        axes.set_ylim(bottom=0.0)
        axes.margins(x=0.01)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("frame")
        axes.set_ylabel("ms")
        longest_of = f" (longest of each {group} frames)" if group > 1 else ""
        axes.set_title(f"Time per frame{longest_of}")
        only_horizontal_grid(axes)
        legend_above(axes, 3)

    return draw(paint, "Total time of every frame, in milliseconds, over the replay.", 2.7)


def latency_stages(result: ReplayResult) -> Picture:
    """Draw the percentiles of every stage, and how the total is distributed."""

    def paint(stages: Axes, distribution: Axes) -> None:
        _paint_stages(stages, result)
        _paint_distribution(distribution, result)

    return draw(
        paint,
        "Left: median to 99th percentile and maximum of each stage. Right: share of frames that "
        "take at most a given time.",
        3.0,
        columns=2,
    )


def agreement_series(result: ReplayResult) -> Picture:
    """Draw matched, missed and extra boxes of every frame over the drive."""
    frames = [frame for frame in result.frames if frame.agreement is not None]
    group = -(-len(frames) // _COLUMNS)
    at = _grouped(np.array([frame.index for frame in frames], np.float64), group, np.min)
    matched, missed, extra = (
        _grouped(_counts(frames, field), group, np.sum) for field in ("pairs", "missed", "extra")
    )
    width = (0.86 if group == 1 else 1.0) * float(np.diff(at).min() if len(at) > 1 else 1.0)

    def paint(axes: Axes) -> None:
        axes.bar(at, matched, width, color=REFERENCE, label="matched")
        axes.bar(at, missed, width, bottom=matched, color=BAD, label="missed")
        axes.bar(at, -extra, width, color=WARN, label="extra")
        axes.axhline(0.0, color=INK, linewidth=0.8)
        axes.margins(x=0.01)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.yaxis.set_major_formatter(lambda value, _: f"{abs(value):.0f}")
        axes.set_xlabel("frame")
        axes.set_ylabel("boxes")
        per = f" (sum of each {group} frames)" if group > 1 else ""
        axes.set_title(f"Boxes per frame{per}")
        only_horizontal_grid(axes)
        legend_above(axes, 3)

    return draw(
        paint,
        "Per frame: boxes that both models see, above the line in red those that the candidate "
        "missed, below it in orange those that it alone sees.",
        2.7,
    )


def agreement_distributions(result: ReplayResult) -> Picture:
    """Draw how much matched boxes overlap, and how far their scores moved."""
    found = [frame.agreement for frame in result.frames if frame.agreement is not None]
    iou = _joined(found, "iou")
    shift = _joined(found, "score_shift")
    reach = max(0.05, np.ceil(float(np.abs(shift).max(initial=0.0)) * 20.0) / 20.0)

    def paint(left: Axes, right: Axes) -> None:
        lowest = float(np.floor(iou.min(initial=0.9) * 20.0) / 20.0)
        left.hist(iou, np.linspace(lowest, 1.0, 26).tolist(), color=CANDIDATE)
        left.set_title("Overlap of matched boxes")
        left.set_xlabel("IoU")
        right.hist(shift, np.linspace(-reach, reach, 42).tolist(), color=CANDIDATE)
        right.axvline(0.0, color=INK, linewidth=0.8)
        # Numbers of three digits: more of them run into one another.
        right.xaxis.set_major_locator(MaxNLocator(5))
        right.set_title("Change of score of matched boxes")
        right.set_xlabel("candidate's score minus reference's")
        for axes in (left, right):
            axes.set_ylabel("boxes")
            axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
            only_horizontal_grid(axes)

    return draw(
        paint,
        f"Histograms over {plural(len(iou), 'matched box')}: overlap (IoU), and change of score.",
        2.7,
        columns=2,
    )


def _paint_stages(axes: Axes, result: ReplayResult) -> None:
    """Draw a row a stage: a dot at the median, a line to p99, a tick at the maximum."""
    models = _summaries(result)
    names = list(models[0][1])[::-1]
    height = 0.0 if len(models) == 1 else 0.16
    for side, (model, summaries, color) in zip((height, -height), models):
        rows = np.arange(len(names)) + side
        found = [summaries.get(name, LatencySummary()) for name in names]
        low, high, most = (
            np.array([getattr(one, field) for one in found])
            for field in ("p50_ms", "p99_ms", "max_ms")
        )
        axes.hlines(rows, low, high, color=color, linewidth=3.0, alpha=0.45)
        axes.plot(low, rows, "o", color=color, markersize=4.5, label=model)
        axes.plot(most, rows, "|", color=color, markersize=6.0)
    axes.set_yticks(range(len(names)), names)
    axes.set_xlim(left=0.0)
    axes.set_xlabel("ms: ● median, ▬ to p99, | maximum")
    axes.set_title("Stages")
    only_vertical_grid(axes)


def _paint_distribution(axes: Axes, result: ReplayResult) -> None:
    for name, values, color in _totals(result):
        ordered = np.sort(values)
        share = np.arange(1, len(ordered) + 1) / len(ordered)
        axes.step(ordered, 100.0 * share, where="post", color=color, label=name)
    for level in (50, 95, 99):
        axes.axhline(level, color=INK, linewidth=0.6, linestyle=":")
    axes.set_yticks([0, 25, 50, 75, 95])
    axes.set_ylim(0.0, 101.0)
    axes.set_xlabel("total time, ms")
    axes.set_ylabel("% of frames")
    axes.set_title("Distribution of the total")
    axes.legend(loc="lower right")


def _summaries(
    result: ReplayResult,
) -> list[tuple[str, dict[str, LatencySummary], str]]:
    found = [("candidate", latencies([f.spans for f in result.frames]), CANDIDATE)]
    if result.reference is not None:
        spans = [frame.reference_spans for frame in result.frames]
        found.append(("reference", latencies(spans), REFERENCE))
    return found


def _totals(result: ReplayResult) -> list[tuple[str, Floats, str]]:
    found = [("candidate", _milliseconds([f.spans for f in result.frames]), CANDIDATE)]
    if result.reference is not None:
        values = _milliseconds([frame.reference_spans for frame in result.frames])
        # The one under test is drawn last, and therefore on top.
        found.insert(0, ("reference", values, REFERENCE))
    return found


def _milliseconds(frames: Sequence[Mapping[str, int]]) -> Floats:
    return np.array([sum(spans.values()) for spans in frames], np.float64) / NS_PER_MS


def _counts(frames: Sequence[FrameRecord], field: str) -> Floats:
    return np.array([len(getattr(frame.agreement, field)) for frame in frames], np.float64)


def _joined(found: Sequence[FrameAgreement], field: str) -> Floats:
    return np.concatenate([np.zeros(0), *(getattr(one, field) for one in found)])


def _grouped(values: Floats, group: int, reduce: Callable[..., Any]) -> Floats:
    """Take `group` neighbours together; the last group may hold fewer."""
    starts = range(0, len(values), max(group, 1))
    return np.array([reduce(values[start : start + group]) for start in starts])
