# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Results and labels in space for the metrics' tests."""

from __future__ import annotations

import math

import numpy as np

from av_compress.tasks.base import Detections3D, Labels3D

CAR = (4.0, 2.0, 1.5)
PERSON = (0.8, 0.6, 1.7)


def detections_3d(*rows, velocities=None):
    """Rows of (x, y, z, length, width, height, yaw, score, label), the best first."""
    table = np.array(rows, np.float64).reshape(-1, 9)
    return Detections3D(
        table[:, :7].astype(np.float32),
        table[:, 7].astype(np.float32),
        table[:, 8].astype(np.int32),
        None if velocities is None else np.array(velocities, np.float32).reshape(-1, 2),
    )


def labels_3d(*rows, **more):
    """Rows of (x, y, z, length, width, height, yaw, label) or with `ignored` behind."""
    table = np.array([(*row, 0)[:9] for row in rows], np.float64).reshape(-1, 9)
    return Labels3D(
        table[:, :7].astype(np.float32),
        table[:, 7].astype(np.int32),
        table[:, 8].astype(np.bool_),
        **more,
    )


def random_scene(rng, count, classes=3, ignored=0.15):
    """Return rows for `labels_3d` that crowd on a small place, so that boxes overlap."""
    sizes = np.array([CAR, PERSON, (1.8, 0.6, 1.7)])
    labels = rng.integers(0, classes, count)
    return np.column_stack(
        [
            rng.uniform(0, 14, count),
            rng.uniform(-7, 7, count),
            rng.uniform(-1, -0.5, count),
            sizes[labels % 3] * rng.uniform(0.9, 1.1, (count, 3)),
            rng.uniform(-math.pi, math.pi, count),
            labels,
            rng.uniform(size=count) < ignored,
        ]
    )


def noisy_results(rng, rows, extra, classes=3, spread=0.15):
    """Detections near most of the rows, and some of nothing; scores in steps of 1/20 tie."""
    near = rows[rng.uniform(size=len(rows)) < 0.85]
    near = np.concatenate([near, random_scene(rng, extra, classes)])
    near[:, :3] += rng.normal(0, spread, (len(near), 3))
    near[:, 3:6] *= rng.uniform(0.92, 1.08, (len(near), 3))
    near[:, 6] += rng.normal(0, 0.05, len(near)) + np.pi * (rng.uniform(size=len(near)) < 0.1)
    scores = np.sort(rng.integers(1, 21, len(near)) / 20)[::-1]
    return detections_3d(*np.column_stack([near[:, :7], scores, near[:, 7]]))
