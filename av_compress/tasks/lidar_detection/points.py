# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Which points of a cloud a task reads, and how it reads them; compiled by numba."""

# numba reads the functions' own text: annotations of arrays would say nothing to it.
# mypy: disable-error-code="no-untyped-def,untyped-decorator"
# ruff: noqa: ANN001, ANN202

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from av_compress.errors import FrameError, MissingExtraError
from av_compress.tasks.base import PointCloud
from av_compress.tasks.lidar_detection.features import POINT_CHANNELS
from av_compress.tasks.lidar_detection.grid import Floats

try:
    from numba import njit
except ImportError as error:
    raise MissingExtraError("numba", "lidar", "selecting points") from error

INTENSITY = POINT_CHANNELS.index("intensity")


@dataclass(frozen=True)
class Box:
    """A box along the axes, in the frame of the points; it holds its bounds.

    Attributes:
        lower: smallest x, y, z in metres.
        upper: largest x, y, z in metres.

    """

    lower: tuple[float, float, float]
    upper: tuple[float, float, float]


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


def select(points: Floats, ego_box: Box | None, intensity_scale: float) -> tuple[Floats, int]:
    """Drop the points of the vehicle itself, and scale intensities.

    Args:
        points: float32 [n, c]; it is not written to.
        ego_box: points in it are dropped; None drops none.
        intensity_scale: what intensities are multiplied by, in float32.

    Returns:
        float32 [m, c], contiguous, and how many points were dropped.

    """
    if ego_box is None and (intensity_scale == 1.0 or points.shape[1] <= INTENSITY):
        return np.ascontiguousarray(points), 0
    lower, upper = (
        np.array(bound, np.float32)
        for bound in ((ego_box.lower, ego_box.upper) if ego_box else ((np.nan,) * 3,) * 2)
    )
    kept = _select(points, lower, upper, np.float32(intensity_scale), INTENSITY)
    return kept, len(points) - len(kept)


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
