# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Several frame sources as one: the drives of a week, one behind the other."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any

from av_compress.data.base import FrameSource, LabelledSource, check_index


class CombinedSource:
    """The frames of several sources, in the sources' order.

    Attributes:
        members: the sources.
        firsts: index of each member's first frame.
        description: those of the members.

    """

    def __init__(self, members: Sequence[FrameSource]) -> None:
        """Join `members`, at least one."""
        self.members = tuple(members)
        ends = list(accumulate(len(member) for member in members))
        self.firsts: tuple[int, ...] = (0, *ends[:-1])
        self.description = "; ".join(member.description for member in members)
        self._names = _told_apart([member.description for member in members])
        self._length = ends[-1]

    def __len__(self) -> int:
        """Count the frames of all."""
        return self._length

    def key(self, index: int) -> str:
        """Name frame `index` by its source and its name there."""
        number, inner = self._locate(index)
        return f"{self._names[number]}: {self.members[number].key(inner)}"

    def read(self, index: int) -> Any:
        """Read and decode frame `index`; see `FrameSource.read`."""
        number, inner = self._locate(index)
        return replace(self.members[number].read(inner), key=self.key(index))

    def close(self) -> None:
        """Close every source."""
        for member in self.members:
            member.close()

    def _locate(self, index: int) -> tuple[int, int]:
        check_index(self, index)
        number = bisect_right(self.firsts, index) - 1
        return number, index - self.firsts[number]


class CombinedLabelledSource(CombinedSource):
    """Several sources that know the truth, in the same classes.

    Attributes:
        class_names: label index -> name.

    """

    def __init__(self, members: Sequence[LabelledSource]) -> None:
        """Join `members`, whose class names are equal."""
        super().__init__(members)
        self.class_names: Sequence[str] = members[0].class_names
        self._labelled = tuple(members)

    def labels(self, index: int) -> Any:
        """Return the labels of frame `index`."""
        number, inner = self._locate(index)
        return self._labelled[number].labels(inner)


def combine(members: Sequence[FrameSource]) -> FrameSource:
    """Join sources: labelled ones of the same classes stay labelled; a single one stays itself."""
    if len(members) == 1:
        return members[0]
    labelled = [member for member in members if isinstance(member, LabelledSource)]
    alike = len({tuple(member.class_names) for member in labelled}) == 1
    if len(labelled) == len(members) and alike:
        return CombinedLabelledSource(labelled)
    return CombinedSource(members)


def _told_apart(names: Sequence[str]) -> list[str]:
    """Return the names, those that occur more than once with their number."""
    count = Counter(names)
    return [
        f"{name} ({number})" if count[name] > 1 else name for number, name in enumerate(names, 1)
    ]
