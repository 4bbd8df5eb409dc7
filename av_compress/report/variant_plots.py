# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Plots of what a compiler made of a form's variants."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from av_compress.engines.manifest import Manifest
from av_compress.engines.variants import ChoiceRecord
from av_compress.report.build_tables import NAMES
from av_compress.report.page import Picture
from av_compress.report.plots import CANDIDATE, REFERENCE, draw, legend_above, only_vertical_grid


def moved(manifest: Manifest) -> list[Picture]:
    """Draw the bytes that each variant's plan moves for a frame, a picture for each form."""
    choices = [(name, one.choice) for name, one in sorted(manifest.artefacts.items())]
    return [_moved(name, one) for name, one in choices if one is not None and one.compiled]


def _moved(emitter: str, choice: ChoiceRecord) -> Picture:
    compiled = choice.compiled
    activations, weights = (
        np.array([getattr(one, part) or 0 for one in compiled]) / 1e6
        for part in ("activation_bytes", "constant_bytes")
    )

    def paint(axes: Axes) -> None:
        rows = list(range(len(compiled)))[::-1]
        axes.barh(rows, activations, 0.6, color=CANDIDATE, label="activations")
        bars = axes.barh(rows, weights, 0.6, left=activations, color=REFERENCE, label="weights")
        axes.bar_label(bars, [f"{mb:.2f} MB" for mb in activations + weights], padding=4)
        labels = [
            f"{one.name} (accepted)" if one.verdict == "accepted" else one.name for one in compiled
        ]
        axes.set_yticks(rows, labels)
        axes.set_xlim(0.0, 1.15 * float((activations + weights).max()))
        axes.set_xlabel("MB that kernels read and write for a frame")
        axes.set_title(f"What plans move, {NAMES[emitter]}")
        only_vertical_grid(axes)
        legend_above(axes, 2)

    alt = "; ".join(f"{one.name}: {(one.bytes_moved or 0) / 1e6:.2f} MB" for one in compiled)
    return draw(paint, f"Bytes moved for a frame. {alt}.", 0.9 + 0.3 * len(compiled))
