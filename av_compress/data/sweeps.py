# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Densification: the last sweeps of a LiDAR, brought to the newest by the vehicle's motion."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Protocol, TypeVar

import numpy as np

from av_compress.data.ego_motion import FIXED_FRAME, Points, apart_s, motions_to, outside
from av_compress.data.transforms import NoTransformError, Transform, Transforms
from av_compress.tasks.base import TIME_COLUMN, PointCloud, Sweeps

Named = TypeVar("Named")


@dataclass(frozen=True)
class Merged:
    """A cloud out of several sweeps.

    Attributes:
        cloud: all points in the newest sweep's frame and place, with a time in their fifth column
            where several are wanted; the newest's come first.
        sweeps: how many there are in it.
        warning: why there are not as many as could be; None where nothing is missing.

    """

    cloud: PointCloud
    sweeps: int
    warning: str | None = None


class Stamped(Protocol):
    """When and where a sweep was measured; see `PointCloud`."""

    @property
    def stamp_ns(self) -> int:
        """See `PointCloud`."""
        ...

    @property
    def frame_id(self) -> str:
        """See `PointCloud`."""
        ...


def follows(later: Stamped, earlier: Stamped, sweeps: Sweeps) -> bool:
    """Tell whether a sweep continues the one before it.

    A jump of the clock, back or by more than the largest age, or another frame begins anew: no
    sweep is brought together with one from before that.
    """
    return 0 < age_s(later, earlier) <= sweeps.max_age_s and later.frame_id == earlier.frame_id


def sweeps_before(
    newest: Stamped, earlier: Iterable[tuple[Named, Stamped]], sweeps: Sweeps
) -> list[Named]:
    """Tell which sweeps of a recording are brought to one: those that a `SweepMerger` would hold.

    Args:
        newest: the one.
        earlier: those before it, the newest first: what each is called, and when and where it was
            measured. No more of them are asked for than are needed.
        sweeps: how many are brought together, and how old they may be.

    Returns:
        Of at most `sweeps.count - 1` what they are called, the newest first.

    """
    found: list[Named] = []
    last = newest
    for name, one in islice(earlier, sweeps.count - 1):
        if age_s(newest, one) > sweeps.max_age_s or not follows(last, one, sweeps):
            break
        found.append(name)
        last = one
    return found


def age_s(newest: Stamped, sweep: Stamped) -> float:
    """Return how old a sweep is when the newest comes, in seconds."""
    return apart_s(newest.stamp_ns, sweep.stamp_ns)


def merge_sweeps(
    cloud: PointCloud,
    past: Sequence[PointCloud],
    transforms: Transforms,
    sweeps: Sweeps,
    fixed_frame: str = FIXED_FRAME,
) -> Merged:
    """Bring earlier sweeps to a cloud.

    Args:
        cloud: the newest sweep; float32 [n, 3 or more].
        past: the `sweeps.count - 1` before it, or as many as there are, the newest first; each
            `follows` the one before it.
        transforms: where the clouds' frame was in the fixed frame, at the clouds' stamps.
        sweeps: how many are brought together, and how old they may be. A single one is returned
            as it is.
        fixed_frame: a frame that stands still while the vehicle moves, such as `odom` or `map`.

    Returns:
        The cloud with float32 [m, 5]: x, y, z, intensity, and the sweep's age in seconds. A sweep
        for which a transform is not known is left out, which a warning says.

    """
    if not sweeps.several:
        return Merged(cloud, 1)
    kept = [_without_vehicle(one, sweeps) for one in past]
    return _merge(cloud, kept, transforms, sweeps, fixed_frame)


class SweepMerger:
    """Holds the last sweeps. Not thread-safe.

    A sweep for which no transform is known yet is served alone, at once: it is brought in later,
    when its transform has come. What does not follow the last sweep begins anew; see `follows`.
    """

    def __init__(
        self, sweeps: Sweeps, transforms: Transforms, fixed_frame: str = FIXED_FRAME
    ) -> None:
        """Prepare.

        Args:
            sweeps: which sweeps are brought together.
            transforms: is kept up to date by somebody else.
            fixed_frame: see `merge_sweeps`.

        """
        self._sweeps, self._transforms, self._fixed_frame = sweeps, transforms, fixed_frame
        self._past: deque[PointCloud] = deque(maxlen=max(0, sweeps.count - 1))

    def clear(self) -> None:
        """Forget all sweeps."""
        self._past.clear()

    def merge(self, cloud: PointCloud) -> Merged:
        """Bring the last sweeps to a new one, which is remembered for the next.

        Args:
            cloud: any; one that does not follow the last begins anew.

        """
        if self._past and not follows(cloud, self._past[0], self._sweeps):
            self.clear()
        if not self._sweeps.several:
            return Merged(cloud, 1)
        merged = _merge(cloud, self._past, self._transforms, self._sweeps, self._fixed_frame)
        self._past.appendleft(_without_vehicle(cloud, self._sweeps))
        return merged


def _merge(
    cloud: PointCloud,
    past: Iterable[PointCloud],
    transforms: Transforms,
    sweeps: Sweeps,
    fixed_frame: str,
) -> Merged:
    """Do what `merge_sweeps` does with sweeps that have lost the vehicle's own points."""
    young = [one for one in past if age_s(cloud, one) <= sweeps.max_age_s]
    motions = motions_to(
        cloud.stamp_ns,
        [one.stamp_ns for one in young],
        transforms,
        cloud.frame_id,
        fixed_frame,
    )
    moved = [(one, way) for one, way in zip(young, motions) if isinstance(way, Transform)]
    missing = next((way for way in motions if isinstance(way, NoTransformError)), None)
    count = 1 + len(moved)
    warning = None
    if missing is not None:
        way = f"from {fixed_frame!r} to {cloud.frame_id!r}"
        served = f"{count} of {len(young) + 1} sweeps are served"
        warning = f"no ego motion {way}: {missing}; {served}"
    return Merged(replace(cloud, points=_joined(cloud, moved)), count, warning)


def _joined(cloud: PointCloud, moved: Sequence[tuple[PointCloud, Transform]]) -> Points:
    """Return the points of a cloud and of earlier ones where they are now, with their ages."""
    total = len(cloud) + sum(len(one) for one, _ in moved)
    points = np.zeros((total, TIME_COLUMN + 1), np.float32)
    _put(points[: len(cloud)], cloud.points)
    begin = len(cloud)
    for one, motion in moved:
        part = points[begin : begin + len(one)]
        _put(part, one.points)
        part[:, TIME_COLUMN] = age_s(cloud, one)
        motion.move(part)
        begin += len(one)
    return points


def _without_vehicle(cloud: PointCloud, sweeps: Sweeps) -> PointCloud:
    return replace(cloud, points=outside(cloud.points, sweeps.ego_box))


def _put(points: Points, measured: Points) -> None:
    """Write x, y, z and intensity, as far as they were measured."""
    columns = min(TIME_COLUMN, measured.shape[1])
    points[:, :columns] = measured[:, :columns]
