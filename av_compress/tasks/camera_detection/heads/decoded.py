# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Models that decode their boxes themselves, with or without suppression inside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from av_compress.errors import ModelError
from av_compress.tasks.camera_detection.heads.base import (
    Activation,
    Border,
    Candidates,
    Floats,
    HeadConfig,
    activate,
    corners,
    pick_classes,
)
from av_compress.tasks.camera_detection.heads.cells import (
    Block,
    Cells,
    Scoring,
    Shapes,
    rows_of,
)
from av_compress.tasks.camera_detection.heads.family import CellDecoder, Family, WholeDecoder
from av_compress.tasks.camera_detection.outputs import Form, Wanted
from av_compress.tensors import Array


@dataclass(frozen=True, kw_only=True)
class DecodedHead(HeadConfig):
    """Boxes, scores and labels as a model returns them.

    Attributes:
        box_format: corners `xyxy` or `yxyx`, centre and size `cxcywh`, or first corner and size
            `xywh`.
        box_unit: `pixels` of the input, or `normalized` to 0..1 over the whole input.
        activation: what turns scores into probabilities.
        label_offset: the model's number of the first class, e.g. 1 where 0 is the background.
        nms_inside: the model has suppressed overlaps already.
        multi_label: of a score per class, each over the threshold yields a candidate.

    """

    type: ClassVar[str] = "decoded"
    box_format: Literal["xyxy", "yxyx", "cxcywh", "xywh"] = "xyxy"
    box_unit: Literal["pixels", "normalized"] = "pixels"
    activation: Activation = "none"
    label_offset: int = 0
    nms_inside: bool = False
    multi_label: bool = False

    @property
    def suppresses(self) -> bool:
        """Whether the model itself drops overlapping boxes."""
        return self.nms_inside


def _forms(head: DecodedHead, border: Border) -> tuple[Form, ...]:
    columns = head.label_offset + border.classes
    forms = []
    for suffix, batch in (("", (1,)), ("_unbatched", ())):
        boxes = Wanted("boxes", (*batch, None, 4))
        scores = Wanted("scores", (*batch, None))
        labels = Wanted("labels", (*batch, None), "number")
        matrix = Wanted("scores", (*batch, None, columns))
        rows = Wanted("detections", (*batch, None, 6))
        forms += [
            Form(f"labels{suffix}", (boxes, scores, labels)),
            Form(f"matrix{suffix}", (boxes, matrix)),
            Form(f"rows{suffix}", (rows,)),
        ]
    return tuple(forms)


def _decode(
    head: DecodedHead, border: Border, form: str, outputs: Mapping[str, Array], threshold: float
) -> Candidates:
    """Take boxes as they come; padding rows have score 0 or a label that is no class."""
    boxes, scores, numbers = _columns(form, outputs)
    scores = activate(scores, head.activation)
    indices = numbers - head.label_offset
    kept = np.flatnonzero((scores >= threshold) & (indices >= 0) & (indices < border.classes))
    return Candidates(
        _to_corners(head, border, boxes[kept]), scores[kept], indices[kept].astype(np.int32)
    )


def _matrix_scoring(head: DecodedHead, border: Border, form: str, shapes: Shapes) -> Scoring:
    boxes, scores = (rows_of(role, shapes[role]) for role in ("boxes", "scores"))
    if boxes.cells != scores.cells:
        raise ModelError(
            f"the model has {boxes.cells} boxes and scores of {scores.cells}; "
            "name the tensors that belong together under task.head.outputs"
        )
    block = Block(scores.cells, boxes.parts + scores.parts)
    first = 4 + head.label_offset
    return Scoring((block,), (first, first + border.classes), activation=head.activation)


def _decode_matrix(
    head: DecodedHead, border: Border, cells: Cells, threshold: float
) -> Candidates:
    """Decode rows of a box and a score for each class."""
    scores = activate(cells.rows[:, 4 + head.label_offset :], head.activation)
    rows, labels, best = pick_classes(scores, threshold, head.multi_label)
    return Candidates(_to_corners(head, border, cells.rows[rows, :4]), best, labels)


def _columns(form: str, outputs: Mapping[str, Array]) -> tuple[Floats, Floats, Array]:
    if form.startswith("rows"):
        rows = outputs["detections"].reshape(-1, 6)
        return rows[:, :4], rows[:, 4], rows[:, 5]
    boxes = outputs["boxes"].reshape(-1, 4)
    return boxes, outputs["scores"].reshape(-1), outputs["labels"].reshape(-1)


def _to_corners(head: DecodedHead, border: Border, boxes: Floats) -> Floats:
    if head.box_format == "cxcywh":
        boxes = corners(boxes[:, :2], boxes[:, 2:])
    elif head.box_format == "xywh":
        boxes = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
    elif head.box_format == "yxyx":
        boxes = boxes[:, [1, 0, 3, 2]]
    if head.box_unit == "normalized":
        boxes = boxes * np.array([border.width, border.height] * 2, np.float32)
    return boxes


FAMILY = Family(
    DecodedHead,
    _forms,
    {
        f"{form}{suffix}": decoder
        for suffix in ("", "_unbatched")
        for form, decoder in (
            # The model has left few rows already.
            ("labels", WholeDecoder(_decode)),
            ("matrix", CellDecoder(_matrix_scoring, _decode_matrix)),
            ("rows", WholeDecoder(_decode)),
        )
    },
)
