# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Plots of a build's page."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from av_compress.metrics.average_precision import DetectionAP
from av_compress.report.build_data import FP32, BuildReport, TensorRange
from av_compress.report.build_tables import (
    NAMES,
    SHORT,
    TRUTHS,
    by_objects,
    model_name,
    noise_db,
    truths,
)
from av_compress.report.numbers import percent, size
from av_compress.report.page import Picture
from av_compress.report.plots import (
    BAD,
    CANDIDATE,
    INK,
    MUTED,
    REFERENCE,
    WARN,
    draw,
    draw_grid,
    legend_above,
    only_vertical_grid,
    short,
)

# Of few objects a class's AP says little: these are the classes with most.
_CLASSES = 12
_COLORS = {
    FP32: REFERENCE,
    "tensorrt": CANDIDATE,
    "cpu": WARN,
    "cpu_dynamic": "#7a5195",
    "weight_only": "#2e8b57",
    "tensorrt_fp8": "#7fb2e5",
    "tensorrt_8": "#a0679a",
}
_PRECISIONS = {
    "int8": CANDIDATE,
    "fp8": CANDIDATE,
    "int8_weights": "#2e8b57",
    "fp16": "#7fb2e5",
    "fp32": REFERENCE,
}


def accuracy(report: BuildReport) -> Picture:
    """Draw what each emitter changes, per metric and for the classes with most objects."""
    truth = truths(report)[0]

    def paint(metrics: Axes, classes: Axes) -> None:
        _paint_metrics(metrics, report)
        _paint_classes(classes, report, truth)

    return draw(
        paint,
        "Left: change of each accuracy figure against FP32, in points, per emitter. Right: the "
        "change of AP50 for the classes with most objects.",
        3.4,
        columns=2,
    )


def sizes(report: BuildReport) -> Picture:
    """Draw the sizes of the files."""
    manifest = report.manifest
    counts = {NAMES[FP32]: manifest.source.bytes}
    colors = [_COLORS[FP32]]
    for emitter, one in sorted(manifest.artefacts.items()):
        counts[model_name(report, emitter)] = one.bytes
        colors.append(_COLORS[emitter])

    def paint(axes: Axes) -> None:
        rows = range(len(counts))[::-1]
        bars = axes.barh(list(rows), list(counts.values()), 0.6, color=colors)
        axes.bar_label(bars, [size(count) for count in counts.values()], padding=4)
        axes.set_yticks(list(rows), list(counts))
        axes.set_xticks([])
        axes.set_xlim(0.0, 1.18 * max(counts.values()))
        axes.spines["bottom"].set_visible(False)
        axes.set_title("File size")
        axes.grid(False)

    alt = ", ".join(f"{name}: {size(count)}" for name, count in counts.items())
    return draw(paint, f"File sizes. {alt}.", 0.5 + 0.3 * len(counts))


def precision(report: BuildReport) -> Picture:
    """Draw the share of arithmetic in each precision, a bar an emitter."""
    artefacts = report.manifest.artefacts
    names = sorted(artefacts)[::-1]
    total = max(sum(report.macs.values()), 1)
    shares = {
        kind: [
            sum(report.macs.get(n.node, 0) for n in artefacts[name].nodes if n.precision == kind)
            / total
            for name in names
        ]
        for kind in _PRECISIONS
    }

    def paint(axes: Axes) -> None:
        left = np.zeros(len(names))
        for kind, values in shares.items():
            if any(values):
                axes.barh(
                    range(len(names)),
                    np.multiply(100.0, values),
                    0.6,
                    left=left,
                    color=_PRECISIONS[kind],
                    label=kind.upper(),
                )
            for row, value in enumerate(values):
                if value > 0.06:
                    axes.text(
                        left[row] + 50.0 * value,
                        row,
                        percent(value),
                        ha="center",
                        va="center",
                        color="white" if kind == "int8" else INK,
                    )
            left = left + np.multiply(100.0, values)
        axes.set_yticks(range(len(names)), [NAMES[name] for name in names])
        axes.set_xlim(0.0, 100.0)
        axes.set_xlabel("% of multiply-accumulates")
        axes.set_title("Arithmetic by precision")
        only_vertical_grid(axes)
        legend_above(axes, 3)

    return draw(paint, "Share of multiply-accumulates in each precision, per emitter.", 1.9)


def ranges(tensors: Sequence[TensorRange]) -> Picture:
    """Draw the histograms of tensors with the range that INT8 represents."""

    def paint(*axes: Axes) -> None:
        for one, place in zip(tensors, axes):
            _paint_range(place, one)

    names = ", ".join(one.name for one in tensors)
    alt = f"Histograms of {names}, with the represented range shaded."
    return draw_grid(paint, alt, count=len(tensors), columns=3, height=1.9)


