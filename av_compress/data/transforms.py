# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Where frames were when: rigid transforms over time, as tf and odometry tell them."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from av_compress.errors import DataError, FrameError

Doubles = npt.NDArray[np.float64]

NS_PER_S = 1_000_000_000
# As in tf2: how long a transform is remembered. What lies farther apart than that has nothing to
# do with one another, however long the memory is: nothing is made up between the two.
MEMORY_S = 10.0
_APART_NS = 10 * NS_PER_S
# Messages may overtake each other by as much; what goes back farther is another time.
DISORDER_S = 0.1
_DISORDER_NS = round(DISORDER_S * NS_PER_S)
# How far a motion is continued beyond the last that is known of it: tf often comes some tens of
# milliseconds later than the cloud it is needed for, and always so.
AHEAD_S = 0.1
_AHEAD_NS = round(AHEAD_S * NS_PER_S)
# The velocity is taken over at least as long, so that jitter and noise of neighbours that lie
# close together are not multiplied.
_VELOCITY_NS = NS_PER_S // 20
# Below this sine of the angle between two rotations, a straight line is as good as an arc.
_NEARLY_EQUAL = 1e-6


class NoTransformError(FrameError):
    """Two frames are not connected at a time; the message says which part is missing."""


@dataclass(frozen=True)
class Transform:
    """A rigid transform: p in the target = rotation * p in the source + translation.

    Attributes:
        rotation: unit quaternion x, y, z, w, float64 [4].
        translation: float64 [3], metres.

    """

    rotation: Doubles
    translation: Doubles

    @staticmethod
    def of(translation: Sequence[float], rotation: Sequence[float]) -> Transform:
        """Make one of three metres and a quaternion x, y, z, w of any length.

        Raises:
            DataError: a value is not finite, or the quaternion is zero.

        """
        quaternion, offset = np.array(rotation, np.float64), np.array(translation, np.float64)
        length = np.linalg.norm(quaternion)
        if not (np.isfinite(quaternion).all() and np.isfinite(offset).all() and length > 0):
            raise DataError(f"a transform by {list(translation)} and {list(rotation)} is none")
        return Transform(quaternion / length, offset)

    @staticmethod
    def identity() -> Transform:
        """Return the transform that changes nothing."""
        return Transform.of((0, 0, 0), (0, 0, 0, 1))

    @property
    def matrix(self) -> Doubles:
        """The rotation as float64 [3, 3]."""
        x, y, z, w = self.rotation
        return np.array(
            [
                [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
                [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
                [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
            ]
        )

    def __matmul__(self, other: Transform) -> Transform:
        """Return this transform after `other`."""
        a, b = self.rotation, other.rotation
        vector = a[3] * b[:3] + b[3] * a[:3] + np.cross(a[:3], b[:3])
        rotation = np.array([*vector, a[3] * b[3] - a[:3] @ b[:3]])
        return Transform(
            rotation / np.linalg.norm(rotation),
            self.matrix @ other.translation + self.translation,
        )

    def inverse(self) -> Transform:
        """Return the transform the other way round."""
        rotation = self.rotation * np.array([-1.0, -1.0, -1.0, 1.0])
        turned = Transform(rotation, np.zeros(3))
        return Transform(rotation, -(turned.matrix @ self.translation))

    def move(self, points: npt.NDArray[np.float32]) -> None:
        """Move points in place: float32 [n, 3 or more], x y z first.

        Column by column: many times faster than a product of matrices whose rows lie apart, and
        with the same bits on every machine.
        """
        matrix, offset = self.matrix.astype(np.float32), self.translation.astype(np.float32)
        # Always a copy: of a single point, the columns would be a view of what is written below.
        x, y, z = np.array(points[:, :3].T, order="C")
        # Points that are not finite lie nowhere, before and after.
        with np.errstate(invalid="ignore", over="ignore"):
            for axis in range(3):
                moved = x * matrix[axis, 0] + y * matrix[axis, 1] + z * matrix[axis, 2]
                points[:, axis] = moved + offset[axis]

    def towards(self, other: Transform, share: float) -> Transform:
        """Return what lies between: 0 is this one, 1 the other (slerp, Shoemake 1985).

        A share over 1 goes on beyond the other, at the same velocity.
        """
        ours, theirs = self.rotation, other.rotation
        cosine = float(ours @ theirs)
        if cosine < 0:
            # Both signs are the same rotation; this one is the shorter way.
            theirs, cosine = -theirs, -cosine
        angle = float(np.arccos(min(cosine, 1.0)))
        if np.sin(angle) < _NEARLY_EQUAL:
            rotation = ours + share * (theirs - ours)
        else:
            rotation = np.sin((1 - share) * angle) * ours + np.sin(share * angle) * theirs
        translation = self.translation + share * (other.translation - self.translation)
        return Transform(rotation / np.linalg.norm(rotation), translation)


def goes_back_s(last_ns: int, stamp_ns: int) -> float:
    """Return by how much time goes back from one stamp to the next, in seconds.

    Returns:
        0 where it does not, or by no more than messages overtake each other (`DISORDER_S`).

    """
    back_ns = last_ns - stamp_ns
    return back_ns / NS_PER_S if back_ns > _DISORDER_NS else 0.0


@dataclass
class _Link:
    """A frame's place in its parent over time; without times where it never changes."""

    parent: str
    memory_s: float
    static: Transform | None = None
    stamps: list[int] = field(default_factory=list)
    transforms: list[Transform] = field(default_factory=list)

    def add(self, stamp_ns: int, transform: Transform) -> None:
        place = bisect_left(self.stamps, stamp_ns)
        if place < len(self.stamps) and self.stamps[place] == stamp_ns:
            self.transforms[place] = transform
            return
        self.stamps.insert(place, stamp_ns)
        self.transforms.insert(place, transform)
        while (self.stamps[-1] - self.stamps[0]) / NS_PER_S > self.memory_s:
            self.stamps.pop(0)
            self.transforms.pop(0)

    def at(self, child: str, stamp_ns: int) -> Transform:
        if self.static is not None:
            return self.static
        name = f"{self.parent} <- {child}"
        if stamp_ns > self.stamps[-1]:
            return self._beyond(name, stamp_ns)
        if stamp_ns < self.stamps[0]:
            early = (self.stamps[0] - stamp_ns) / NS_PER_S
            raise NoTransformError(f"{name} is known from {early:.3f} s after that time on only")
        place = bisect_left(self.stamps, stamp_ns)
        if self.stamps[place] == stamp_ns:
            return self.transforms[place]
        before, after = self.stamps[place - 1], self.stamps[place]
        if after - before > _APART_NS:
            gap = (after - before) / NS_PER_S
            raise NoTransformError(f"{name} is not known for {gap:.3f} s around that time")
        share = (stamp_ns - before) / (after - before)
        return self.transforms[place - 1].towards(self.transforms[place], share)

    def _beyond(self, name: str, stamp_ns: int) -> Transform:
        """Continue the motion after the last that is known; see `Transforms.lookup`."""
        last = self.stamps[-1]
        # The newest that lies far enough before the last, or else the oldest.
        place = max(bisect_right(self.stamps, last - _VELOCITY_NS) - 1, 0)
        known_ns, ahead_ns = last - self.stamps[place], stamp_ns - last
        if not 0 < known_ns <= _APART_NS or ahead_ns > _AHEAD_NS:
            late = ahead_ns / NS_PER_S
            raise NoTransformError(f"{name} is known until {late:.3f} s before that time only")
        return self.transforms[place].towards(self.transforms[-1], 1 + ahead_ns / known_ns)


class Transforms:
    """The tree of frames over the last seconds, as tf2 keeps it.

    In two things it differs. A frame whose stamps go back by more than `DISORDER_S` begins anew:
    what came before belongs to another time, as where a clock is set or a bag starts again; tf2
    mixes the two. And a motion is continued for `AHEAD_S` beyond the last that is known of it;
    tf2 refuses.
    """

    def __init__(self, memory_s: float = MEMORY_S) -> None:
        """Start without frames.

        Args:
            memory_s: how long transforms are remembered behind the newest, in seconds; infinite
                where all are at hand before the first is looked up, as of a bag.

        """
        self._memory_s = memory_s
        self._links: dict[str, _Link] = {}

    def add(self, parent: str, child: str, stamp_ns: int, transform: Transform) -> None:
        """Remember where `child` was in `parent`; a new parent makes the old one's places void."""
        link = self._links.get(child)
        if link is None or link.parent != parent or link.static is not None:
            link = self._links[child] = _Link(parent, self._memory_s)
        if self.goes_back_s(child, stamp_ns) > 0:
            link = self._links[child] = _Link(parent, self._memory_s)
        link.add(stamp_ns, transform)

    def goes_back_s(self, child: str, stamp_ns: int) -> float:
        """Return by how much a frame's time would go back with a stamp, in seconds.

        Returns:
            0 where it does not, or by no more than messages overtake each other.

        """
        link = self._links.get(child)
        if link is None or not link.stamps:
            return 0.0
        return goes_back_s(link.stamps[-1], stamp_ns)

    def add_static(self, parent: str, child: str, transform: Transform) -> None:
        """Remember where `child` always is in `parent`."""
        self._links[child] = _Link(parent, self._memory_s, transform)

    def forget(self, child: str) -> None:
        """Forget where a frame was."""
        self._links.pop(child, None)

    def clear(self) -> None:
        """Forget what changes over time."""
        self._links = self._fixed()

    def without_motion(self) -> Transforms:
        """Return new ones that hold what never changes."""
        made = Transforms(self._memory_s)
        made._links = self._fixed()
        return made

    def lookup(self, target: str, source: str, stamp_ns: int) -> Transform:
        """Return the transform from `source` to `target` at a time.

        Between two transforms of a frame it is interpolated. Up to `AHEAD_S` after the last one
        it is extrapolated at constant velocity, from that and the newest that is 0.05 s older, or
        the oldest there is: with an acceleration a, by which the place is wrong by no more than
        a / 2 * h * (h + b) at h after the last with the other b before it. 20 ms after the last
        in a curve of 6 m/s2 these are 4 mm.

        Raises:
            NoTransformError: the two are not connected, or not known at that time.

        """
        if target == source:
            return Transform.identity()
        ours, theirs = self._way_up(target), self._way_up(source)
        common = next((frame for frame in theirs if frame in ours), None)
        if common is None:
            raise NoTransformError(
                f"no transform connects {source!r} with {target!r}; known are: "
                f"{', '.join(sorted(self._links)) or 'none'}"
            )
        up = self._climb(theirs[: theirs.index(common)], stamp_ns)
        down = self._climb(ours[: ours.index(common)], stamp_ns)
        return down.inverse() @ up

    def _fixed(self) -> dict[str, _Link]:
        return {child: link for child, link in self._links.items() if link.static is not None}

    def _way_up(self, frame: str) -> list[str]:
        """Return a frame and those over it; one that occurs twice ends it."""
        way = [frame]
        while way[-1] in self._links and self._links[way[-1]].parent not in way:
            way.append(self._links[way[-1]].parent)
        return way

    def _climb(self, frames: Sequence[str], stamp_ns: int) -> Transform:
        whole = Transform.identity()
        for frame in frames:
            whole = self._links[frame].at(frame, stamp_ns) @ whole
        return whole
