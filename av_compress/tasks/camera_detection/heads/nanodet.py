# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""NanoDet and NanoDet-Plus heads: distances to the four sides as distributions (GFL)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from av_compress.tasks.camera_detection.heads.base import (
    Activation,
    Border,
    Candidates,
    Floats,
    HeadConfig,
    activate,
    cell_grid,
    expected_bins,
    pick_classes,
)
from av_compress.tasks.camera_detection.heads.cells import (
    Block,
    Cells,
    Scoring,
    Shapes,
    rows_of,
)
from av_compress.tasks.camera_detection.heads.family import CellDecoder, Family
from av_compress.tasks.camera_detection.outputs import Form, Wanted


@dataclass(frozen=True, kw_only=True)
class NanodetHead(HeadConfig):
    """A NanoDet head.

    Attributes:
        strides: of the scales, in the order in which their cells follow one another
            (NanoDet-Plus has 64 too).
        bins: of each distance's distribution (reg_max + 1).
        cell_center: where distances start: `pixel_center` at stride * i + (stride - 1) / 2
            (NanoDet), `corner` at stride * i (NanoDet-Plus), `center` at stride * (i + 1/2).
        activation: what turns class outputs into probabilities.
        multi_label: a box yields a candidate for each class over the threshold.

    """

    type: ClassVar[str] = "nanodet"
    strides: tuple[int, ...] = (8, 16, 32)
    bins: int = 8
    cell_center: Literal["pixel_center", "corner", "center"] = "pixel_center"
    activation: Activation = "none"
    multi_label: bool = False


def _forms(head: NanodetHead, border: Border) -> tuple[Form, ...]:
    cells = [columns * rows for columns, rows in map(border.cells, head.strides)]
    distances = 4 * head.bins
    rows = Wanted("detections", (1, sum(cells), border.classes + distances))
    classes = [Wanted(f"classes[{i}]", (1, n, border.classes)) for i, n in enumerate(cells)]
    sides = [Wanted(f"distances[{i}]", (1, n, distances)) for i, n in enumerate(cells)]
    return (Form("scales", (*classes, *sides)), Form("rows", (rows,)))


def _row_scoring(head: NanodetHead, border: Border, form: str, shapes: Shapes) -> Scoring:
    blocks = (rows_of("detections", shapes["detections"]),)
    return Scoring(blocks, (0, border.classes), activation=head.activation)


def _scale_scoring(head: NanodetHead, border: Border, form: str, shapes: Shapes) -> Scoring:
    blocks = []
    for index in range(len(head.strides)):
        roles = f"classes[{index}]", f"distances[{index}]"
        classes, distances = (rows_of(role, shapes[role]) for role in roles)
        blocks.append(Block(classes.cells, classes.parts + distances.parts))
    return Scoring(tuple(blocks), (0, border.classes), activation=head.activation)


def _decode(head: NanodetHead, border: Border, cells: Cells, threshold: float) -> Candidates:
    """Decode rows of class scores and side distributions.

    Source: Li et al., Generalized Focal Loss (2020), and NanoDet's reference implementation.
    """
    scores, distributions = cells.rows[:, : border.classes], cells.rows[:, border.classes :]
    rows, labels, best = pick_classes(
        activate(scores, head.activation), threshold, head.multi_label
    )
    indices = cells.indices[rows]
    places, strides = (part[indices] for part in cell_grid(border, head.strides))
    distances = expected_bins(distributions[rows].reshape(-1, 4, head.bins)) * strides[:, None]
    starts = (places + _cell_offset(head, strides)) * strides[:, None]
    boxes = np.concatenate([starts - distances[:, :2], starts + distances[:, 2:]], axis=1)
    return Candidates(boxes, best, labels)


def _cell_offset(head: NanodetHead, strides: Floats) -> Floats:
    """Return where distances start, in strides from the cell's corner, as [n, 1]."""
    if head.cell_center == "pixel_center":
        return np.asarray(0.5 - 0.5 / strides[:, None], np.float32)
    return np.full((len(strides), 1), 0.5 if head.cell_center == "center" else 0.0, np.float32)


FAMILY = Family(
    NanodetHead,
    _forms,
    {
        "scales": CellDecoder(_scale_scoring, _decode),
        "rows": CellDecoder(_row_scoring, _decode),
    },
)
