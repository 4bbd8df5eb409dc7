# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Which candidates become detections."""

from __future__ import annotations

import numpy as np

from av_compress.tasks.boxes3d import suppress_by_distance, suppress_by_iou
from av_compress.tasks.lidar_detection.config import NmsConfig
from av_compress.tasks.lidar_detection.heads import Candidates


def drop_unusable(found: Candidates) -> Candidates:
    """Drop candidates whose score or box is NaN or infinite, or whose sizes are not positive."""
    usable = np.isfinite(found.scores) & np.isfinite(found.boxes).all(axis=1)
    usable &= (found.boxes[:, 3:6] > 0).all(axis=1)
    if found.velocities is not None:
        usable &= np.isfinite(found.velocities).all(axis=1)
    return found.take(np.flatnonzero(usable))


def best_first(found: Candidates, count: int) -> Candidates:
    """Order candidates by score, and keep the best; ties keep the head's order."""
    return found.take(np.argsort(-found.scores, kind="stable")[:count])


def suppress(found: Candidates, config: NmsConfig) -> Candidates:
    """Drop candidates that were found twice.

    Args:
        found: usable candidates, best first.
        config: what is too near, between which boxes, and how many may survive.

    """
    labels = found.labels if config.class_aware else np.zeros_like(found.labels)
    if config.type == "rotated":
        kept = suppress_by_iou(found.boxes, labels, config.iou_threshold)
    elif config.type == "circle":
        kept = suppress_by_distance(found.boxes[:, :2], labels, np.array(config.radii))
    else:
        kept = np.arange(len(labels))
    return found.take(kept[: config.max_detections])
