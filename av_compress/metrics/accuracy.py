# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""How the results of each kind of task are judged: boxes in images, and boxes in space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from av_compress.metrics.agreement import FrameAgreement, compare_frame
from av_compress.metrics.agreement3d import ByOverlap, compare_frame_3d
from av_compress.metrics.average_precision import (
    average_precision,
    average_precision_against,
    map_labels,
)
from av_compress.metrics.average_precision3d import (
    bev_average_precision,
    bev_average_precision_against,
)
from av_compress.metrics.coco_protocol import DetectionAP
from av_compress.metrics.iou import iou_matrix
from av_compress.metrics.labels3d import KITTI_NEIGHBOURS, map_labels_3d
from av_compress.metrics.shift import detections_shift
from av_compress.tasks.base import (
    Detections2D,
    Detections3D,
    Labels2D,
    Labels3D,
    Task,
)
from av_compress.tasks.boxes3d import bev_iou


class Accuracy(Protocol):
    """How results of one kind are held against labels and against one another.

    Attributes:
        overlap: what overlaps, in words.

    """

    overlap: str

    def in_classes(self, labels: Any, source: Sequence[str], task: Sequence[str]) -> Any:
        """Translate a frame's labels from a data set's classes to a task's, by name."""
        ...

    def counting(self, labels: Any) -> npt.NDArray[np.bool_]:
        """Tell which of a frame's true objects are to be found, bool [n]."""
        ...

    def on_labels(
        self, results: Sequence[Any], labels: Sequence[Any], names: Sequence[str]
    ) -> DetectionAP:
        """Measure average precision against labels in the task's classes."""
        ...

    def against(
        self,
        reference: Sequence[Any],
        results: Sequence[Any],
        min_score: float,
        names: Sequence[str],
    ) -> DetectionAP:
        """Measure average precision against another model's detections over a score."""
        ...

    def shift(self, reference: Sequence[Any], moved: Sequence[Any]) -> float:
        """Tell how far results have moved; see `shift.detections_shift`."""
        ...

    def compare(self, reference: Any, candidate: Any, iou_threshold: float) -> FrameAgreement:
        """Match the boxes of two results of one frame."""
        ...


class InImages:
    """Boxes in an image; see `Accuracy`."""

    overlap = "boxes in the image"

    def in_classes(self, labels: Labels2D, source: Sequence[str], task: Sequence[str]) -> Labels2D:
        """See `Accuracy`."""
        return map_labels(labels, source, task)

    def counting(self, labels: Labels2D) -> npt.NDArray[np.bool_]:
        """See `Accuracy`."""
        return ~labels.crowd

    def on_labels(
        self, results: Sequence[Detections2D], labels: Sequence[Labels2D], names: Sequence[str]
    ) -> DetectionAP:
        """See `Accuracy`."""
        return average_precision(results, labels, names)

    def against(
        self,
        reference: Sequence[Detections2D],
        results: Sequence[Detections2D],
        min_score: float,
        names: Sequence[str],
    ) -> DetectionAP:
        """See `Accuracy`."""
        return average_precision_against(reference, results, min_score, class_names=names)

    def shift(self, reference: Sequence[Detections2D], moved: Sequence[Detections2D]) -> float:
        """See `Accuracy`."""
        return detections_shift(reference, moved, iou_matrix)

    def compare(
        self, reference: Detections2D, candidate: Detections2D, iou_threshold: float
    ) -> FrameAgreement:
        """See `Accuracy`."""
        return compare_frame(reference, candidate, iou_threshold)


class InSpace:
    """Boxes in space, by their footprints: bird's eye view. See `Accuracy`."""

    overlap = "footprints in bird's eye view"

    def in_classes(self, labels: Labels3D, source: Sequence[str], task: Sequence[str]) -> Labels3D:
        """See `Accuracy`; what looks like an object of a class is ignored for it, as in KITTI."""
        return map_labels_3d(labels, source, task, KITTI_NEIGHBOURS)

    def counting(self, labels: Labels3D) -> npt.NDArray[np.bool_]:
        """See `Accuracy`."""
        return ~labels.ignored

    def on_labels(
        self, results: Sequence[Detections3D], labels: Sequence[Labels3D], names: Sequence[str]
    ) -> DetectionAP:
        """See `Accuracy`."""
        return bev_average_precision(results, labels, names)

    def against(
        self,
        reference: Sequence[Detections3D],
        results: Sequence[Detections3D],
        min_score: float,
        names: Sequence[str],
    ) -> DetectionAP:
        """See `Accuracy`."""
        return bev_average_precision_against(reference, results, min_score, class_names=names)

    def shift(self, reference: Sequence[Detections3D], moved: Sequence[Detections3D]) -> float:
        """See `Accuracy`."""
        return detections_shift(reference, moved, bev_iou)

    def compare(
        self, reference: Detections3D, candidate: Detections3D, iou_threshold: float
    ) -> FrameAgreement:
        """See `Accuracy`."""
        return compare_frame_3d(reference, candidate, ByOverlap(iou_threshold))


_BY_RESULT: Mapping[type[Any], Accuracy] = {Detections2D: InImages(), Detections3D: InSpace()}


def accuracy_of(task: Task[Any, Any]) -> Accuracy:
    """Return how a task's results are judged."""
    return _BY_RESULT[task.result_type]
