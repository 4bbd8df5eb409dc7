# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""YOLOX heads: one anchor-free prediction per cell, with objectness."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from av_compress.tasks.camera_detection.heads.base import (
    Activation,
    Border,
    Candidates,
    HeadConfig,
    activate,
    cell_grid,
    corners,
    pick_classes,
    raw_threshold,
)
from av_compress.tasks.camera_detection.heads.cells import Cells, Scoring, Shapes, rows_of
from av_compress.tasks.camera_detection.heads.family import CellDecoder, Family
from av_compress.tasks.camera_detection.outputs import Form, Wanted


@dataclass(frozen=True, kw_only=True)
class YoloxHead(HeadConfig):
    """A YOLOX head.

    Attributes:
        strides: of the scales, in the order in which their cells follow one another.
        box_encoding: `grid`: offset from the cell and log size, in strides; `pixels`: centre and
            size in pixels of the input (exported with decode_in_inference).
        activation: what turns objectness and class outputs into probabilities; YOLOX's own
            export has it in the model.
        multi_label: a box yields a candidate for each class over the threshold.

    """

    type: ClassVar[str] = "yolox"
    strides: tuple[int, ...] = (8, 16, 32)
    box_encoding: Literal["grid", "pixels"] = "grid"
    activation: Activation = "none"
    multi_label: bool = False


def _forms(head: YoloxHead, border: Border) -> tuple[Form, ...]:
    cells = len(cell_grid(border, head.strides)[0])
    return (Form("rows", (Wanted("detections", (1, cells, 5 + border.classes)),)),)


def _scoring(head: YoloxHead, border: Border, form: str, shapes: Shapes) -> Scoring:
    blocks = (rows_of("detections", shapes["detections"]),)
    return Scoring(blocks, (5, 5 + border.classes), 4, head.activation)


def _decode(head: YoloxHead, border: Border, cells: Cells, threshold: float) -> Candidates:
    """Decode rows of x, y, w, h, objectness, classes.

    Source: Ge et al., YOLOX: Exceeding YOLO Series in 2021, and its reference implementation.
    """
    near = np.flatnonzero(cells.rows[:, 4] >= raw_threshold(threshold, head.activation))
    predictions = cells.rows[near]
    scores = activate(predictions[:, 4:], head.activation)
    rows, labels, best = pick_classes(scores[:, :1] * scores[:, 1:], threshold, head.multi_label)
    centers, sizes = predictions[rows, :2], predictions[rows, 2:4]
    if head.box_encoding == "grid":
        indices = cells.indices[near[rows]]
        places, strides = (part[indices] for part in cell_grid(border, head.strides))
        centers = (centers + places) * strides[:, None]
        sizes = np.exp(sizes) * strides[:, None]
    return Candidates(corners(centers, sizes), best, labels)


FAMILY = Family(YoloxHead, _forms, {"rows": CellDecoder(_scoring, _decode)})
