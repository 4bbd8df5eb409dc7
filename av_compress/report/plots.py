# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What every plot shares: size, type, colours, and bytes that depend on the data alone."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from typing import Any

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from av_compress.report.page import Picture, svg_picture

# Told apart by people with any colour vision, and in greyscale by their brightness.
CANDIDATE = "#0b5cad"
REFERENCE = "#8a94a0"
BAD = "#c4311d"
WARN = "#e69a1a"
INK = "#1d232a"
MUTED = "#5b6570"
GRID = "#e3e7eb"

# A page's text column in inches of 96 pixels, and what makes 8.5 points 11 pixels there.
WIDTH = 10.0
_SCALE = 0.75

_STYLE: Any = {
    "font.family": ["DejaVu Sans", "sans-serif"],
    "font.size": 8.5,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelcolor": MUTED,
    "axes.labelsize": 8.5,
    "axes.edgecolor": "#aeb6be",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "text.color": INK,
    # Names are no formulas, whatever they contain.
    "text.parse_math": False,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "xtick.major.size": 0.0,
    "ytick.major.size": 0.0,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.2,
    # The page's own paper shows through.
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    # The browser sets the type, in whatever script a name is.
    "svg.fonttype": "none",
    # Names inside the SVG are hashes; without a salt of its own they would change at every run.
    "svg.hashsalt": "av_compress",
}
_NO_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}


def draw(paint: Callable[..., None], alt: str, height: float, columns: int = 1) -> Picture:
    """Draw a figure as wide as the page.

    Args:
        paint: takes the axes, as many as there are columns, and draws into them.
        alt: what the picture shows, in a sentence.
        height: in inches of a page that is `WIDTH` wide.
        columns: number of axes side by side.

    """
    return draw_grid(paint, alt, columns, columns, height)


def draw_grid(
    paint: Callable[..., None], alt: str, count: int, columns: int, height: float
) -> Picture:
    """Draw a figure of several rows, as wide as the page; see `draw`.

    Args:
        paint: takes `count` axes.
        alt: what the picture shows, in a sentence.
        count: number of axes.
        columns: how many stand side by side.
        height: of a row.

    """
    rows = -(-count // columns)
    # On top of the library's defaults: a user's own settings would change the bytes.
    with matplotlib.style.context(["default", _STYLE]):
        figure = Figure(figsize=(WIDTH * _SCALE, rows * height * _SCALE), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for unused in axes[count:]:
            unused.set_visible(False)
        paint(*axes[:count])
        stream = io.BytesIO()
        with warnings.catch_warnings():
            # The font that measures the text need not have its letters; the browser's has.
            warnings.filterwarnings("ignore", "Glyph", UserWarning)
            figure.savefig(stream, format="svg", metadata=_NO_METADATA)
    return svg_picture(stream.getvalue(), alt)


def only_horizontal_grid(axes: Axes) -> None:
    """Leave out the vertical lines, which say nothing where x is a sequence."""
    axes.grid(False, axis="x")


def only_vertical_grid(axes: Axes) -> None:
    """Leave out the horizontal lines, which say nothing between named rows."""
    axes.grid(False, axis="y")


def legend_above(axes: Axes, columns: int) -> None:
    """Put the legend above the axes, at the right, where it hides nothing."""
    axes.legend(
        loc="lower right",
        bbox_to_anchor=(1.0, 0.99),
        ncols=columns,
        borderaxespad=0.0,
        handlelength=1.2,
        columnspacing=1.4,
    )


def short(name: str, most: int) -> str:
    """Shorten a name to `most` letters; its end tells more than its beginning."""
    return name if len(name) <= most else f"…{name[1 - most :]}"
