# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""YOLOX heads: one anchor-free prediction per cell, with objectness."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

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
    pick_classes,
    raw_threshold,
)
from av_compress.tasks.camera_detection.outputs import Form, Wanted
from av_compress.tensors import Array


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


def _decode(
    head: YoloxHead, border: Border, form: str, outputs: Mapping[str, Array], threshold: float
) -> Candidates:
    """Decode [1, n, 5 + classes]: x, y, w, h, objectness, classes.

    Source: Ge et al., YOLOX: Exceeding YOLO Series in 2021, and its reference implementation.
    """
    predictions = outputs["detections"][0]
    near = np.flatnonzero(predictions[:, 4] >= raw_threshold(threshold, head.activation))
    predictions = predictions[near]
    scores = activate(predictions[:, 4:], head.activation)
    rows, labels, best = pick_classes(scores[:, :1] * scores[:, 1:], threshold, head.multi_label)
    centers, sizes = predictions[rows, :2], predictions[rows, 2:4]
    if head.box_encoding == "grid":
        cells, strides = (part[near[rows]] for part in cell_grid(border, head.strides))
        centers = (centers + cells) * strides[:, None]
        sizes = np.exp(sizes) * strides[:, None]
    return Candidates(corners(centers, sizes), best, labels)


FAMILY = Family(YoloxHead, _forms, _decode)
