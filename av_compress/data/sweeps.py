# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Densification: the last sweeps of a LiDAR, brought to the newest by the vehicle's motion."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

import numpy as np

from av_compress.data.transforms import NS_PER_S, NoTransformError, Transforms
from av_compress.tasks.base import PointCloud
from av_compress.tensors import Array

# x, y, z, intensity, and then the time.
_TIME = 4


@dataclass(frozen=True)
class SweepOptions:
    """Which sweeps are brought together.

    Attributes:
        count: sweeps in all, at least 1; 1 needs no transforms.
        fixed_frame: a frame that stands still while the vehicle moves, such as `odom` or `map`.
        max_age_s: an older sweep is left out.

    """

    count: int = 1
    fixed_frame: str = "odom"
    max_age_s: float = 1.0


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


class SweepMerger:
    """Holds the last sweeps. Not thread-safe.

    A sweep for which no transform is known yet is served alone, at once: it is brought in later,
    when its transform has come. A jump of the clock, back or by more than the largest age, or
    another frame begins anew.
    """

    def __init__(self, options: SweepOptions, transforms: Transforms) -> None:
        """Prepare.

        Args:
            options: which sweeps are brought together.
            transforms: is kept up to date by somebody else.

        """
        self._options = options
        self._transforms = transforms
        self._past: deque[PointCloud] = deque(maxlen=max(0, options.count - 1))

    def clear(self) -> None:
        """Forget all sweeps."""
        self._past.clear()

    def merge(self, cloud: PointCloud) -> Merged:
        """Bring the last sweeps to a new one, which is remembered for the next.

        Args:
            cloud: newer than the last, of the same frame.

        """
        if self._options.count == 1:
            return Merged(cloud, 1)
        self._forget(cloud)
        newest = _timed(cloud, 0.0)
        brought, missing = self._brought(cloud)
        parts, there = [newest.points, *brought], len(self._past) + 1
        self._past.appendleft(cloud)
        warning = None
        if missing is not None:
            way = f"from {self._options.fixed_frame!r} to {cloud.frame_id!r}"
            warning = f"no ego motion {way}: {missing}; {len(parts)} of {there} sweeps are served"
        return Merged(replace(newest, points=np.concatenate(parts)), len(parts), warning)

    def _forget(self, cloud: PointCloud) -> None:
        if not self._past:
            return
        last = self._past[0]
        apart_s = (cloud.stamp_ns - last.stamp_ns) / NS_PER_S
        if apart_s <= 0 or apart_s > self._options.max_age_s or cloud.frame_id != last.frame_id:
            self.clear()

    def _brought(self, cloud: PointCloud) -> tuple[list[Array], NoTransformError | None]:
        """Return the past sweeps in the new one's place, and why some are missing."""
        past = [(one, (cloud.stamp_ns - one.stamp_ns) / NS_PER_S) for one in self._past]
        past = [(one, age_s) for one, age_s in past if age_s <= self._options.max_age_s]
        if not past:
            return [], None
        fixed, frame = self._options.fixed_frame, cloud.frame_id
        brought: list[Array] = []
        missing: NoTransformError | None = None
        try:
            back = self._transforms.lookup(frame, fixed, cloud.stamp_ns)
        except NoTransformError as error:
            return [], error
        for one, age_s in past:
            try:
                motion = back @ self._transforms.lookup(fixed, frame, one.stamp_ns)
            except NoTransformError as error:
                missing = missing or error
                continue
            points = _timed(one, age_s).points
            motion.move(points)
            brought.append(points)
        return brought, missing


def _timed(cloud: PointCloud, age_s: float) -> PointCloud:
    """Return a cloud whose fifth column is its sweep's age in seconds."""
    points = np.zeros((len(cloud), _TIME + 1), np.float32)
    columns = min(_TIME, cloud.points.shape[1])
    points[:, :columns] = cloud.points[:, :columns]
    points[:, _TIME] = age_s
    return replace(cloud, points=points)
