# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""How far two models agree in space on the same frames; summed up as in `agreement`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from av_compress.metrics.agreement import (
    FrameAgreement,
    PoseShifts,
    agreement_of,
    match,
    same_class,
)
from av_compress.tasks.base import Detections3D
from av_compress.tasks.boxes3d import bev_iou

Doubles = npt.NDArray[np.float64]
Boxes = npt.NDArray[np.floating]


class Nearness(Protocol):
    """When two boxes in space can be the same object, and which of several is the nearest."""

    def closeness(self, first: Boxes, second: Boxes) -> Doubles:
        """Compare boxes [n, 7] with boxes [m, 7].

        Returns:
            float64 [n, m], the larger the nearer, -inf where they cannot be the same.

        """
        ...


@dataclass(frozen=True)
class ByOverlap:
    """Boxes whose footprints overlap.

    Attributes:
        iou_threshold: least intersection over union in bird's eye view, over 0.

    """

    iou_threshold: float = 0.5

    def closeness(self, first: Boxes, second: Boxes) -> Doubles:
        """See `Nearness`."""
        overlaps = bev_iou(first, second)
        return np.where(overlaps >= self.iou_threshold, overlaps, -np.inf)


@dataclass(frozen=True)
class ByDistance:
    """Boxes whose centres are near in bird's eye view: for small objects, such as pedestrians.

    Attributes:
        most_m: largest distance in metres.

    """

    most_m: float = 1.0

    def closeness(self, first: Boxes, second: Boxes) -> Doubles:
        """See `Nearness`."""
        apart = center_distances(first, second)
        return np.where(apart <= self.most_m, -apart, -np.inf)


def compare_frame_3d(
    reference: Detections3D, candidate: Detections3D, nearness: Nearness = ByOverlap()
) -> FrameAgreement:
    """Match the boxes of two results of one frame; see `agreement.match`.

    The outcome's `iou` is that of footprints, and 0 for pairs by distance that do not overlap.
    """
    closeness = nearness.closeness(candidate.boxes, reference.boxes)
    closeness[~same_class(reference, candidate)] = -np.inf
    pairs = match(candidate.scores, closeness)
    overlaps = bev_iou(candidate.boxes, reference.boxes)
    before = reference.boxes[pairs[:, 0]].astype(np.float64)
    after = candidate.boxes[pairs[:, 1]].astype(np.float64)
    pose = PoseShifts(
        position=np.linalg.norm(after[:, :3] - before[:, :3], axis=1),
        yaw=angle_between(before[:, 6], after[:, 6]),
    )
    return replace(agreement_of(reference, candidate, pairs, overlaps), pose=pose)


def center_distances(first: Boxes, second: Boxes) -> Doubles:
    """Return the distances in metres, float64 [n, m], of centres in bird's eye view."""
    apart = first[:, None, :2].astype(np.float64) - second[None, :, :2]
    return np.asarray(np.hypot(apart[..., 0], apart[..., 1]))


def angle_between(first: Doubles, second: Doubles, period: float = 2 * np.pi) -> Doubles:
    """Return the smallest angles between headings, in radians, 0..period / 2.

    Args:
        first: [n], in radians.
        second: [n], in radians.
        period: after which a heading is the same: pi where front and back are alike.

    """
    return np.abs((second - first + period / 2) % period - period / 2)
