# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""YOLOv8 and later heads: anchor-free, no objectness, sides as distributions (DFL)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from av_compress.tasks.camera_detection.heads.base import (
    Activation,
    Border,
    Candidates,
    HeadConfig,
    activate,
    cell_grid,
    corners,
    expected_bins,
    pick_classes,
    raw_threshold,
)
from av_compress.tasks.camera_detection.heads.cells import (
    Cells,
    Scoring,
    Shapes,
    maps_of,
    rows_of,
)
from av_compress.tasks.camera_detection.heads.family import CellDecoder, Family
from av_compress.tasks.camera_detection.outputs import Form, Wanted


@dataclass(frozen=True, kw_only=True)
class Yolov8Head(HeadConfig):
    """A head of YOLOv8 or later.

    Attributes:
        strides: of the scales, in the order of the maps.
        bins: of each side's distribution, in raw maps.
        map_activation: what turns the classes of raw maps into probabilities; rows and columns
            are decoded by the model itself.
        multi_label: a box yields a candidate for each class over the threshold.

    """

    type: ClassVar[str] = "yolov8"
    strides: tuple[int, ...] = (8, 16, 32)
    bins: int = 16
    map_activation: Activation = "sigmoid"
    multi_label: bool = False


def _forms(head: Yolov8Head, border: Border) -> tuple[Form, ...]:
    cells, channels = len(cell_grid(border, head.strides)[0]), 4 + border.classes
    raw = 4 * head.bins + border.classes
    sizes = [border.cells(stride) for stride in head.strides]
    return (
        Form("columns", (Wanted("detections", (1, channels, cells)),)),
        Form("rows", (Wanted("detections", (1, cells, channels)),)),
        Form(
            "maps",
            tuple(
                Wanted(f"maps[{index}]", (1, raw, rows, columns))
                for index, (columns, rows) in enumerate(sizes)
            ),
        ),
    )


def _box_scoring(head: Yolov8Head, border: Border, form: str, shapes: Shapes) -> Scoring:
    layout = maps_of if form == "columns" else rows_of
    return Scoring((layout("detections", shapes["detections"]),), (4, 4 + border.classes))


def _decode_boxes(head: Yolov8Head, border: Border, cells: Cells, threshold: float) -> Candidates:
    """Decode rows of centre and size in pixels, and probabilities."""
    rows = cells.rows[np.flatnonzero(cells.rows[:, 4:].max(axis=1) >= threshold)]
    kept, labels, best = pick_classes(rows[:, 4:], threshold, head.multi_label)
    return Candidates(corners(rows[kept, :2], rows[kept, 2:4]), best, labels)


def _map_scoring(head: Yolov8Head, border: Border, form: str, shapes: Shapes) -> Scoring:
    roles = [f"maps[{index}]" for index in range(len(head.strides))]
    blocks = tuple(maps_of(role, shapes[role]) for role in roles)
    sides = 4 * head.bins
    return Scoring(blocks, (sides, sides + border.classes), activation=head.map_activation)


def _decode_maps(head: Yolov8Head, border: Border, cells: Cells, threshold: float) -> Candidates:
    """Decode rows of side distributions and raw classes.

    Source: YOLOv8's reference implementation: a side's distance is the expectation of its
    distribution, in strides from the cell's centre.
    """
    sides = 4 * head.bins
    limit = raw_threshold(threshold, head.map_activation)
    near = np.flatnonzero(cells.rows[:, sides:].max(axis=1) >= limit)
    rows = cells.rows[near]
    scores = activate(rows[:, sides:], head.map_activation)
    kept, labels, best = pick_classes(scores, threshold, head.multi_label)
    indices = cells.indices[near[kept]]
    places, strides = (part[indices] for part in cell_grid(border, head.strides))
    distances = expected_bins(rows[kept, :sides].reshape(-1, 4, head.bins))
    starts = places + np.float32(0.5)
    boxes = np.concatenate([starts - distances[:, :2], starts + distances[:, 2:]], axis=1)
    return Candidates(boxes * strides[:, None], best, labels)


FAMILY = Family(
    Yolov8Head,
    _forms,
    {
        "columns": CellDecoder(_box_scoring, _decode_boxes),
        "rows": CellDecoder(_box_scoring, _decode_boxes),
        "maps": CellDecoder(_map_scoring, _decode_maps),
    },
)
