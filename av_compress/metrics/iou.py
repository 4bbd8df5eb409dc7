# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Intersection over union of axis-aligned boxes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def box_areas(boxes: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return the areas [n] of boxes [n, 4] (x1 y1 x2 y2); 0 where a box is inside out."""
    extents = np.clip(boxes[:, 2:].astype(np.float64) - boxes[:, :2], 0.0, None)
    return np.asarray(extents.prod(axis=1), np.float64)


def iou_matrix(first: npt.NDArray[Any], second: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Compare every box with every other.

    Args:
        first: [n, 4], x1 y1 x2 y2 in any unit.
        second: [m, 4], in the same unit.

    Returns:
        [n, m] in 0..1; 0 where both boxes are empty.

    """
    a, b = first.astype(np.float64)[:, None], second.astype(np.float64)[None]
    extents = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    shared = np.clip(extents, 0.0, None).prod(axis=-1)
    union = box_areas(first)[:, None] + box_areas(second)[None] - shared
    overlap: npt.NDArray[np.float64] = np.divide(
        shared, union, out=np.zeros_like(shared), where=union > 0.0
    )
    return overlap
