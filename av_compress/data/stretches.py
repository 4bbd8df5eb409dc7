# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""A recording in stretches, between which time begins anew."""

from __future__ import annotations

import math

from av_compress.data.transforms import Transform, Transforms, goes_back_s


class Stretches:
    """All transforms of a recording, added in recorded order.

    Where the stamps of a frame or of a topic's clouds go back (`transforms.DISORDER_S`), or where
    another source tells of a frame from now on, what was recorded before has nothing to do with
    what follows: a new stretch begins, with transforms of its own. What never changes goes on.
    While the stamps of one topic have gone back and those of another have not yet, stretches are
    short, and hold little that could be brought together: nothing of it is mixed.

    Attributes:
        breaks: why each stretch but the first began.

    """

    def __init__(self) -> None:
        """Begin the first stretch."""
        self._stretches = [Transforms(memory_s=math.inf)]
        self._clouds: dict[str, int] = {}
        self.breaks: list[str] = []

    def __getitem__(self, number: int) -> Transforms:
        """Return the transforms of a stretch."""
        return self._stretches[number]

    def add(self, parent: str, child: str, stamp_ns: int, transform: Transform) -> None:
        """Add a transform to the stretch that is being recorded; see `Transforms.add`."""
        back_s = self._now.goes_back_s(child, stamp_ns)
        if back_s > 0:
            self._begin(f"the stamps of {parent} <- {child} go back by {back_s:.3f} s")
        self._now.add(parent, child, stamp_ns, transform)

    def add_static(self, parent: str, child: str, transform: Transform) -> None:
        """See `Transforms.add_static`; it holds from this stretch on."""
        self._now.add_static(parent, child, transform)

    def forget(self, child: str) -> None:
        """Begin a stretch in which it is not known where a frame was."""
        self._begin(f"another source tells of {child!r}")
        self._now.forget(child)

    def cloud(self, topic: str, stamp_ns: int) -> int:
        """Return the number of the stretch that a cloud belongs to, which was recorded now."""
        back_s = goes_back_s(self._clouds.get(topic, stamp_ns), stamp_ns)
        if back_s > 0:
            self._begin(f"the stamps of {topic} go back by {back_s:.3f} s")
        self._clouds[topic] = max(stamp_ns, self._clouds.get(topic, stamp_ns))
        return len(self._stretches) - 1

    @property
    def _now(self) -> Transforms:
        return self._stretches[-1]

    def _begin(self, reason: str) -> None:
        self._stretches.append(self._now.without_motion())
        self._clouds.clear()
        self.breaks.append(reason)
