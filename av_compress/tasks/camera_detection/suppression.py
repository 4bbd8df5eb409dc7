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
    """Drop candidates that overlap a better one; the best comes first, ties in the head's order.

    Args:
        found: usable candidates, in any order.
        config: which overlap is too much, and between which boxes.

    """
    if config.iou_threshold >= 1.0 or len(found.scores) == 0:
        return best_first(found)
    return found.take(_survivors(found, config))


def _survivors(found: Candidates, config: NmsConfig) -> npt.NDArray[np.intp]:
    boxes = np.clip(found.boxes.astype(np.float64), -_FAR, _FAR)
    corners, extents = boxes[:, :2], boxes[:, 2:] - boxes[:, :2]
    if config.class_aware:
        # Each class moves to a place of its own, where it meets no other.
        spread = boxes.max() - boxes.min() + 1.0
        corners = corners + found.labels[:, None] * spread
    kept = cv2.dnn.NMSBoxes(
        np.concatenate([corners, extents], axis=1),  # type: ignore[arg-type]
        found.scores,  # type: ignore[arg-type]
        score_threshold=0.0,
        nms_threshold=config.iou_threshold,
        top_k=config.max_candidates,
    )
    return np.asarray(kept, np.intp).reshape(-1)
