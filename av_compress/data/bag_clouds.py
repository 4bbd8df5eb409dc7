# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Point clouds of bags as a chain of steps, each of which makes clouds of the last one's."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Protocol

from av_compress.data.bag_motion import CloudHeader
from av_compress.data.bags import BagClouds
from av_compress.data.base import RecordedSource, check_index
from av_compress.errors import DataWarning, FrameError
from av_compress.tasks.base import PointCloud


class CloudSource(RecordedSource, Protocol):
    """Clouds of a bag of which it is known, before they are read, when and where they are."""

    def read(self, index: int) -> PointCloud:
        """See `FrameSource.read`."""
        ...

    def header(self, index: int) -> CloudHeader | None:
        """Return when and where cloud `index` was measured; None where it cannot be decoded.

        That it cannot may show only when it is read.
        """
        ...


class StampedClouds:
    """The clouds of one topic, with their headers; the first step."""

    def __init__(self, clouds: BagClouds, headers: Sequence[CloudHeader | None]) -> None:
        """Take an open source and what is known of its clouds; see `bag_motion.read_motion`."""
        self.topic, self.description = clouds.topic, clouds.description
        self._clouds, self._headers = clouds, list(headers)

    def __len__(self) -> int:
        """Count the clouds."""
        return len(self._clouds)

    def key(self, index: int) -> str:
        """Name cloud `index` by topic and number."""
        return self._clouds.key(index)

    def header(self, index: int) -> CloudHeader | None:
        """See `CloudSource.header`."""
        return self._headers[index]

    def read(self, index: int) -> PointCloud:
        """Read and decode cloud `index`; see `FrameSource.read`."""
        try:
            return self._clouds.read(index)
        except FrameError:
            self._headers[index] = None
            raise

    def time_ns(self, index: int) -> int:
        """Return when cloud `index`, which was read before, was recorded (bag time)."""
        return self._clouds.time_ns(index)

    def close(self) -> None:
        """Close the bag."""
        self._clouds.close()


class CloudStep:
    """The part of a step that leaves all but the clouds as it is: one for each that comes in."""

    def __init__(self, source: CloudSource) -> None:
        """Take the step before."""
        self._source = source
        self.topic, self.description = source.topic, source.description

    def __len__(self) -> int:
        """Count the clouds."""
        return len(self._source)

    def key(self, index: int) -> str:
        """Name cloud `index` as the step before does."""
        return self._source.key(index)

    def header(self, index: int) -> CloudHeader | None:
        """See `CloudSource.header`."""
        return self._source.header(index)

    def time_ns(self, index: int) -> int:
        """Return when cloud `index`, which was read before, was recorded (bag time)."""
        return self._source.time_ns(index)

    def close(self) -> None:
        """Close the bag."""
        self._source.close()

    def _check(self, index: int) -> None:
        check_index(self._source, index)

    def _warn(self, text: str) -> None:
        warnings.warn(f"{self.description}: {text}", DataWarning, stacklevel=4)
