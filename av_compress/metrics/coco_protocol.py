# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The COCO protocol, computed by pycocotools, for boxes of any kind that can overlap."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class ClassAP:
    """Average precision of one class.

    Attributes:
        ap: mean over IoU thresholds 0.50, 0.55 .. 0.95, in 0..1.
        ap50: at IoU 0.50.
        truths: how many true objects there are, crowds and ignored ones not counted.

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


@dataclass(frozen=True)
class Objects:
    """What is in one frame, or was found there.

    Attributes:
        boxes: [n, ...], as the geometry knows them.
        labels: int32 [n].
        crowd: bool [n]: neither found nor missed.
        scores: [n]; None for what is truly there.

    """

    boxes: npt.NDArray[np.floating]
    labels: npt.NDArray[np.int32]
    crowd: npt.NDArray[np.bool_]
    scores: npt.NDArray[np.floating] | None = None


class Geometry(Protocol):
    """What boxes are.

    Attributes:
        most: the best detections of a frame and class that are looked at.

    """

    most: int

    def annotations(self, boxes: npt.NDArray[np.floating]) -> list[dict[str, Any]]:
        """Return what pycocotools is to know of each box: `bbox` and `area` at least."""
        ...

    def evaluation(self, truths: Any, found: Any) -> Any:
        """Make a COCOeval of two data sets, which knows how such boxes overlap."""
        ...


def coco_average_precision(
    found: Sequence[Objects],
    truths: Sequence[Objects],
    class_names: Sequence[str],
    geometry: Geometry,
) -> DetectionAP:
    """Judge what was found against what is there.

    All sizes of objects count. What is found in a crowd is neither right nor wrong.

    Args:
        found: per frame, with scores.
        truths: of the same frames.
        class_names: label index -> name.
        geometry: what the boxes are.

    Raises:
        ValueError: there are not as many results as labels.

    """
    if len(found) != len(truths):
        raise ValueError(f"{len(found)} results, but labels of {len(truths)} frames")
    counts = _count_truths(truths, len(class_names))
    present = np.flatnonzero(counts)
    if len(present) == 0:
        return DetectionAP(0.0, 0.0, 0.0, {})
    # [IoU threshold, recall, class]: precision, all of it defined since every class has truths.
    precision = _evaluate(found, truths, present, geometry)
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


def _count_truths(truths: Sequence[Objects], classes: int) -> npt.NDArray[np.intp]:
    counts = np.zeros(classes, np.intp)
    for frame in truths:
        counts += np.bincount(frame.labels[~frame.crowd], minlength=classes)
    return counts


def _evaluate(
    found: Sequence[Objects],
    truths: Sequence[Objects],
    present: npt.NDArray[np.intp],
    geometry: Geometry,
) -> npt.NDArray[np.float64]:
    """Return precision [IoU threshold, recall, class] of the classes `present`."""
    sets = [_data_set(frames, present, geometry) for frames in (truths, found)]
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = geometry.evaluation(*sets)
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0.0, 1e10]], ["all"]
        evaluation.params.maxDets = [geometry.most]
        evaluation.evaluate()
        evaluation.accumulate()
    return np.asarray(evaluation.eval["precision"], np.float64)[:, :, :, 0, 0]


def _data_set(frames: Sequence[Objects], present: npt.NDArray[np.intp], geometry: Geometry) -> Any:
    """Make a pycocotools data set without a file; annotation ids start at 1, since 0 is no id."""
    # pycocotools takes a second to import, and not every command needs it.
    from pycocotools.coco import COCO

    wanted = {int(label) for label in present}
    entries = [
        {**entry, "image_id": number}
        for number, frame in enumerate(frames)
        for entry in _annotations(frame, geometry)
        if entry["category_id"] in wanted
    ]
    data = COCO()
    data.dataset = {
        "images": [{"id": number} for number in range(len(frames))],
        "categories": [{"id": label} for label in sorted(wanted)],
        "annotations": [{**entry, "id": number} for number, entry in enumerate(entries, start=1)],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        data.createIndex()
    return data


def _annotations(frame: Objects, geometry: Geometry) -> list[dict[str, Any]]:
    scores = [{}] * len(frame.labels) if frame.scores is None else _scored(frame.scores)
    return [
        {**box, **score, "category_id": int(label), "iscrowd": int(crowd)}
        for box, score, label, crowd in zip(
            geometry.annotations(frame.boxes), scores, frame.labels, frame.crowd
        )
    ]


def _scored(scores: npt.NDArray[np.floating]) -> list[dict[str, float]]:
    return [{"score": float(score)} for score in scores]
