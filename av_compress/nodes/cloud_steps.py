# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What becomes of clouds between a message and the model: one after the other."""

from __future__ import annotations

from dataclasses import replace

from av_compress.data.ego_motion import apart_s
from av_compress.data.merging import MergeOptions, merge_clouds
from av_compress.data.sweeps import SweepMerger
from av_compress.data.transforms import Transforms
from av_compress.errors import FrameError
from av_compress.nodes.roles import Gathered, Gathering

# A cloud that is older than the last by more tells of a clock that was set back.
_LATE_S = 1.0


class LidarMerging:
    """Makes one cloud of what several LiDARs saw. Not thread-safe.

    Its stamps ascend: a cloud that comes so late that the others were served without it is
    refused.
    """

    def __init__(self, options: MergeOptions, transforms: Transforms) -> None:
        """Prepare.

        Args:
            options: how clouds become one.
            transforms: is kept up to date by somebody else.

        """
        self._options, self._transforms = options, transforms
        self._last_ns: int | None = None

    def forget(self) -> None:
        """Forget what was served last."""
        self._last_ns = None

    def gather(self, gathering: Gathering) -> Gathering:
        """Merge the clouds of all slots."""
        clouds = {slot: one.frame for one in gathering.frames for slot in one.slots}
        if not clouds:
            return gathering
        merged = merge_clouds(clouds, self._options, self._transforms)
        refused = {**gathering.refused, **merged.refused}
        if merged.cloud is None:
            return Gathering([], refused)
        if (late := self._late(merged.cloud.stamp_ns)) is not None:
            return Gathering([], {**refused, **dict.fromkeys(merged.names, late)})
        self._last_ns = merged.cloud.stamp_ns
        notes = {} if merged.warning is None else {"lidars": merged.warning}
        return Gathering([Gathered(merged.names, merged.cloud, notes)], refused)

    def _late(self, stamp_ns: int) -> FrameError | None:
        if self._last_ns is None:
            return None
        late_s = apart_s(self._last_ns, stamp_ns)
        if not 0 <= late_s <= _LATE_S:
            return None
        return FrameError(
            f"its cloud came after others had been served that are {late_s:.3f} s newer; wait "
            "longer for it: merge.arrival_window_ms"
        )


class SweepMerging:
    """Brings the last sweeps to each cloud. Not thread-safe."""

    def __init__(self, merger: SweepMerger) -> None:
        """Prepare.

        Args:
            merger: holds them.

        """
        self._merger = merger

    def forget(self) -> None:
        """Forget all sweeps."""
        self._merger.clear()

    def gather(self, gathering: Gathering) -> Gathering:
        """Bring them to the cloud of each."""
        return replace(gathering, frames=[self._dense(one) for one in gathering.frames])

    def _dense(self, one: Gathered) -> Gathered:
        merged = self._merger.merge(one.frame)
        notes = {} if merged.warning is None else {"sweeps": merged.warning}
        return Gathered(one.slots, merged.cloud, {**one.notes, **notes})
