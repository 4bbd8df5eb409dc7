# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Clouds of a moving vehicle: where its frame was before, and which points are its own."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from av_compress.data.transforms import Transform, Transforms
from av_compress.tasks.base import Box

Points = npt.NDArray[np.float32]


def motion_between(
    transforms: Transforms, frame: str, fixed_frame: str, then_ns: int, now_ns: int
) -> Transform:
    """Return how a frame moved between two times: what takes points of then to where it is now.

    Args:
        transforms: where frames were when.
        frame: that moves.
        fixed_frame: a frame that stands still while the vehicle moves.
        then_ns: the earlier time.
        now_ns: the later one.

    Raises:
        NoTransformError: it is not known at one of the times.

    """
    back = transforms.lookup(frame, fixed_frame, now_ns)
    return back @ transforms.lookup(fixed_frame, frame, then_ns)


def outside(points: Points, box: Box | None) -> Points:
    """Return the points that do not lie in a box, which holds its bounds; None: all of them.

    The vehicle's own points have to be dropped before they are moved: they move with it.
    """
    if box is None:
        return points
    lower, upper = np.array(box.lower, np.float32), np.array(box.upper, np.float32)
    inside = ((points[:, :3] >= lower) & (points[:, :3] <= upper)).all(axis=1)
    return points[~inside]
