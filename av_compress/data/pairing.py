# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Which recorded clouds of several LiDARs belong together, by their stamps."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from av_compress.data.merging import apart_s
from av_compress.data.transforms import NS_PER_S

# Stamps of a LiDAR's clouds in recorded order, in nanoseconds; None where there is none.
Stamps: TypeAlias = Sequence[int | None]


def pair_stamps(
    lead: Stamps, others: Sequence[Stamps], max_apart_s: float
) -> list[list[int | None]]:
    """Give each cloud of the leading LiDAR one of each other LiDAR.

    Those whose stamps are closest go together first; of pairs equally far apart, those recorded
    first. A cloud goes with one of the leading LiDAR's at most, and all that go with the same one
    lie within `max_apart_s` of each other.

    Args:
        lead: of the leading LiDAR.
        others: of each other LiDAR.
        max_apart_s: largest difference of two stamps that go together, in seconds.

    Returns:
        For each of the leading LiDAR's clouds, the index of a cloud of each other; None where
        there is none for it.

    """
    found: list[list[int | None]] = [[None] * len(others) for _ in lead]
    # Of what goes together: the oldest stamp and the newest.
    spans = {index: (stamp, stamp) for index, stamp in enumerate(lead) if stamp is not None}
    taken: set[tuple[int, int]] = set()
    for _, one, other, index, stamp in sorted(_within_reach(lead, others, max_apart_s)):
        oldest, newest = min(spans[one][0], stamp), max(spans[one][1], stamp)
        if found[one][other] is not None or (other, index) in taken:
            continue
        if apart_s(newest, oldest) > max_apart_s:
            continue
        found[one][other] = index
        taken.add((other, index))
        spans[one] = oldest, newest
    return found


def closest_s(lead: Stamps, other: Stamps) -> float | None:
    """Return the least difference of two LiDARs' stamps, in seconds; None where one has none."""
    stamps = sorted(stamp for stamp in other if stamp is not None)
    differences = [
        abs(apart_s(stamp, near))
        for stamp in lead
        if stamp is not None
        for place in [bisect_left(stamps, stamp)]
        for near in stamps[max(0, place - 1) : place + 1]
    ]
    return min(differences, default=None)


def _within_reach(
    lead: Stamps, others: Sequence[Stamps], max_apart_s: float
) -> Iterator[tuple[int, int, int, int, int]]:
    """Yield difference, the leading LiDAR's cloud, other LiDAR, its cloud, and its stamp."""
    reach_ns = math.ceil(max_apart_s * NS_PER_S)
    for other, stamps in enumerate(others):
        ordered = sorted((stamp, index) for index, stamp in enumerate(stamps) if stamp is not None)
        for one, middle in enumerate(lead):
            if middle is None:
                continue
            place = bisect_left(ordered, (middle - reach_ns, 0))
            while place < len(ordered) and ordered[place][0] <= middle + reach_ns:
                stamp, index = ordered[place]
                yield abs(stamp - middle), one, other, index, stamp
                place += 1
