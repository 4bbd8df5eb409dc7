# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Average precision of boxes in images by the COCO protocol."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from av_compress.metrics.coco_protocol import (
    ClassAP,
    DetectionAP,
    Objects,
    coco_average_precision,
)
from av_compress.metrics.iou import box_areas
from av_compress.tasks.base import Detections2D, Labels2D

__all__ = [
    "ClassAP",
    "DetectionAP",
    "average_precision",
    "average_precision_against",
    "confident",
    "map_labels",
]


class _InImages:
    """Boxes by their corners; a crowd's overlap is that of pycocotools. See `Geometry`."""

    most = 100

    def annotations(self, boxes: npt.NDArray[np.floating]) -> list[dict[str, Any]]:
        """See `Geometry`."""
        return [
            {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": area}
            for (x1, y1, x2, y2), area in zip(boxes.tolist(), box_areas(boxes).tolist())
        ]

    def evaluation(self, truths: Any, found: Any) -> Any:
        """See `Geometry`."""
        from pycocotools.cocoeval import COCOeval

        return COCOeval(truths, found, "bbox")


def average_precision(
    results: Sequence[Detections2D], labels: Sequence[Labels2D], class_names: Sequence[str]
) -> DetectionAP:
    """Judge detections against labels.

    All sizes of objects count; areas are those of the boxes. Detections inside a crowd region are
    neither right nor wrong. The protocol looks at an image's best 100 detections of a class.

    Args:
        results: detections per frame.
        labels: true objects of the same frames, their classes those of the task (`map_labels`).
        class_names: label index -> name.

    Raises:
        ValueError: there are not as many results as labels.

    """
    found = [Objects(one.boxes, one.labels, _none(one), one.scores) for one in results]
    truths = [Objects(one.boxes, one.labels, one.crowd) for one in labels]
    return coco_average_precision(found, truths, class_names, _InImages())


def average_precision_against(
    reference: Sequence[Detections2D],
    results: Sequence[Detections2D],
    min_score: float = 0.25,
    *,
    class_names: Sequence[str],
) -> DetectionAP:
    """Judge detections against another model's, those with a score over `min_score` as truth.

    It tells how alike two models are where labels are few; it is not symmetric.
    """
    truths = [_as_labels(confident(detections, min_score)) for detections in reference]
    return average_precision(results, truths, class_names)


def confident(detections: Detections2D, min_score: float) -> Detections2D:
    """Keep the detections with a score over `min_score`, in their order."""
    keep = detections.scores > min_score
    return Detections2D(detections.boxes[keep], detections.scores[keep], detections.labels[keep])


def map_labels(
    labels: Labels2D, source_names: Sequence[str], task_names: Sequence[str]
) -> Labels2D:
    """Translate labels from a data set's classes to a task's, by name.

    Objects of classes that the task does not know are dropped.
    """
    known = {name: index for index, name in enumerate(task_names)}
    table = np.array([known.get(name, -1) for name in source_names], np.int32)
    mapped = table[labels.labels] if len(labels) else labels.labels.astype(np.int32)
    keep = mapped >= 0
    return Labels2D(labels.boxes[keep], mapped[keep], labels.crowd[keep])


def _as_labels(detections: Detections2D) -> Labels2D:
    return Labels2D(detections.boxes, detections.labels, _none(detections))


def _none(detections: Detections2D) -> npt.NDArray[np.bool_]:
    return np.zeros(len(detections), np.bool_)
