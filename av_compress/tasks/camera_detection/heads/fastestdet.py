# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""FastestDet heads: one map, one anchor-free prediction per cell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from av_compress.tasks.camera_detection.heads.base import (
    Border,
    Candidates,
    HeadConfig,
    cell_grid,
    corners,
    pick_classes,
    sigmoid,
)
from av_compress.tasks.camera_detection.heads.cells import Cells, Scoring, Shapes, maps_of
from av_compress.tasks.camera_detection.heads.family import CellDecoder, Family
from av_compress.tasks.camera_detection.outputs import Form, Wanted


@dataclass(frozen=True, kw_only=True)
class FastestdetHead(HeadConfig):
    """A FastestDet head.

    Attributes:
        stride: of the one map.
        objectness_power: score = objectness ** power * class ** (1 - power).
        multi_label: a box yields a candidate for each class over the threshold.

    """

    type: ClassVar[str] = "fastestdet"
    stride: int = 16
    objectness_power: float = 0.6
    multi_label: bool = False


def _forms(head: FastestdetHead, border: Border) -> tuple[Form, ...]:
    columns, rows = border.cells(head.stride)
    return (Form("map", (Wanted("detections", (1, 5 + border.classes, rows, columns)),)),)


def _scoring(head: FastestdetHead, border: Border, form: str, shapes: Shapes) -> Scoring:
    blocks = (maps_of("detections", shapes["detections"]),)
    powers = head.objectness_power, 1.0 - head.objectness_power
    return Scoring(blocks, (5, 5 + border.classes), 0, powers=powers)


def _decode(head: FastestdetHead, border: Border, cells: Cells, threshold: float) -> Candidates:
    """Decode rows of objectness, x, y, w, h, classes.

    Objectness and classes are probabilities; tanh(x, y) is the offset from the cell's corner in
    cells, sigmoid(w, h) the size in parts of the map. Source: FastestDet's implementation.
    """
    # No class exceeds 1, so objectness alone rules most cells out.
    least = threshold ** (1.0 / head.objectness_power) * 0.999
    near = np.flatnonzero(cells.rows[:, 0] >= least)
    predictions = cells.rows[near]
    objectness, classes = np.maximum(predictions[:, :1], 0.0), np.maximum(predictions[:, 5:], 0.0)
    scores = objectness**head.objectness_power * classes ** (1.0 - head.objectness_power)
    rows, labels, best = pick_classes(np.asarray(scores, np.float32), threshold, head.multi_label)
    indices = cells.indices[near[rows]]
    places, strides = (part[indices] for part in cell_grid(border, (head.stride,)))
    columns_rows = np.array(border.cells(head.stride), np.float32)
    centers = (places + np.tanh(predictions[rows, 1:3])) * strides[:, None]
    sizes = sigmoid(predictions[rows, 3:5]) * columns_rows * strides[:, None]
    return Candidates(corners(centers, sizes), best, labels)


FAMILY = Family(FastestdetHead, _forms, {"map": CellDecoder(_scoring, _decode)})
