# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What every source of recorded frames offers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from av_compress.tasks.scope import Scope


@runtime_checkable
class FrameSource(Protocol):
    """Recorded frames by index, in their recorded order; in memory is what one is made of at most.

    What a frame is depends on the source, as what a task takes does on the task; configuration
    brings the two together.

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

    def read(self, index: int) -> Any:
        """Read and decode frame `index`: an `ImageFrame` or a `PointCloud`.

        Raises:
            FrameError: this frame cannot be decoded.
            DataError: the source can no longer be read.

        """
        ...

    def close(self) -> None:
        """Release files; calling it again does nothing."""
        ...


class RecordedSource(FrameSource, Protocol):
    """A frame source that knows when its frames were recorded, and on which topic.

    Attributes:
        topic: of the frames; of those of several topics that belong together, the leading one.

    """

    topic: str

    def time_ns(self, index: int) -> int:
        """Return when frame `index`, which was read before, was recorded (bag time)."""
        ...


def check_index(source: FrameSource, index: int) -> None:
    """Refuse an index that a source does not have.

    Raises:
        IndexError: it is negative, or behind the last frame.

    """
    if not 0 <= index < len(source):
        raise IndexError(f"{source.description} has {len(source)} frames, not {index}")


@runtime_checkable
class LabelledSource(FrameSource, Protocol):
    """A frame source that also knows the truth.

    Attributes:
        class_names: label index -> name.

    """

    class_names: Sequence[str]

    def labels(self, index: int) -> Any:
        """Return the labels of frame `index`: `Labels2D` of an image, `Labels3D` of a cloud.

        Raises:
            DataError: they cannot be read.

        """
        ...


@runtime_checkable
class GradedSource(LabelledSource, Protocol):
    """A labelled source of clouds whose objects are graded by what a camera sees of them."""

    def heights(self, index: int, boxes: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """Return how high boxes [n, 7] of cloud `index` stand in the image, in pixels [n].

        Raises:
            DataError: the calibration or the image cannot be read.

        """
        ...


@runtime_checkable
class ScopedSource(LabelledSource, Protocol):
    """A labelled source of clouds whose objects count within a range, as in nuScenes."""

    def scope(self, index: int) -> Scope:
        """Return from where ranges are measured in cloud `index`, and what does not count."""
        ...
