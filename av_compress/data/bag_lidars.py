# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Point clouds of several LiDARs of a bag, merged as the node does it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from av_compress.data.bag_clouds import CloudStep, StampedClouds
from av_compress.data.bag_motion import BagMotion, CloudHeader
from av_compress.data.keys import Naming, in_recipe
from av_compress.data.merging import MergeOptions, ego_motion, merge_clouds
from av_compress.data.motion_messages import ODOMETRY
from av_compress.data.pairing import closest_s, pair_stamps
from av_compress.data.transforms import NoTransformError
from av_compress.errors import DataError, FrameError
from av_compress.tasks.base import PointCloud


class BagLidars(CloudStep):
    """The clouds of several LiDARs as one: each of the first one's, with those that go with it.

    Which go together is settled by their stamps when it is made; see `pairing.pair_stamps`. Key,
    topic and number are the first LiDAR's. A cloud without a partner is left out, unless it is
    the first LiDAR's.
    """

    def __init__(
        self,
        lidars: Sequence[StampedClouds],
        options: MergeOptions,
        motion: BagMotion,
        named: Naming = in_recipe,
    ) -> None:
        """Find what goes together.

        DataWarnings say how many LiDARs are missing in how many clouds, and in how many the
        vehicle is taken to have stood still.

        Args:
            lidars: of one bag, at least two; the first leads.
            options: how clouds become one.
            motion: what the bag tells of the LiDARs' places and the vehicle's motion.
            named: what errors and warnings call the keys of a source.

        Raises:
            DataError: the place of a LiDAR is not known, or none of its clouds goes with one of
                the first LiDAR's.

        """
        super().__init__(lidars[0])
        self._lidars, self._options, self._motion = tuple(lidars), options, motion
        self._named = named
        names = ", ".join(one.topic for one in lidars[1:])
        self.description += f", merged with {names} in {options.frame}"
        # Of each LiDAR, the clouds that have no place, and why.
        self._lost = [self._without_place(one) for one in lidars]
        headers = [[one.header(index) for index in range(len(one))] for one in lidars]
        self._groups = _groups(headers, options.max_apart_s)
        # Of each of the leading LiDAR's clouds; one that is damaged goes with no other.
        self._stretches = [0 if one is None else one.stretch for one in headers[0]]
        self._check_pairs([[one.stamp_ns if one else None for one in each] for each in headers])
        self._tell_missing()
        self._tell_standing()
        self._told: set[str] = set()

    def header(self, index: int) -> CloudHeader | None:
        """Return the newest stamp of those that go together; see `CloudSource.header`."""
        stamps = self._placed_stamps(index)
        if not stamps:
            return None
        return CloudHeader(max(stamps), self._options.frame, self._stretches[index])

    def read(self, index: int) -> PointCloud:
        """Read and merge the clouds that go together; see `FrameSource.read`.

        One that cannot be decoded is left out, as the node does; the first of each LiDAR is told
        by a DataWarning.
        """
        self._check(index)
        clouds: dict[str, PointCloud] = {}
        damaged: dict[str, FrameError] = {}
        for number, one in self._members(index):
            lidar = self._lidars[number]
            try:
                clouds[lidar.topic] = lidar.read(one)
            except FrameError as error:
                damaged[lidar.topic] = error
        if not clouds:
            raise next(iter(damaged.values()))
        transforms = self._motion.stretches[self._stretches[index]]
        merged = merge_clouds(clouds, self._options, transforms)
        if merged.cloud is None:
            raise FrameError(f"{self.key(index)}: {'; '.join(map(str, merged.refused.values()))}")
        self._tell_damaged(damaged)
        return replace(merged.cloud, key=self.key(index))

    def time_ns(self, index: int) -> int:
        """Return when the last of those that go together was recorded (bag time)."""
        return max(self._lidars[number].time_ns(one) for number, one in self._members(index))

    def close(self) -> None:
        """Close the bag."""
        for lidar in self._lidars:
            lidar.close()

    def _members(self, index: int) -> Iterator[tuple[int, int]]:
        """Yield what goes together: the LiDAR's number, and its cloud's."""
        for number, one in enumerate(self._groups[index]):
            if one is not None:
                yield number, one

    def _whole(self, index: int) -> list[tuple[CloudHeader, bool]]:
        """Return headers of what goes together and can be decoded, and whether it has a place."""
        return [
            (header, one not in self._lost[number])
            for number, one in self._members(index)
            if (header := self._lidars[number].header(one)) is not None
        ]

    def _placed_stamps(self, index: int) -> list[int]:
        """Return the stamps of what goes together and has a place."""
        return [header.stamp_ns for header, placed in self._whole(index) if placed]

    def _without_place(self, lidar: StampedClouds) -> dict[int, str]:
        """Return which clouds have no place, and why.

        Raises:
            DataError: none has one.

        """
        found: dict[int, str] = {}
        frame, known = self._options.frame, 0
        for index in range(len(lidar)):
            header = lidar.header(index)
            if header is None:
                continue
            try:
                transforms = self._motion.transforms(header)
                transforms.lookup(frame, header.frame_id, header.stamp_ns)
            except NoTransformError as error:
                found[index] = str(error)
            else:
                known += 1
        if found and not known:
            first = min(found)
            header = lidar.header(first)
            assert header is not None
            raise DataError(
                f"{self.description}: the place of {lidar.topic} ({header.frame_id!r}) in "
                f"{frame!r} ({self._named('frame')}) is not known: {found[first]}; record "
                "/tf_static beside the clouds, and /tf where a LiDAR moves on the vehicle"
            )
        return found

    def _check_pairs(self, stamps: Sequence[Sequence[int | None]]) -> None:
        """Refuse a LiDAR of which no cloud goes with one of the first LiDAR's.

        Raises:
            DataError: see above.

        """
        for number, lidar in enumerate(self._lidars[1:], 1):
            if any(group[number] is not None for group in self._groups):
                continue
            nearest = closest_s(stamps[0], stamps[number])
            hint = "" if nearest is None else f": the closest two are {nearest:.3f} s apart"
            raise DataError(
                f"{self.description}: none of the {len(lidar)} clouds of {lidar.topic} goes with "
                f"one of {self.topic} within {self._options.max_apart_s:g} s "
                f"({self._named('max_apart_s')}){hint}; are the LiDARs' clocks synchronised?"
            )

    def _tell_missing(self) -> None:
        """Tell how many clouds hold how many LiDARs, where some are missing."""
        every = len(self._lidars)
        held = Counter(
            sum(placed for _, placed in self._whole(index)) for index in range(len(self))
        )
        reasons = []
        for number, lidar in enumerate(self._lidars):
            if lost := self._lost[number]:
                first = next(iter(lost.values()))
                reasons.append(
                    f"{len(lost)} of {lidar.topic} have no place, the first since {first}"
                )
            used = sum(group[number] is not None for group in self._groups)
            if left := len(lidar) - used:
                reasons.append(f"{left} of {lidar.topic} go with none of {self.topic}")
        if reasons or set(held) != {every}:
            shares = [f"{held[count]} hold {count}" for count in sorted(held, reverse=True)]
            self._warn(
                f"of {len(self)} clouds {', '.join(shares)} of {every} LiDARs"
                + "".join(f"; {reason}" for reason in reasons)
            )

    def _tell_standing(self) -> None:
        """Tell in how many clouds the vehicle is taken to have stood still."""
        reasons = [
            str(missing)
            for index in range(len(self))
            if (missing := self._motion_missing(index)) is not None
        ]
        if reasons:
            fixed_frame = self._named("fixed_frame")
            self._warn(
                f"{len(reasons)} of {len(self)} clouds are merged as if the vehicle had stood "
                f"still between the LiDARs' stamps: no ego motion from "
                f"{self._options.fixed_frame!r} ({fixed_frame}) to {self._options.frame!r}: "
                f"{reasons[0]}; record /tf beside the clouds, or a topic of type {ODOMETRY} and "
                f"name it ({self._named('odometry')}); an empty {fixed_frame} says that "
                "the motion is not known"
            )

    def _motion_missing(self, index: int) -> NoTransformError | None:
        """Return why the motion between what goes together is not known; None: it is."""
        stamps = self._placed_stamps(index)
        transforms = self._motion.stretches[self._stretches[index]]
        for stamp_ns in stamps:
            _, missing = ego_motion(stamp_ns, max(stamps), self._options, transforms)
            if missing is not None:
                return missing
        return None

    def _tell_damaged(self, damaged: Mapping[str, FrameError]) -> None:
        """Tell of the first damaged cloud of each LiDAR."""
        for topic, reason in damaged.items():
            if topic in self._told:
                continue
            self._told.add(topic)
            self._warn(
                f"a cloud of {topic} is left out, as are all others of it that cannot be decoded: "
                f"{reason}"
            )


def _groups(
    headers: Sequence[Sequence[CloudHeader | None]], max_apart_s: float
) -> list[tuple[int | None, ...]]:
    """Return what goes together, stretch by stretch: each LiDAR's cloud, the leading one's first.

    Args:
        headers: of the clouds of each LiDAR; the first leads.
        max_apart_s: see `pairing.pair_stamps`.

    """
    found: list[tuple[int | None, ...]] = [
        (index, *[None] * (len(headers) - 1)) for index in range(len(headers[0]))
    ]
    # Stretch -> of each LiDAR, number and stamp of the clouds in it.
    parts: dict[int, list[list[tuple[int, int]]]] = {}
    for number, each in enumerate(headers):
        for index, header in enumerate(each):
            if header is not None:
                part = parts.setdefault(header.stretch, [[] for _ in headers])
                part[number].append((index, header.stamp_ns))
    for part in parts.values():
        stamps = [[stamp_ns for _, stamp_ns in each] for each in part]
        for (lead, _), others in zip(part[0], pair_stamps(stamps[0], stamps[1:], max_apart_s)):
            theirs = zip(part[1:], others)
            found[lead] = (lead, *[None if at is None else each[at][0] for each, at in theirs])
    return found
