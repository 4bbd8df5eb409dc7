# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""How far results have moved: a continuous measure, where average precision goes in jumps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from av_compress.tasks.base import Detections2D, Detections3D

DetectionsT = TypeVar("DetectionsT", Detections2D, Detections3D)
# Takes boxes [n, ...] and [m, ...], returns intersection over union, float64 [n, m].
Overlaps: TypeAlias = Callable[
    [npt.NDArray[np.float32], npt.NDArray[np.float32]], npt.NDArray[np.float64]
]

# A detection over this score is one that a stack acts upon.
CONFIDENT_SCORE = 0.25
# Boxes that overlap less are not the same object.
LEAST_IOU = 0.3


def detections_shift(
    reference: Sequence[DetectionsT], moved: Sequence[DetectionsT], overlaps: Overlaps
) -> float:
    """Return how far detections have moved, 0 for not at all, 2 for nothing left.

    Every confident detection of either side is matched with the nearest of its class on the
    other, whatever that one's score; the two give 1 - IoU plus the difference of their scores, and
    a detection without a match 1 plus its score. The mean is taken over all of them.

    Args:
        reference: for every frame, with low scores too.
        moved: of another model, for the same frames.
        overlaps: of two sets of boxes.

    """
    shifts: list[npt.NDArray[np.float64]] = []
    for first, second in zip(reference, moved):
        shifts += (_one_way(first, second, overlaps), _one_way(second, first, overlaps))
    found = np.concatenate([*shifts, np.zeros(0)])
    return float(found.mean()) if found.size else 0.0


def _one_way(
    first: DetectionsT, second: DetectionsT, overlaps: Overlaps
) -> npt.NDArray[np.float64]:
    confident = np.flatnonzero(first.scores > CONFIDENT_SCORE)
    alone = 1.0 + first.scores[confident].astype(np.float64)
    if not (len(confident) and len(second)):
        return alone
    overlap = overlaps(first.boxes[confident], second.boxes)
    scores = np.abs(first.scores[confident, None].astype(np.float64) - second.scores[None])
    same = first.labels[confident, None] == second.labels[None]
    cost = np.where(same & (overlap >= LEAST_IOU), 1.0 - overlap + scores, np.inf)
    return np.asarray(np.minimum(cost.min(axis=1), alone))
