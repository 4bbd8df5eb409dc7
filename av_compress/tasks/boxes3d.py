# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Overlap of boxes that are turned about the vertical axis, compiled by numba.

A box is x, y, z of its centre, length, width, height, yaw: see `tasks.base.Detections3D`. The
overlap of two footprints is one clipped by the four sides of the other (Sutherland and Hodgman,
Reentrant polygon clipping, 1974), in float64.
"""

# numba reads the functions' own text: annotations of arrays would say nothing to it.
# mypy: disable-error-code="no-untyped-def,untyped-decorator"
# ruff: noqa: ANN001, ANN202

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from av_compress.errors import MissingExtraError

try:
    from numba import njit
except ImportError as error:
    raise MissingExtraError("numba", "lidar", "comparing boxes in space") from error

Doubles = npt.NDArray[np.float64]

# Two quadrilaterals have an overlap of at most eight corners.
_MOST_CORNERS = 16


def corners(boxes: npt.NDArray[np.floating]) -> Doubles:
    """Return the corners of footprints, counter-clockwise, as float64 [n, 4, 2] in metres."""
    return np.asarray(_corners(_doubles(boxes)))


def bev_iou(ours: npt.NDArray[np.floating], theirs: npt.NDArray[np.floating]) -> Doubles:
    """Return intersection over union of footprints.

    Args:
        ours: [n, 7].
        theirs: [m, 7].

    Returns:
        float64 [n, m] in 0..1; 0 for a box without an area.

    """
    shared, areas = _overlaps(_doubles(ours), _doubles(theirs))
    return np.asarray(_ratio(shared, areas[0], areas[1]))


def iou_3d(ours: npt.NDArray[np.floating], theirs: npt.NDArray[np.floating]) -> Doubles:
    """Return intersection over union of volumes; see `bev_iou`."""
    one, other = _doubles(ours), _doubles(theirs)
    shared, areas = _overlaps(one, other)
    low = np.maximum(*np.meshgrid(*(b[:, 2] - b[:, 5] / 2 for b in (one, other)), indexing="ij"))
    high = np.minimum(*np.meshgrid(*(b[:, 2] + b[:, 5] / 2 for b in (one, other)), indexing="ij"))
    shared = shared * np.maximum(high - low, 0.0)
    return np.asarray(_ratio(shared, areas[0] * one[:, 5], areas[1] * other[:, 5]))


def suppress_by_iou(
    boxes: npt.NDArray[np.floating], labels: npt.NDArray[np.int32], threshold: float
) -> npt.NDArray[np.intp]:
    """Drop boxes whose footprint overlaps a better one of the same label by more than allowed.

    Args:
        boxes: [n, 7], the best first.
        labels: int32 [n]; equal ones for suppression across classes.
        threshold: the largest intersection over union that is kept.

    Returns:
        the rows that are kept, in order.

    """
    return np.asarray(_suppress_by_iou(_doubles(boxes), labels, float(threshold)))


def suppress_by_distance(
    centers: npt.NDArray[np.floating],
    labels: npt.NDArray[np.int32],
    radii: npt.NDArray[np.floating],
) -> npt.NDArray[np.intp]:
    """Drop boxes whose centre lies nearer to that of a better one of the same label than a radius.

    Source: circle NMS of CenterPoint (Yin et al., 2021), reference implementation.

    Args:
        centers: [n, 2], x and y in metres, the best first.
        labels: int32 [n].
        radii: by label, in metres.

    Returns:
        the rows that are kept, in order.

    """
    return np.asarray(
        _suppress_by_distance(_doubles(centers), labels, np.asarray(radii, np.float64))
    )


def _doubles(values: npt.NDArray[np.floating]) -> Doubles:
    return np.ascontiguousarray(values, np.float64)


def _ratio(shared: Doubles, ours: Doubles, theirs: Doubles) -> Doubles:
    union = ours[:, None] + theirs[None, :] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def _overlaps(ours: Doubles, theirs: Doubles) -> tuple[Doubles, tuple[Doubles, Doubles]]:
    areas = (ours[:, 3] * ours[:, 4], theirs[:, 3] * theirs[:, 4])
    return np.asarray(_shared(ours, theirs)), areas


@njit(cache=True, nogil=True, error_model="numpy")
def _corners(boxes):
    out = np.empty((boxes.shape[0], 4, 2))
    for row in range(boxes.shape[0]):
        x, y, length, width, yaw = (
            boxes[row, 0],
            boxes[row, 1],
            boxes[row, 3],
            boxes[row, 4],
            boxes[row, 6],
        )
        cos, sin = np.cos(yaw), np.sin(yaw)
        for corner in range(4):
            along = length / 2 if corner in (0, 3) else -length / 2
            across = width / 2 if corner in (0, 1) else -width / 2
            out[row, corner, 0] = x + along * cos - across * sin
            out[row, corner, 1] = y + along * sin + across * cos
    return out


@njit(cache=True, nogil=True, error_model="numpy")
def _shared(ours, theirs):
    one, other = _corners(ours), _corners(theirs)
    out = np.zeros((ours.shape[0], theirs.shape[0]))
    room = np.empty((2, _MOST_CORNERS, 2))
    for row in range(ours.shape[0]):
        for column in range(theirs.shape[0]):
            if _reach(ours[row], theirs[column]):
                out[row, column] = _overlap(one[row], other[column], room)
    return out


@njit(cache=True, nogil=True, error_model="numpy")
def _reach(ours, theirs):
    """Tell whether the circles around two footprints meet."""
    radius = (np.hypot(ours[3], ours[4]) + np.hypot(theirs[3], theirs[4])) / 2
    return np.hypot(ours[0] - theirs[0], ours[1] - theirs[1]) < radius


@njit(cache=True, nogil=True, error_model="numpy")
def _overlap(one, other, room):
    """Return the area that two convex counter-clockwise quadrilaterals share."""
    count, now = 4, 0
    room[0, :4] = one
    for side in range(4):
        ax, ay = other[side, 0], other[side, 1]
        bx, by = other[(side + 1) % 4, 0], other[(side + 1) % 4, 1]
        kept, then = 0, 1 - now
        for corner in range(count):
            px, py = room[now, corner, 0], room[now, corner, 1]
            qx, qy = room[now, (corner + 1) % count, 0], room[now, (corner + 1) % count, 1]
            # On which side of the line the two ends lie; left is inside.
            p = (bx - ax) * (py - ay) - (by - ay) * (px - ax)
            q = (bx - ax) * (qy - ay) - (by - ay) * (qx - ax)
            if p >= 0:
                room[then, kept, 0], room[then, kept, 1] = px, py
                kept += 1
            if (p >= 0) != (q >= 0):
                share = p / (p - q)
                room[then, kept, 0] = px + share * (qx - px)
                room[then, kept, 1] = py + share * (qy - py)
                kept += 1
        count, now = kept, then
        if count < 3:
            return 0.0
    area = 0.0
    for corner in range(count):
        following = (corner + 1) % count
        area += room[now, corner, 0] * room[now, following, 1]
        area -= room[now, following, 0] * room[now, corner, 1]
    return max(area / 2, 0.0)


@njit(cache=True, nogil=True, error_model="numpy")
def _suppress_by_iou(boxes, labels, threshold):
    points = _corners(boxes)
    room = np.empty((2, _MOST_CORNERS, 2))
    alive = np.ones(boxes.shape[0], np.bool_)
    for row in range(boxes.shape[0]):
        if not alive[row]:
            continue
        for other in range(row + 1, boxes.shape[0]):
            if alive[other] and labels[other] == labels[row] and _reach(boxes[row], boxes[other]):
                shared = _overlap(points[row], points[other], room)
                union = boxes[row, 3] * boxes[row, 4] + boxes[other, 3] * boxes[other, 4] - shared
                if union > 0 and shared / union > threshold:
                    alive[other] = False
    return np.nonzero(alive)[0]


@njit(cache=True, nogil=True, error_model="numpy")
def _suppress_by_distance(centers, labels, radii):
    alive = np.ones(centers.shape[0], np.bool_)
    for row in range(centers.shape[0]):
        if not alive[row]:
            continue
        for other in range(row + 1, centers.shape[0]):
            if alive[other] and labels[other] == labels[row]:
                apart = np.hypot(
                    centers[row, 0] - centers[other, 0], centers[row, 1] - centers[other, 1]
                )
                if apart < radii[labels[row]]:
                    alive[other] = False
    return np.nonzero(alive)[0]
