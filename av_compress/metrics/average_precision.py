# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Average precision by the COCO protocol, computed by pycocotools."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from av_compress.metrics.iou import box_areas
from av_compress.tasks.base import Detections2D, Labels2D

# The protocol looks at an image's best 100 detections.
_MAX_DETECTIONS = 100


@dataclass(frozen=True)
class ClassAP:
    """Average precision of one class.

    Attributes:
        ap: mean over IoU thresholds 0.50, 0.55 .. 0.95, in 0..1.
        ap50: at IoU 0.50.
        truths: how many true objects there are, crowds not counted.

    """

    ap: float
    ap50: float
    truths: int


@dataclass(frozen=True)
class DetectionAP:
    """Average precision over the classes that have true objects.

    Attributes:
        ap: mean over classes and IoU thresholds 0.50, 0.55 .. 0.95, in 0..1; 0 without truths.
        ap50: mean over classes at IoU 0.50.
        ap75: mean over classes at IoU 0.75.
        per_class: class name -> its own figures, for classes with true objects.

    """

    ap: float
    ap50: float
    ap75: float
    per_class: Mapping[str, ClassAP]

    @property
    def truths(self) -> int:
        """Count the true objects; without any, average precision means nothing."""
        return sum(entry.truths for entry in self.per_class.values())


def average_precision(
    results: Sequence[Detections2D], labels: Sequence[Labels2D], class_names: Sequence[str]
) -> DetectionAP:
    """Judge detections against labels.

    All sizes of objects count; areas are those of the boxes. Detections inside a crowd region are
    neither right nor wrong.

    Args:
        results: detections per frame.
        labels: true objects of the same frames, their classes those of the task (`map_labels`).
        class_names: label index -> name.

    Raises:
        ValueError: there are not as many results as labels.

    """
    if len(results) != len(labels):
        raise ValueError(f"{len(results)} results, but labels of {len(labels)} frames")
    counts = _count_truths(labels, len(class_names))
    present = np.flatnonzero(counts)
    if len(present) == 0:
        return DetectionAP(0.0, 0.0, 0.0, {})
    # [IoU threshold, recall, class]: precision, all of it defined since every class has truths.
    precision = _evaluate(results, labels, present)
    return DetectionAP(
        ap=float(precision.mean()),
        ap50=float(precision[0].mean()),
        ap75=float(precision[5].mean()),
        per_class={
            class_names[label]: ClassAP(
                ap=float(precision[:, :, index].mean()),
                ap50=float(precision[0, :, index].mean()),
                truths=int(counts[label]),
            )
            for index, label in enumerate(present.tolist())
        },
    )


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
    return Labels2D(detections.boxes, detections.labels, np.zeros(len(detections), np.bool_))


def _count_truths(labels: Sequence[Labels2D], classes: int) -> npt.NDArray[np.intp]:
    counts = np.zeros(classes, np.intp)
    for frame in labels:
        counts += np.bincount(frame.labels[~frame.crowd], minlength=classes)
    return counts


def _evaluate(
    results: Sequence[Detections2D],
    labels: Sequence[Labels2D],
    present: npt.NDArray[np.intp],
) -> npt.NDArray[np.float64]:
    """Return precision [IoU threshold, recall, class] of the classes `present`."""
    # pycocotools takes a second to import, and not every command needs it.
    from pycocotools.cocoeval import COCOeval

    wanted = {int(label) for label in present}
    truths = [
        _annotation(frame, box, area, label, iscrowd=int(crowd))
        for frame, true in enumerate(labels)
        for box, area, label, crowd in zip(
            true.boxes, box_areas(true.boxes), true.labels, true.crowd
        )
        if int(label) in wanted
    ]
    found = [
        _annotation(frame, box, area, label, iscrowd=0, score=float(score))
        for frame, result in enumerate(results)
        for box, area, label, score in zip(
            result.boxes, box_areas(result.boxes), result.labels, result.scores
        )
        if int(label) in wanted
    ]
    frames = range(len(labels))
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(
            _data_set(frames, wanted, truths), _data_set(frames, wanted, found), "bbox"
        )
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0.0, 1e10]], ["all"]
        evaluation.params.maxDets = [_MAX_DETECTIONS]
        evaluation.evaluate()
        evaluation.accumulate()
    return np.asarray(evaluation.eval["precision"], np.float64)[:, :, :, 0, 0]


def _annotation(
    frame: int,
    box: npt.NDArray[np.float32],
    area: float,
    label: int,
    **more: float,
) -> dict[str, Any]:
    x1, y1, x2, y2 = map(float, box)
    return {
        "image_id": frame,
        "category_id": int(label),
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": float(area),
        **more,
    }


def _data_set(frames: range, labels: set[int], annotations: list[dict[str, Any]]) -> Any:
    """Make a pycocotools data set without a file; annotation ids start at 1, since 0 is no id."""
    from pycocotools.coco import COCO

    data = COCO()
    data.dataset = {
        "images": [{"id": frame} for frame in frames],
        "categories": [{"id": label} for label in sorted(labels)],
        "annotations": [
            {**annotation, "id": index} for index, annotation in enumerate(annotations, start=1)
        ],
    }
    data.createIndex()
    return data
