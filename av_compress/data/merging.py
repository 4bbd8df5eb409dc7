# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Clouds of several LiDARs at about one time, brought into one frame."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from av_compress.data.ego_motion import FIXED_FRAME, Points, apart_s, motions_to, outside
from av_compress.data.transforms import NoTransformError, Transform, Transforms
from av_compress.errors import ConfigError, FrameError
from av_compress.tasks.base import TIME_COLUMN, Box, PointCloud


@dataclass(frozen=True)
class MergeOptions:
    """How clouds become one.

    Attributes:
        frame: what the merged cloud's coordinates are in, such as `base_link`.
        fixed_frame: a frame that stands still while the vehicle moves, by which a cloud is brought
            to the time of the newest; `""`: there is none, and the vehicle is taken to stand
            still for so long.
        max_apart_s: how far stamps that go together lie apart at most.
        ego_box: points in it, in `frame`, are dropped where a cloud is brought to another time:
            those of the vehicle itself have moved with it.

    """

    frame: str
    fixed_frame: str = FIXED_FRAME
    max_apart_s: float = 0.1
    ego_box: Box | None = None

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
class _Part:
    """A LiDAR's points, float32 [n, c], what is left of their way, and how old they are."""

    points: Points
    way: Transform
    age_s: float


@dataclass(frozen=True)
class MergedClouds:
    """What became of clouds.

    Attributes:
        cloud: all that have a place and go together, in the order they were given, with the
            newest's stamp; a time in the fifth column counts from there. None where none has one.
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

    Of clouds that lie too far apart those are merged that are most; of as many, those with the
    first LiDAR's: one whose clock is wrong is left out, and costs the others nothing.

    Args:
        clouds: name of the LiDAR -> its cloud, all of the same columns; at least one.
        options: how.
        transforms: where frames were when.

    """
    places, refused = _places(clouds, options, transforms)
    if not places:
        return MergedClouds(None, (), refused)
    stamps = {name: clouds[name].stamp_ns for name in places}
    newest_ns = _reference(tuple(stamps.values()), options.max_apart_s)
    parts: dict[str, _Part] = {}
    warning: str | None = None
    for name, place in places.items():
        age_s = apart_s(newest_ns, stamps[name])
        if not 0 <= age_s <= options.max_apart_s:
            refused[name] = _too_far(age_s, options)
            continue
        motion, missing = ego_motion(stamps[name], newest_ns, options, transforms)
        if missing is not None:
            warning = warning or (
                f"no ego motion from {options.fixed_frame!r} to {options.frame!r}: {missing}; "
                f"the cloud of {name} is merged as if the vehicle had stood still for "
                f"{age_s:.3f} s"
            )
        parts[name] = _part(clouds[name], place, motion, age_s, options.ego_box)
    merged = PointCloud(_joined(list(parts.values())), newest_ns, options.frame)
    return MergedClouds(merged, tuple(parts), refused, warning)


def _places(
    clouds: Mapping[str, PointCloud], options: MergeOptions, transforms: Transforms
) -> tuple[dict[str, Transform], dict[str, FrameError]]:
    """Return where LiDARs were in the frame when they measured, and why some are not known."""
    found: dict[str, Transform] = {}
    refused: dict[str, FrameError] = {}
    for name, cloud in clouds.items():
        try:
            found[name] = transforms.lookup(options.frame, cloud.frame_id, cloud.stamp_ns)
        except NoTransformError as error:
            refused[name] = error
    return found, refused


def _reference(stamps: Sequence[int], max_apart_s: float) -> int:
    """Return the newest stamp of those that go together; see `merge_clouds`."""

    def rank(newest_ns: int) -> tuple[int, int, int]:
        group = [
            place
            for place, stamp_ns in enumerate(stamps)
            if 0 <= apart_s(newest_ns, stamp_ns) <= max_apart_s
        ]
        return len(group), -group[0], newest_ns

    return max(stamps, key=rank)


def _too_far(age_s: float, options: MergeOptions) -> FrameError:
    way = "behind" if age_s > 0 else "ahead of"
    return FrameError(
        f"its cloud's stamp is {abs(age_s):.3f} s {way} the others', {options.max_apart_s:g} s "
        "are allowed: are the LiDARs' clocks synchronised?"
    )


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
    (motion,) = motions_to(newest_ns, [then_ns], transforms, options.frame, options.fixed_frame)
    if isinstance(motion, NoTransformError):
        return Transform.identity(), motion
    return motion, None


def _part(
    cloud: PointCloud, place: Transform, motion: Transform, age_s: float, ego_box: Box | None
) -> _Part:
    if age_s == 0 or ego_box is None:
        # What the newest has in the box is dropped, and counted, with the others' of that time.
        return _Part(cloud.points, motion @ place, age_s)
    points = cloud.points.copy()
    place.move(points)
    return _Part(outside(points, ego_box), motion, age_s)


def _joined(parts: Sequence[_Part]) -> Points:
    """Return the points of all, moved, with times that count from the newest."""
    whole = np.concatenate([part.points for part in parts])
    begin = 0
    for part in parts:
        points = whole[begin : begin + len(part.points)]
        part.way.move(points)
        if points.shape[1] > TIME_COLUMN:
            points[:, TIME_COLUMN] += np.float32(part.age_s)
        begin += len(points)
    return whole
