# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Point clouds of bags, the last sweeps brought to each as the node does it."""

from __future__ import annotations

from contextlib import suppress
from itertools import takewhile

from av_compress.data.bag_clouds import CloudSource, CloudStep
from av_compress.data.bag_motion import BagMotion, MotionOptions
from av_compress.data.keys import Naming, in_recipe
from av_compress.data.motion_messages import ODOMETRY
from av_compress.data.sweeps import merge_sweeps, sweeps_before
from av_compress.data.transforms import NoTransformError
from av_compress.errors import DataError, FrameError
from av_compress.tasks.base import PointCloud, Sweeps


class BagSweeps(CloudStep):
    """The clouds of a bag, each with the sweeps before it.

    As many sweeps are in memory as are brought together; reading in ascending order decodes each
    cloud once, and a cloud out of order those before it as well.
    """

    def __init__(
        self,
        source: CloudSource,
        sweeps: Sweeps,
        motion: BagMotion,
        options: MotionOptions,
        named: Naming = in_recipe,
    ) -> None:
        """Find out what can be brought together.

        Where the motion is not known at the times of some clouds, a DataWarning says of how many,
        and why.

        Args:
            source: single sweeps, of one LiDAR or of several.
            sweeps: which are brought together.
            motion: what the bag tells of the vehicle's motion.
            options: what it was told by.
            named: what errors call the keys of a source.

        Raises:
            DataError: no two sweeps of the bag can be brought together.

        """
        super().__init__(source)
        self._sweeps, self._motion, self._options = sweeps, motion, options
        self._named = named
        self._held: dict[int, PointCloud] = {}
        self._judge()
        self.description += f", {sweeps.count} sweeps brought together"

    def read(self, index: int) -> PointCloud:
        """Read cloud `index` and those before it; see `FrameSource.read`.

        A cloud before it that cannot be decoded is left out, as the node does.
        """
        self._check(index)
        cloud, *past = self._read(index)
        header, fixed_frame = self.header(index), self._options.fixed_frame
        assert header is not None
        transforms = self._motion.transforms(header)
        return merge_sweeps(cloud, past, transforms, self._sweeps, fixed_frame).cloud

    def close(self) -> None:
        """Close the bag."""
        self._held = {}
        super().close()

    def _read(self, index: int) -> list[PointCloud]:
        """Return a cloud and the sweeps that are brought to it, the newest first; hold no others.

        What turns out to be damaged changes which these are.
        """
        while True:
            wanted = [index, *self._before(index)]
            self._held = {one: self._held[one] for one in wanted if one in self._held}
            for earlier in reversed(wanted[1:]):
                with suppress(FrameError):
                    self._hold(earlier)
            self._hold(index)
            if wanted == [index, *self._before(index)]:
                return [self._held[one] for one in wanted]

    def _hold(self, index: int) -> None:
        if index not in self._held:
            self._held[index] = self._source.read(index)

    def _before(self, index: int) -> list[int]:
        """Return which sweeps are brought to one, the newest first: the merger's, by headers."""
        newest = self.header(index)
        if newest is None:
            return []
        earlier = (
            (one, header)
            for one in range(index - 1, -1, -1)
            if (header := self.header(one)) is not None
        )
        same = takewhile(lambda one: one[1].stretch == newest.stretch, earlier)
        return sweeps_before(newest, same, self._sweeps)

    def _judge(self) -> None:
        """Refuse a bag of which nothing can be brought together, and tell where some cannot.

        Raises:
            DataError: see above.

        """
        before = [self._before(index) for index in range(len(self))]
        followers = [index for index, past in enumerate(before) if past]
        if not followers:
            raise DataError(
                f"{self.description}: none of its {len(self)} clouds follows another within "
                f"{self._sweeps.max_age_s:g} s in the same frame (task.input.sweeps.max_age_s); "
                f"the model wants {self._sweeps.count} sweeps together"
            )
        missing = self._missing()
        alone = [i for i in followers if i in missing or missing.keys() >= set(before[i])]
        fewer = [i for i in followers if i in missing or missing.keys() & set(before[i])]
        if len(alone) == len(followers):
            raise DataError(f"{self.description}: {self._nowhere(missing[min(missing)])}")
        if fewer:
            first = min(missing)
            self._warn(
                f"{len(fewer)} of {len(self)} clouds are brought together with fewer sweeps than "
                f"could be ({len(alone)} with none): no ego motion at the times of {len(missing)} "
                f"of them, the first of which is {self.key(first)}: {missing[first]}"
            )

    def _missing(self) -> dict[int, str]:
        """Return at which clouds' times the motion is not known, and why."""
        found = {}
        for index in range(len(self)):
            header = self.header(index)
            if header is None:
                continue
            try:
                self._motion.transforms(header).lookup(
                    self._options.fixed_frame, header.frame_id, header.stamp_ns
                )
            except NoTransformError as error:
                found[index] = str(error)
        return found

    def _nowhere(self, reason: str) -> str:
        others = [name for name in self._motion.odometry if name != self._options.odometry]
        hint = f"; the bag has odometry on {', '.join(others)}" * bool(others)
        return (
            f"no sweep can be brought to another, and the model wants {self._sweeps.count} "
            "together (task.input.sweeps.count): no ego motion from "
            f"{self._options.fixed_frame!r} ({self._named('fixed_frame')}): {reason}; record /tf "
            f"and /tf_static beside the clouds, or a topic of type {ODOMETRY} and name it "
            f"({self._named('odometry')}){hint}"
        )