def _paint_metrics(axes: Axes, report: BuildReport) -> None:
    found = [(truth, metric) for truth in truths(report) for metric in ("ap50", "ap")][::-1]
    emitters = [name for name in sorted(report.accuracy) if name != FP32]
    height = 0.8 / max(len(emitters), 1)
    labels = [f"{SHORT[metric]},\n{TRUTHS[truth]}" for truth, metric in found]
    for place, emitter in enumerate(emitters):
        rows = np.arange(len(found)) + 0.4 - height * (place + 0.5)
        changes = [
            100.0 * (_figure(report, emitter, *key) - _figure(report, FP32, *key)) for key in found
        ]
        axes.barh(rows, changes, 0.85 * height, color=_COLORS[emitter], label=NAMES[emitter])
        gate = report.manifest.artefacts[emitter].gate
        for row, key in zip(rows, found):
            if gate is not None and gate.metric == _metric(*key):
                ends = [row - height / 2, row + height / 2]
                axes.plot([-gate.max_loss] * 2, ends, color=BAD, linewidth=2.0)
    axes.axvline(0.0, color=INK, linewidth=0.8)
    axes.set_yticks(range(len(found)), labels)
    axes.margins(x=0.12)
    _widen(axes)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlabel("change, points; red: limit")
    only_vertical_grid(axes)
    legend_above(axes, 2)


def _widen(axes: Axes) -> None:
    """Show half a point at least, so that a hundredth of one looks like nothing."""
    low, high = axes.get_xlim()
    axes.set_xlim(min(low, -0.5), max(high, 0.05))


def _paint_classes(axes: Axes, report: BuildReport, truth: str) -> None:
    emitters = [name for name in sorted(report.accuracy) if name != FP32]
    reference = report.accuracy[FP32][truth]
    changes = {
        emitter: _class_changes(reference, report.accuracy[emitter][truth]) for emitter in emitters
    }
    names = by_objects(reference)[:_CLASSES][::-1]
    height = 0.8 / max(len(emitters), 1)
    for place, emitter in enumerate(emitters):
        rows = np.arange(len(names)) + 0.4 - height * (place + 0.5)
        values = [changes[emitter].get(name, 0.0) for name in names]
        axes.barh(rows, values, 0.85 * height, color=_COLORS[emitter])
    axes.axvline(0.0, color=INK, linewidth=0.8)
    # Few classes keep slim bars.
    axes.set_ylim(len(names) - max(len(names), _CLASSES // 2) - 0.5, len(names) - 0.5)
    labels = [f"{short(name, 24)} ({reference.per_class[name].truths})" for name in names]
    axes.set_yticks(range(len(names)), labels, fontsize=7.5)
    axes.margins(x=0.12)
    _widen(axes)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlabel("change of AP50, points")
    axes.set_title("Largest classes (objects)")
    only_vertical_grid(axes)


def _paint_range(axes: Axes, one: TensorRange) -> None:
    side = len(one.counts) // 2
    filled = np.flatnonzero(one.counts)
    # Neighbouring bins together: a plot of this size shows no more than a hundred.
    group = max(1, -(-int(filled[-1] - filled[0] + 1) // 100))
    starts = np.arange(filled[0], filled[-1] + 1, group)
    sums = np.add.reduceat(one.counts[: filled[-1] + 1], starts)
    # The middle bin reaches from -1 to 1, and those below it lie one further down.
    edges = np.append(starts, filled[-1] + 1) - side
    edges = (edges - (edges <= 0)) * one.bin_width
    axes.axvspan(one.low, one.high, color=CANDIDATE, alpha=0.10, linewidth=0)
    axes.stairs(sums, edges, baseline=0.5, fill=True, color=MUTED)
    for edge in (one.low, one.high):
        axes.axvline(edge, color=CANDIDATE, linewidth=1.0)
    axes.set_yscale("log")
    axes.set_ylim(bottom=0.5)
    axes.yaxis.set_ticklabels([])
    axes.set_title(short(one.name, 38), fontsize=7.5, fontweight="normal")
    axes.set_xlabel(f"{noise_db(one):.1f} dB", fontsize=8.0)
    axes.grid(False)


def _metric(truth: str, metric: str) -> str:
    return metric if truth == "labels" else f"agreement_{metric}"


def _figure(report: BuildReport, model: str, truth: str, metric: str) -> float:
    return float(getattr(report.accuracy[model][truth], metric))


def _class_changes(reference: DetectionAP, found: DetectionAP) -> dict[str, float]:
    return {
        name: 100.0 * (found.per_class[name].ap50 - figures.ap50)
        for name, figures in reference.per_class.items()
        if name in found.per_class
    }
