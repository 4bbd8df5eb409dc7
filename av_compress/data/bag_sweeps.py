# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Point clouds of bags, the last sweeps brought to each as the node does it."""

from __future__ import annotations

import warnings
from pathlib import Path

from av_compress.data.bag_motion import MotionOptions, odometry_topics, read_motion
from av_compress.data.bags import BagClouds
from av_compress.data.motion_messages import ODOMETRY
from av_compress.data.points import PointOptions
from av_compress.data.sweeps import merge_sweeps, sweeps_before
from av_compress.data.transforms import NoTransformError
from av_compress.errors import AvCompressError, DataError, DataWarning, FrameError
from av_compress.tasks.base import PointCloud, Sweeps


class BagSweeps(BagClouds):
    """The point clouds of one topic of a bag, each with the sweeps before it; see `BagFrames`.

    The bag is read through once when it is opened, for the motion and the clouds' stamps. Then
    as many sweeps are in memory as are brought together; reading in ascending order decodes each
    cloud once, and a cloud out of order those before it as well.
    """

    def __init__(
        self,
        path: Path,
        topic: str | None,
        options: PointOptions,
        sweeps: Sweeps,
        motion: MotionOptions | None = None,
    ) -> None:
        """Open a bag.

        Where the motion is not known at the times of some clouds, a DataWarning says of how many,
        and why.

        Args:
            path: see `BagFrames`.
            topic: see `BagFrames`.
            options: which fields of a message become which columns of a single sweep.
            sweeps: which are brought together.
            motion: what tells the vehicle's motion.

        Raises:
            DataError: see `BagFrames`; the odometry is not there; or no two sweeps of the bag can
                be brought together.

        """
        super().__init__(path, topic, options)
        self._sweeps, self._options = sweeps, motion or MotionOptions()
        # Clouds that turned out to be damaged.
        self._damaged: set[int] = set()
        self._held: dict[int, PointCloud] = {}
        try:
            self._motion = read_motion(self._reader, self._store, path, self.topic, self._options)
            self._judge()
            self.description += f", {sweeps.count} sweeps brought together"
        except AvCompressError:
            self.close()
            raise

    def read(self, index: int) -> PointCloud:
        """Read cloud `index` and those before it; see `FrameSource.read`.

        A cloud before it that cannot be decoded is left out, as the node does.
        """
        self._check(index)
        past = self._past(index)
        try:
            cloud = super().read(index)
        except FrameError:
            self._damaged.add(index)
            raise
        self._held[index] = cloud
        transforms, fixed_frame = self._motion.transforms, self._options.fixed_frame
        return merge_sweeps(cloud, past, transforms, self._sweeps, fixed_frame).cloud

    def close(self) -> None:
        """Close the bag."""
        self._held = {}
        super().close()

    def _past(self, index: int) -> list[PointCloud]:
        """Return the sweeps that are brought to one, the newest first; hold no others."""
        while True:
            wanted = self._before(index)
            self._held = {one: self._held[one] for one in wanted if one in self._held}
            if all(self._hold(one) for one in sorted(wanted)):
                return [self._held[one] for one in wanted]

    def _hold(self, index: int) -> bool:
        """Read a cloud unless it is held; tell whether it can be."""
        if index in self._held:
            return True
        try:
            self._held[index] = super().read(index)
        except FrameError:
            self._damaged.add(index)
            return False
        return True

    def _before(self, index: int) -> list[int]:
        """Return which sweeps are brought to one, the newest first: the merger's, by headers."""
        headers = self._motion.headers
        newest = headers[index]
        if newest is None:
            return []
        earlier = (
            (one, header)
            for one in range(index - 1, -1, -1)
            if (header := headers[one]) is not None and one not in self._damaged
        )
        return sweeps_before(newest, earlier, self._sweeps)

    def _judge(self) -> None:
        """Refuse a bag of which nothing can be brought together, and tell where some cannot.

        Raises:
            DataError: see above.

        """
        before = [self._before(index) for index in range(len(self._motion.headers))]
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
        if broken := self._motion.broken:
            self._warn(f"{len(broken)} transforms are left out, the first since {broken[0]}")

    def _missing(self) -> dict[int, str]:
        """Return at which clouds' times the motion is not known, and why."""
        found = {}
        for index, header in enumerate(self._motion.headers):
            if header is None:
                continue
            try:
                self._motion.transforms.lookup(
                    self._options.fixed_frame, header.frame_id, header.stamp_ns
                )
            except NoTransformError as error:
                found[index] = str(error)
        return found

    def _nowhere(self, reason: str) -> str:
        others = [name for name in odometry_topics(self._reader) if name != self._options.odometry]
        hint = f"; the bag has odometry on {', '.join(others)}" * bool(others)
        return (
            f"no sweep can be brought to another, and the model wants {self._sweeps.count} "
            "together (task.input.sweeps.count): no ego motion from "
            f"{self._options.fixed_frame!r} (fixed_frame): {reason}; record /tf and /tf_static "
            f"beside the clouds, or a topic of type {ODOMETRY} and name it (odometry){hint}"
        )

    def _warn(self, text: str) -> None:
        warnings.warn(f"{self.description}: {text}", DataWarning, stacklevel=4)
