# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Which points of a cloud a task reads, and how it reads them; compiled by numba."""

# numba reads the functions' own text: annotations of arrays would say nothing to it.
# mypy: disable-error-code="no-untyped-def,untyped-decorator"
# ruff: noqa: ANN001, ANN202

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from av_compress.errors import FrameError, MissingExtraError
from av_compress.tasks.base import Box, PointCloud
from av_compress.tasks.lidar_detection.features import POINT_CHANNELS
from av_compress.tasks.lidar_detection.grid import Floats

try:
    from numba import njit
except ImportError as error:
    raise MissingExtraError("numba", "lidar", "selecting points") from error

INTENSITY = POINT_CHANNELS.index("intensity")


def checked(cloud: PointCloud, columns: int) -> Floats:
    """Return the columns of a cloud that are read.

    Args:
        cloud: as it came.
        columns: how many of `POINT_CHANNELS` are read.

    Returns:
        float32 [n, columns], a view.

    Raises:
        FrameError: the points are not float32 [n, c], or a column is missing.

    """
    points = cloud.points
    if not isinstance(points, np.ndarray) or points.dtype != np.float32 or points.ndim != 2:
        found = (
            f"{points.dtype} {list(points.shape)}"
            if isinstance(points, np.ndarray)
            else type(points).__name__
        )
        raise FrameError(
            f"cloud {cloud.key!r}: points are {found}, wanted float32 [points, columns]"
        )
    if points.shape[1] < columns:
        have = ", ".join(POINT_CHANNELS[: points.shape[1]]) or "no columns"
        missing = ", ".join(POINT_CHANNELS[points.shape[1] : columns])
        raise FrameError(f"cloud {cloud.key!r} has {have}; the task reads {missing}, too")
    return points[:, :columns]


@dataclass(frozen=True)
class Selected:
    """The points that a task reads.

    Attributes:
        points: float32 [m, c], contiguous. The x of a point with an unusable value is NaN: it
            lies nowhere.
        in_ego_box: how many points were dropped because they lie in the ego box.
        unusable: how many of `points` have a place, but a value that the model cannot be told.
        usable: whether there is a point, of those with a place, that has not.

    """

    points: Floats
    in_ego_box: int = 0
    unusable: int = 0
    usable: bool = True


def select(
    points: Floats,
    ego_box: Box | None,
    intensity_scale: float,
    told: Sequence[int],
    largest: float,
) -> Selected:
    """Drop the points of the vehicle itself, scale intensities, and place unusable points nowhere.

    A single NaN that reaches a model spreads over all that it says of a cell, or of the cloud.

    Args:
        points: float32 [n, c]; it is not written to.
        ego_box: points in it are dropped; None drops none.
        intensity_scale: what intensities are multiplied by, in float32.
        told: columns behind z whose values the model is told.
        largest: magnitude that the model's input holds; what is above it, or NaN, is unusable.

    """
    kept = _scaled_outside(points, ego_box, intensity_scale)
    dropped = len(points) - len(kept)
    columns, most = np.array(told, np.int64), np.float32(largest)
    if _all_usable(kept, columns, most):
        return Selected(kept, dropped)
    if np.may_share_memory(kept, points):
        kept = kept.copy()
    unusable, usable = _hide_unusable(kept, columns, most)
    return Selected(kept, dropped, int(unusable), bool(usable))


def _scaled_outside(points: Floats, ego_box: Box | None, intensity_scale: float) -> Floats:
    """Return the points outside of the ego box, contiguous, their intensities scaled."""
    if ego_box is None and (intensity_scale == 1.0 or points.shape[1] <= INTENSITY):
        return np.ascontiguousarray(points)
    lower, upper = (
        np.array(bound, np.float32)
        for bound in ((ego_box.lower, ego_box.upper) if ego_box else ((np.nan,) * 3,) * 2)
    )
    kept: Floats = _select(points, lower, upper, np.float32(intensity_scale), INTENSITY)
    return kept


@njit(cache=True, nogil=True, error_model="numpy")
def _select(points, lower, upper, scale, scaled):
    out = np.empty(points.shape, np.float32)
    kept = 0
    for row in range(points.shape[0]):
        x, y, z = points[row, 0], points[row, 1], points[row, 2]
        if lower[0] <= x <= upper[0] and lower[1] <= y <= upper[1] and lower[2] <= z <= upper[2]:
            continue
        for channel in range(points.shape[1]):
            value = points[row, channel]
            out[kept, channel] = value * scale if channel == scaled else value
        kept += 1
    return out[:kept]


@njit(cache=True, nogil=True, error_model="numpy")
def _all_usable(points, told, largest):
    for column in told:
        for row in range(points.shape[0]):
            # Written so that NaN is not usable, too.
            if not abs(points[row, column]) <= largest:
                return False
    return True


@njit(cache=True, nogil=True, error_model="numpy")
def _hide_unusable(points, told, largest):
    """Take their place from points with unusable values; count them, and tell if one has none."""
    hidden, some = 0, False
    for row in range(points.shape[0]):
        x, y, z = points[row, 0], points[row, 1], points[row, 2]
        if not (np.isfinite(x) and np.isfinite(y) and np.isfinite(z)):
            continue
        usable = True
        for column in told:
            usable &= abs(points[row, column]) <= largest
        if usable:
            some = True
        else:
            hidden += 1
            points[row, 0] = np.nan
    return hidden, some
