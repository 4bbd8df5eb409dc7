# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Results and labels for the metrics' tests."""

from __future__ import annotations

import numpy as np

from av_compress.tasks.base import Detections2D, Labels2D


def detections(*rows):
    """Rows of (x1, y1, x2, y2, score, label), put in the order of their scores."""
    table = np.array(sorted(rows, key=lambda row: -row[4]), np.float64).reshape(-1, 6)
    return Detections2D(
        table[:, :4].astype(np.float32),
        table[:, 4].astype(np.float32),
        table[:, 5].astype(np.int32),
    )


def labels(*rows):
    """Rows of (x1, y1, x2, y2, label) or (x1, y1, x2, y2, label, crowd)."""
    table = np.array([(*row, 0)[:6] for row in rows], np.float64).reshape(-1, 6)
    return Labels2D(
        table[:, :4].astype(np.float32), table[:, 4].astype(np.int32), table[:, 5].astype(np.bool_)
    )


def random_boxes(rng, count):
    first = rng.uniform(0, 80, (count, 2))
    return np.concatenate([first, first + rng.uniform(2, 40, (count, 2))], axis=1)


def random_truth(rng, count, classes=3, crowds=0.15):
    rows = np.column_stack(
        [
            random_boxes(rng, count),
            rng.integers(0, classes, count),
            rng.uniform(size=count) < crowds,
        ]
    )
    return labels(*rows)


def noisy_detections(rng, truth, extra, classes=3):
    """Detections near most of the truths, and some of nothing."""
    near = truth.boxes + rng.normal(0, 2.0, truth.boxes.shape)
    near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
    keep = rng.uniform(size=len(truth)) < 0.8
    boxes = np.concatenate([near[keep], random_boxes(rng, extra)])
    classes_of = np.concatenate([truth.labels[keep], rng.integers(0, classes, extra)])
    # Scores in steps of 1/20: ties occur.
    scores = rng.integers(1, 21, len(boxes)) / 20
    return detections(*np.column_stack([boxes, scores, classes_of]))
