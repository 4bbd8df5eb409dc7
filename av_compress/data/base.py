# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What every source of recorded frames offers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from av_compress.tasks.base import ImageFrame, Labels2D


@runtime_checkable
class FrameSource(Protocol):
    """Recorded frames by index, in their recorded order; holds at most one frame in memory.

    Attributes:
        description: what and where, for messages and manifests (no absolute paths).

    """

    description: str

    def __len__(self) -> int:
        """Count the frames."""
        ...

    def key(self, index: int) -> str:
        """Name frame `index`, unique within the source, without reading it."""
        ...

    def read(self, index: int) -> ImageFrame:
        """Read and decode frame `index`.

        Raises:
            FrameError: this frame cannot be decoded.
            DataError: the source can no longer be read.

        """
        ...

    def close(self) -> None:
        """Release files; calling it again does nothing."""
        ...


@runtime_checkable
class LabelledSource(FrameSource, Protocol):
    """A frame source that also knows the truth.

    Attributes:
        class_names: label index -> name.

    """

    class_names: Sequence[str]

    def labels(self, index: int) -> Labels2D:
        """Return the labels of frame `index`."""
        ...
