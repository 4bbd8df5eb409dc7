# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What an encoder is told of each point of a voxel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from av_compress.errors import ConfigError
from av_compress.tasks.lidar_detection import compiled
from av_compress.tasks.lidar_detection.grid import Floats, Grid
from av_compress.tasks.lidar_detection.voxels import Voxels

# Values of a point as they stand in a cloud's columns, then what is made of them; the compiled
# code and the device's know them by their place.
CHANNELS = (
    "x",
    "y",
    "z",
    "intensity",
    "time",
    "ring",
    "mean_offset_x",
    "mean_offset_y",
    "mean_offset_z",
    "center_offset_x",
    "center_offset_y",
    "center_offset_z",
    "distance",
)
POINT_CHANNELS = CHANNELS[:6]

_CLUSTER = ("mean_offset_x", "mean_offset_y", "mean_offset_z")
_CENTER = ("center_offset_x", "center_offset_y")
_NAMED = {
    # Lang et al., PointPillars (2019), section 2.1: 9 values a point.
    "pointpillars": ("x", "y", "z", "intensity", *_CLUSTER, *_CENTER),
    # OpenPCDet's PillarVFE: the offset to the centre has a height, too.
    "pointpillars_10": ("x", "y", "z", "intensity", *_CLUSTER, *_CENTER, "center_offset_z"),
    # Yin et al., CenterPoint (2021), as det3d and mmdetection3d train it on nuScenes.
    "centerpoint": ("x", "y", "z", "intensity", "time", *_CLUSTER, *_CENTER),
    "centerpoint_11": (
        *("x", "y", "z", "intensity", "time"),
        *_CLUSTER,
        *_CENTER,
        "center_offset_z",
    ),
    # Autoware's lidar_centerpoint: no intensity.
    "autoware_centerpoint": ("x", "y", "z", "time", *_CLUSTER, *_CENTER),
}


def channel_names(features: str | Sequence[str]) -> tuple[str, ...]:
    """Return the channels of a named set, or those that are listed.

    Raises:
        ConfigError: a set or a channel is not known.

    """
    if isinstance(features, str):
        if features not in _NAMED:
            raise ConfigError(
                f"features: {features!r} is not allowed; allowed: {', '.join(_NAMED)}"
            )
        return _NAMED[features]
    unknown = [name for name in features if name not in CHANNELS]
    if unknown or not features:
        what = f"{unknown[0]!r} is not allowed" if unknown else "there is none"
        raise ConfigError(f"features: {what}; allowed: {', '.join(CHANNELS)}")
    return tuple(features)


def channel_codes(channels: Sequence[str]) -> npt.NDArray[np.int32]:
    """Return what compiled code knows channels by: their places in `CHANNELS`."""
    return np.array([CHANNELS.index(name) for name in channels], np.int32)


def check_columns(channels: Sequence[str], columns: int) -> None:
    """Refuse channels that a cloud does not have.

    Args:
        channels: names out of `CHANNELS`.
        columns: of the cloud, the first of `POINT_CHANNELS`.

    Raises:
        ConfigError: a channel's column is not there.

    """
    absent = [name for name in channels if name in POINT_CHANNELS[columns:]]
    if absent:
        raise ConfigError(
            f"the features want {absent[0]}, the cloud has {', '.join(POINT_CHANNELS[:columns])}"
        )


def encode(
    points: Floats, voxels: Voxels, grid: Grid, channels: Sequence[str], out: Floats | None = None
) -> Floats:
    """Describe the points of a cloud's voxels.

    Args:
        points: float32 [n, c], the cloud that was divided: the first of `POINT_CHANNELS`.
        voxels: of it.
        grid: that they were made with.
        channels: names out of `CHANNELS`.
        out: float32 [v or more, p, len(channels)] to write into; by default it is made.

    Returns:
        float32 [v, p, len(channels)], 0 where a voxel has no point. Offsets are in metres, to the
        mean of the voxel's kept points (their sum in float32, in order, by their number) and to
        its cell's centre; `distance` is that to the origin.

    Raises:
        ConfigError: a channel's column is not in the cloud.

    """
    check_columns(channels, points.shape[1])
    cloud = np.ascontiguousarray(points, np.float32)
    lower, _, size = grid.arrays()
    if out is None:
        out = np.empty((*voxels.rows.shape, len(channels)), np.float32)
    compiled.encode(
        cloud,
        voxels.rows,
        voxels.counts,
        voxels.cells,
        lower,
        size,
        channel_codes(channels),
        out,
    )
    return out[: len(voxels)]
