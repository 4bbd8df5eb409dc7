# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Average precision of boxes in space by the COCO protocol, their overlap in bird's eye view.

It holds models against one another: a model that equals its reference has 1, however few objects
there are, which KITTI's protocol does not give (see `kitti.Precision`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from av_compress.metrics.coco_protocol import DetectionAP, Objects, coco_average_precision
from av_compress.tasks.base import Detections3D, Labels3D
from av_compress.tasks.boxes3d import bev_iou


class _InBirdsEyeView:
    """Boxes [n, 7] by their footprints; see `Geometry`."""

    # As many as a cloud's detections are at most by default.
    most = 300

    def annotations(self, boxes: npt.NDArray[np.floating]) -> list[dict[str, Any]]:
        """See `Geometry`; the corners are of no use here."""
        return [
            {"bbox": [0.0, 0.0, 0.0, 0.0], "area": float(box[3] * box[4]), "box": box}
            for box in boxes
        ]

    def evaluation(self, truths: Any, found: Any) -> Any:
        """See `Geometry`."""
        from pycocotools.cocoeval import COCOeval

        class Evaluation(COCOeval):  # type: ignore[misc]
            def computeIoU(self, imgId: int, catId: int) -> Any:  # noqa: N802, N803
                """Return overlaps, float64 [detections by descending score, objects]."""
                objects = self._gts[imgId, catId]
                # COCOeval.evaluateImg orders them the same way.
                order = np.argsort(
                    [-one["score"] for one in self._dts[imgId, catId]], kind="mergesort"
                )
                chosen = [self._dts[imgId, catId][i] for i in order[: self.params.maxDets[-1]]]
                return bev_iou(_stacked(chosen), _stacked(objects)) if chosen else []

        return Evaluation(truths, found, "bbox")


def bev_average_precision(
    results: Sequence[Detections3D], labels: Sequence[Labels3D], class_names: Sequence[str]
) -> DetectionAP:
    """Judge detections against labels; see `average_precision.average_precision`.

    Ignored objects are neither found nor missed, and what is found there neither right nor wrong.

    Args:
        results: detections per frame.
        labels: true objects of the same frames in the task's classes; see `labels3d`.
        class_names: label index -> name.

    Raises:
        ValueError: there are not as many results as labels.

    """
    found = [Objects(one.boxes, one.labels, _none(one), one.scores) for one in results]
    truths = [Objects(one.boxes, one.labels, one.ignored) for one in labels]
    return coco_average_precision(found, truths, class_names, _InBirdsEyeView())


def bev_average_precision_against(
    reference: Sequence[Detections3D],
    results: Sequence[Detections3D],
    min_score: float = 0.25,
    *,
    class_names: Sequence[str],
) -> DetectionAP:
    """Judge detections against another model's; see `average_precision_against`."""
    truths = [_as_labels(detections, min_score) for detections in reference]
    return bev_average_precision(results, truths, class_names)


def _as_labels(detections: Detections3D, min_score: float) -> Labels3D:
    keep = detections.scores > min_score
    kept = int(keep.sum())
    return Labels3D(detections.boxes[keep], detections.labels[keep], np.zeros(kept, np.bool_))


def _none(detections: Detections3D) -> npt.NDArray[np.bool_]:
    return np.zeros(len(detections), np.bool_)


def _stacked(entries: Sequence[Any]) -> npt.NDArray[np.floating]:
    return np.array([one["box"] for one in entries], np.float64).reshape(-1, 7)
