# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Which candidates become detections."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from av_compress.tasks.camera_detection.config import NmsConfig
from av_compress.tasks.camera_detection.heads import Candidates

# Far outside every image, and small enough that class offsets keep their precision in float64.
_FAR = 1e6


def drop_unusable(found: Candidates) -> Candidates:
    """Drop candidates whose score or box is NaN, infinite or empty."""
    extents = found.boxes[:, 2:] - found.boxes[:, :2]
    usable = np.isfinite(found.scores) & np.isfinite(extents).all(1) & (extents > 0).all(1)
    return found.take(np.flatnonzero(usable))


def best_first(found: Candidates) -> Candidates:
    """Order candidates by score; ties keep the head's order."""
    return found.take(np.argsort(-found.scores, kind="stable"))


def suppress(found: Candidates, config: NmsConfig) -> Candidates:
    """Drop candidates that overlap a better one.

    Args:
        found: usable candidates, best first.
        config: which overlap is too much, between which boxes, and how many may survive.

    """
    found = found.take(np.arange(min(len(found.scores), config.max_candidates)))
    if config.iou_threshold >= 1.0:
        return found.take(np.arange(min(len(found.scores), config.max_detections)))
    rectangles = _rectangles(found, config.class_aware)
    # Who survives depends on better candidates alone, so a part of them may well suffice.
    count = 4 * config.max_detections
    while True:
        kept = _survivors(rectangles[:count], found.scores[:count], config.iou_threshold)
        if len(kept) >= config.max_detections or count >= len(rectangles):
            return found.take(kept[: config.max_detections])
        count *= 4


def _rectangles(found: Candidates, class_aware: bool) -> npt.NDArray[np.float64]:
    """Return x, y, width, height [n, 4]; each class in a place of its own, if only it matters."""
    boxes = np.clip(found.boxes.astype(np.float64), -_FAR, _FAR)
    first, extents = boxes[:, :2], boxes[:, 2:] - boxes[:, :2]
    if class_aware and len(boxes):
        spread = boxes.max() - boxes.min() + 1.0
        first = first + found.labels[:, None] * spread
    return np.concatenate([first, extents], axis=1)


def _survivors(
    rectangles: npt.NDArray[np.float64], scores: npt.NDArray[np.float32], iou_threshold: float
) -> npt.NDArray[np.intp]:
    kept = cv2.dnn.NMSBoxes(
        rectangles,  # type: ignore[arg-type]
        scores,  # type: ignore[arg-type]
        score_threshold=0.0,
        nms_threshold=iou_threshold,
    )
    return np.asarray(kept, np.intp).reshape(-1)
