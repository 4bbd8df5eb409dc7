# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Clouds of several LiDARs at about one time, brought into one frame."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from av_compress.data.transforms import NS_PER_S, NoTransformError, Transform, Transforms
from av_compress.errors import ConfigError, FrameError
from av_compress.tasks.base import PointCloud
from av_compress.tensors import Array

# x, y, z, intensity, and then the time, where there is one.
_TIME = 4


@dataclass(frozen=True)
class MergeOptions:
    """How clouds become one.

    Attributes:
        frame: what the merged cloud's coordinates are in, such as `base_link`.
        fixed_frame: a frame that stands still while the vehicle moves, by which a cloud is brought
            to the time of the newest; `""`: there is none, and the vehicle is taken to stand
            still for so long.
        max_apart_s: a cloud that is older than the newest by more is left out.

    """

    frame: str
    fixed_frame: str = "odom"
    max_apart_s: float = 0.1

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ConfigError: a value is not allowed.

        """
        if not 0 <= self.max_apart_s < math.inf:
            raise ConfigError(
                f"max_apart_s is {self.max_apart_s}; allowed is a number of seconds, 0 or more"
            )


@dataclass(frozen=True)
class MergedClouds:
    """What became of clouds.

    Attributes:
        cloud: all that could be placed, in the order they were given, with the newest's stamp; a
            time in the fifth column counts from there. None where none could be.
        names: whose clouds are in it.
        refused: name -> why a cloud is not.
        warning: why some are placed as if the vehicle had stood still; None where none are.

    """

    cloud: PointCloud | None
    names: Sequence[str]
    refused: Mapping[str, FrameError]
    warning: str | None = None


def merge_clouds(
    clouds: Mapping[str, PointCloud], options: MergeOptions, transforms: Transforms
) -> MergedClouds:
    """Bring clouds into one frame, at the time of the newest.

    Args:
        clouds: name of the LiDAR -> its cloud, all of the same columns; at least one.
        options: how.
        transforms: where frames were when.

    """
    newest_ns = max(cloud.stamp_ns for cloud in clouds.values())
    parts: dict[str, Array] = {}
    refused: dict[str, FrameError] = {}
    warning: str | None = None
    for name, cloud in clouds.items():
        age_s = apart_s(newest_ns, cloud.stamp_ns)
        if age_s > options.max_apart_s:
            refused[name] = FrameError(
                f"its cloud is {age_s:.3f} s older than another's, {options.max_apart_s:g} s are "
                "allowed: are the LiDARs' clocks synchronised?"
            )
            continue
        try:
            place = transforms.lookup(options.frame, cloud.frame_id, cloud.stamp_ns)
        except NoTransformError as error:
            refused[name] = error
            continue
        motion, missing = ego_motion(cloud.stamp_ns, newest_ns, options, transforms)
        if missing is not None:
            warning = warning or (
                f"no ego motion from {options.fixed_frame!r} to {options.frame!r}: {missing}; "
                f"the cloud of {name} is merged as if the vehicle had stood still for "
                f"{age_s:.3f} s"
            )
        parts[name] = _placed(cloud, motion @ place, age_s)
    if not parts:
        return MergedClouds(None, (), refused)
    merged = PointCloud(np.concatenate(list(parts.values())), newest_ns, options.frame)
    return MergedClouds(merged, tuple(parts), refused, warning)


def apart_s(later_ns: int, earlier_ns: int) -> float:
    """Return how far apart two stamps are, in seconds."""
    return (later_ns - earlier_ns) / NS_PER_S


def ego_motion(
    then_ns: int, newest_ns: int, options: MergeOptions, transforms: Transforms
) -> tuple[Transform, NoTransformError | None]:
    """Return how `options.frame` moved between two times, seen from itself.

    Args:
        then_ns: the earlier time.
        newest_ns: the later one.
        options: which frame, and what stands still.
        transforms: where frames were when.

    Returns:
        The motion, and why it is not known; then it is taken to have stood still.

    """
    if then_ns == newest_ns or not options.fixed_frame:
        return Transform.identity(), None
    frame, fixed = options.frame, options.fixed_frame
    try:
        back = transforms.lookup(frame, fixed, newest_ns)
        return back @ transforms.lookup(fixed, frame, then_ns), None
    except NoTransformError as error:
        return Transform.identity(), error


def _placed(cloud: PointCloud, transform: Transform, age_s: float) -> Array:
    points = cloud.points.astype(np.float32, copy=True)
    transform.move(points)
    if points.shape[1] > _TIME:
        points[:, _TIME] += np.float32(age_s)
    return points
