# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""A compared frame as the reference and as the candidate saw it, whatever kind of frame it is."""

from __future__ import annotations

from collections.abc import Sequence
from functools import singledispatch
from typing import Any

import numpy as np

from av_compress.metrics.replay import FrameRecord
from av_compress.report.bev import View, annotate_disagreement_3d
from av_compress.report.pictures import Pixels, annotate_disagreement
from av_compress.tasks.base import ImageFrame, PointCloud


@singledispatch
def disagreement_pictures(
    frame: Any, record: FrameRecord, class_names: Sequence[str], width: int
) -> tuple[Pixels, Pixels]:
    """Draw two pictures: an image with its boxes, or a cloud in bird's eye view.

    Args:
        frame: as it was recorded.
        record: what became of it, with a reference.
        class_names: label index -> name.
        width: of an image's pictures in pixels, of a cloud's those of its longer side.

    Raises:
        ValueError: the frame was not compared with a reference.

    """
    raise TypeError(f"{type(frame).__name__} is no frame")


@disagreement_pictures.register
def _(
    frame: ImageFrame, record: FrameRecord, class_names: Sequence[str], width: int
) -> tuple[Pixels, Pixels]:
    pixels = frame.pixels if frame.color == "bgr" else frame.pixels[..., ::-1]
    return annotate_disagreement(np.ascontiguousarray(pixels), record, class_names, width)


@disagreement_pictures.register
def _(
    frame: PointCloud, record: FrameRecord, class_names: Sequence[str], width: int
) -> tuple[Pixels, Pixels]:
    reference, candidate, agreement = record.reference, record.result, record.agreement
    if agreement is None or reference is None:
        raise ValueError(f"{record.key} was not compared with a reference")
    # Boxes that the comparison left out do not widen the view.
    seen = [
        reference.boxes[np.r_[agreement.pairs[:, 0], agreement.missed]],
        candidate.boxes[np.r_[agreement.pairs[:, 1], agreement.extra]],
    ]
    view = View.around(frame, seen, width)
    return annotate_disagreement_3d(frame, (reference, candidate), agreement, class_names, view)
