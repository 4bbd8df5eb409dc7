# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Point clouds of a nuScenes folder, the last sweeps brought to each as the node does it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from av_compress.data.nuscenes import NuscenesFolder
from av_compress.data.nuscenes_records import Sweep
from av_compress.data.nuscenes_tables import any_sweep
from av_compress.data.sweeps import merge_sweeps, sweeps_before
from av_compress.data.transforms import Transforms
from av_compress.errors import DataError
from av_compress.tasks.base import PointCloud, Sweeps

# Frames beside the sensor's, which is called by its channel, such as LIDAR_TOP.
_WORLD, _VEHICLE = "the world", "the vehicle"


class NuscenesSweeps(NuscenesFolder):
    """The labelled clouds of a nuScenes folder, each with the sweeps before it.

    Those are key frames and the unlabelled sweeps between them, at the places that the tables
    tell; a scene's first clouds have fewer. Labels are those of the newest sweep.

    All sweeps of a cloud are read with it: at nuScenes' 20 a second, 10 sweeps reach back to where
    those of the key frame before begin.
    """

    def __init__(
        self, root: Path, version: str | None, split: Path | None, channel: str, sweeps: Sweeps
    ) -> None:
        """Read the tables, and list the clouds.

        Args:
            root: see `NuscenesFolder`.
            version: see `NuscenesFolder`.
            split: see `NuscenesFolder`.
            channel: see `NuscenesFolder`.
            sweeps: which are brought together.

        Raises:
            DataError: see `NuscenesFolder`; a sweep that is wanted is missing, or the order of the
                sweeps is broken; or no two can be brought together.

        """
        super().__init__(root, version, split, channel, sweeps=any_sweep)
        self._sweeps = sweeps
        before: dict[str, None] = {}
        for index in range(len(self)):
            before |= dict.fromkeys(one.file for one in self._before(self._sweep(index)))
        if not before:
            raise DataError(
                f"{self.description}: none of its {len(self)} clouds follows another sweep within "
                f"{sweeps.max_age_s:g} s (task.input.sweeps.max_age_s); the model wants "
                f"{sweeps.count} sweeps together"
            )
        why = f"of which the task brings {sweeps.count} together (task.input.sweeps.count)"
        self._check_files(before, f"sweeps, {why},")
        self.description += f", {sweeps.count} sweeps brought together"

    def read(self, index: int) -> PointCloud:
        """Read cloud `index` and the sweeps before it; see `FrameSource.read`."""
        sweep = self._sweep(index)
        past = self._before(sweep)
        transforms = _places([*reversed(past), sweep])
        clouds = [self._cloud(one) for one in past]
        return merge_sweeps(self._cloud(sweep), clouds, transforms, self._sweeps, _WORLD).cloud

    def _before(self, sweep: Sweep) -> list[Sweep]:
        """Return the sweeps that are brought to one, the newest first."""
        earlier = ((one, one) for one in self._tables.sweeps.before(sweep))
        return sweeps_before(sweep, earlier, self._sweeps)


def _places(sweeps: Sequence[Sweep]) -> Transforms:
    """Return where the sensor was when it measured sweeps, the oldest first.

    Vehicle and mounting stay two links, as they are on the vehicle: composed in the same order,
    they give the same bits.
    """
    transforms = Transforms(memory_s=math.inf)
    for one in sweeps:
        transforms.add(_WORLD, _VEHICLE, one.stamp_ns, one.pose)
        transforms.add(_VEHICLE, one.frame_id, one.stamp_ns, one.mounting)
    return transforms
