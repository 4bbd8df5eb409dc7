# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Detections as the fields of vision_msgs, for the node's publisher and for bags alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from av_compress.tasks.base import Detections2D


@dataclass(frozen=True)
class DetectionFields:
    """The fields of a vision_msgs/Detection2D, as Python's own numbers.

    Attributes:
        center_x: the box's centre, in pixels of the original image.
        center_y: the same, downwards.
        size_x: the box's width in pixels; its theta is 0.
        size_y: the box's height in pixels.
        class_id: `class_id` of the label.
        score: 0..1.

    """

    center_x: float
    center_y: float
    size_x: float
    size_y: float
    class_id: str
    score: float


@dataclass(frozen=True)
class DetectionArrayFields:
    """The fields of a vision_msgs/Detection2DArray; every header holds this stamp and frame_id."""

    stamp_ns: int
    frame_id: str
    detections: tuple[DetectionFields, ...]


@dataclass(frozen=True)
class LabelInfoFields:
    """The fields of a vision_msgs/LabelInfo.

    Attributes:
        classes: (class_id, class_name) of every class; the hypotheses' class_id is the first of
            the two as a string.
        threshold: lowest score that is reported.

    """

    classes: tuple[tuple[int, str], ...]
    threshold: float


def class_id(label: int) -> str:
    """Return the hypotheses' class_id of a label: the LabelInfo's class_id, as a string."""
    return str(label)


def detections_to_fields(
    result: Detections2D, stamp_ns: int, frame_id: str
) -> DetectionArrayFields:
    """Turn a result into message fields.

    Args:
        result: boxes in pixels of the original image.
        stamp_ns: the image's stamp.
        frame_id: the image's frame_id.

    """
    boxes = result.boxes.astype(np.float64)
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    rows = np.concatenate((centers, boxes[:, 2:] - boxes[:, :2]), axis=1).tolist()
    # tolist() gives Python's own numbers; a message field takes no others.
    return DetectionArrayFields(
        stamp_ns,
        frame_id,
        tuple(
            DetectionFields(x, y, width, height, class_id(label), score)
            for (x, y, width, height), label, score in zip(
                rows, result.labels.tolist(), result.scores.tolist()
            )
        ),
    )


def label_info_fields(class_names: Sequence[str], threshold: float) -> LabelInfoFields:
    """Describe the classes of a task: index and name of each."""
    return LabelInfoFields(tuple(enumerate(class_names)), float(threshold))
