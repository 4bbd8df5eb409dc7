# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""YOLOv8 and later heads: anchor-free, no objectness, sides as distributions (DFL)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from av_compress.tasks.camera_detection.heads.base import (
    Activation,
    Border,
    Candidates,
    Family,
    HeadConfig,
    activate,
    cell_grid,
    corners,
    expected_bins,
    pick_classes,
    raw_threshold,
)
from av_compress.tasks.camera_detection.outputs import Form, Wanted
from av_compress.tensors import Array


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


def _decode(
    head: Yolov8Head, border: Border, form: str, outputs: Mapping[str, Array], threshold: float
) -> Candidates:
    """Decode centre and size in pixels with probabilities, or raw maps.

    Source: YOLOv8's reference implementation: a side's distance is the expectation of its
    distribution, in strides from the cell's centre.
    """
    if form == "maps":
        return _decode_maps(head, border, outputs, threshold)
    columns = outputs["detections"][0] if form == "columns" else outputs["detections"][0].T
    near = np.flatnonzero(columns[4:].max(axis=0) >= threshold)
    rows = columns[:, near].T
    kept, labels, best = pick_classes(rows[:, 4:], threshold, head.multi_label)
    return Candidates(corners(rows[kept, :2], rows[kept, 2:4]), best, labels)


def _decode_maps(
    head: Yolov8Head, border: Border, outputs: Mapping[str, Array], threshold: float
) -> Candidates:
    maps = [outputs[f"maps[{index}]"][0] for index in range(len(head.strides))]
    columns = np.concatenate([array.reshape(len(array), -1) for array in maps], axis=1)
    sides = 4 * head.bins
    limit = raw_threshold(threshold, head.map_activation)
    near = np.flatnonzero(columns[sides:].max(axis=0) >= limit)
    rows = columns[:, near].T
    scores = activate(rows[:, sides:], head.map_activation)
    kept, labels, best = pick_classes(scores, threshold, head.multi_label)
    cells, strides = (part[near[kept]] for part in cell_grid(border, head.strides))
    distances = expected_bins(rows[kept, :sides].reshape(-1, 4, head.bins))
    starts = cells + np.float32(0.5)
    boxes = np.concatenate([starts - distances[:, :2], starts + distances[:, 2:]], axis=1)
    return Candidates(boxes * strides[:, None], best, labels)


FAMILY = Family(Yolov8Head, _forms, _decode)
