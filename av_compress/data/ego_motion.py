# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Clouds of a moving vehicle: where its frame was before, and which points are its own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from av_compress.data.transforms import NS_PER_S, NoTransformError, Transform, Transforms
from av_compress.tasks.base import Box

Points = npt.NDArray[np.float32]


# A frame that stands still while the vehicle moves.
FIXED_FRAME = "odom"


def apart_s(later_ns: int, earlier_ns: int) -> float:
    """Return how far apart two stamps are, in seconds."""
    return (later_ns - earlier_ns) / NS_PER_S


def motions_to(
    now_ns: int, then_ns: Sequence[int], transforms: Transforms, frame: str, fixed_frame: str
) -> list[Transform | NoTransformError]:
    """Return how a frame moved since earlier times: what takes points of then to where it is now.

    Args:
        now_ns: the time now.
        then_ns: the earlier ones.
        transforms: where frames were when.
        frame: that moves.
        fixed_frame: a frame that stands still while the vehicle moves.

    Returns:
        For each of the earlier times the motion, or why it is not known.

    """
    try:
        back = transforms.lookup(frame, fixed_frame, now_ns)
    except NoTransformError as error:
        return [error] * len(then_ns)
    found: list[Transform | NoTransformError] = []
    for one_ns in then_ns:
        try:
            found.append(back @ transforms.lookup(fixed_frame, frame, one_ns))
        except NoTransformError as error:
            found.append(error)
    return found


def outside(points: Points, box: Box | None) -> Points:
    """Return the points that do not lie in a box, which holds its bounds; None: all of them.

    The vehicle's own points have to be dropped before they are moved: they move with it.
    """
    if box is None:
        return points
    inside = np.ones(len(points), np.bool_)
    # Column by column, as in `Transform.move`.
    for axis in range(3):
        place = points[:, axis]
        inside &= (place >= np.float32(box.lower[axis])) & (place <= np.float32(box.upper[axis]))
    return points[~inside]
