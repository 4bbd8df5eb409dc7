# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Which recorded clouds of several LiDARs belong together, by their stamps."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from av_compress.data.ego_motion import apart_s
from av_compress.data.transforms import NS_PER_S

# Stamps of a LiDAR's clouds in recorded order, in nanoseconds; None where there is none.
Stamps: TypeAlias = Sequence[int | None]

# A stamp and the cloud's index, by ascending stamps.
_Ordered: TypeAlias = Sequence[tuple[int, int]]


def pair_stamps(
    lead: Stamps, others: Sequence[Stamps], max_apart_s: float
) -> list[list[int | None]]:
    """Give each cloud of the leading LiDAR one of each other LiDAR.

    A cloud goes with one of the leading LiDAR's at most, and all that go with the same one lie
    within `max_apart_s` of each other. Of all ways to pair two LiDARs, that is taken whose
    differences have the least sum, a cloud without a partner counting `max_apart_s`: so neither
    are clouds of one time torn apart because another is missing, nor does it matter to LiDARs
    that are half a turn apart that one comes a little late. Where clouds of two others lie too
    far apart, the one that is farther from the leading LiDAR's is left out.

    Args:
        lead: of the leading LiDAR.
        others: of each other LiDAR.
        max_apart_s: largest difference of two stamps that go together, in seconds.

    Returns:
        For each of the leading LiDAR's clouds, the index of a cloud of each other; None where
        there is none for it.

    """
    found: list[list[int | None]] = [[None] * len(others) for _ in lead]
    leading = _ordered(lead)
    pairs = [_pairs(leading, _ordered(other), max_apart_s) for other in others]
    for stamp, one in leading:
        near = [(*found_[one], number) for number, found_ in enumerate(pairs) if one in found_]
        oldest = newest = stamp
        for theirs, index, number in sorted(near, key=lambda pair: abs(pair[0] - stamp)):
            earliest, latest = min(oldest, theirs), max(newest, theirs)
            if apart_s(latest, earliest) <= max_apart_s:
                found[one][number] = index
                oldest, newest = earliest, latest
    return found


def closest_s(lead: Stamps, other: Stamps) -> float | None:
    """Return the least difference of two LiDARs' stamps, in seconds; None where one has none."""
    stamps = [stamp for stamp, _ in _ordered(other)]
    differences = [
        abs(apart_s(stamp, near))
        for stamp, _ in _ordered(lead)
        for place in [bisect_left(stamps, stamp)]
        for near in stamps[max(0, place - 1) : place + 1]
    ]
    return min(differences, default=None)


def _ordered(stamps: Stamps) -> _Ordered:
    return sorted((stamp, index) for index, stamp in enumerate(stamps) if stamp is not None)


class _Chain(NamedTuple):
    """Pairs that were made so far, the last of them first, and what they spare in all."""

    spared: int
    lead: int = -1
    other: int = -1
    before: _Chain | None = None


def _pairs(lead: _Ordered, other: _Ordered, max_apart_s: float) -> dict[int, tuple[int, int]]:
    """Return the leading LiDAR's cloud -> stamp and index of the other's.

    Pairs of the least sum never cross, since two that do are no farther apart when they swap
    partners. So it is the heaviest chain of pairs that ascends in both, found by dynamic
    programming over those that are near each other.
    """
    reach_ns = math.ceil(max_apart_s * NS_PER_S)
    # best[n]: the heaviest chain of the clouds so far with the first n of the other LiDAR's.
    best = [_Chain(0)]
    for one, (stamp, _) in enumerate(lead):
        low = bisect_left(other, (stamp - reach_ns, 0))
        high = bisect_left(other, (stamp + reach_ns + 1, 0))
        best.extend(best[-1:] * (high + 1 - len(best)))
        # From the last on, so that each sees the chains without this cloud; then the best of all.
        for place in range(high - 1, low - 1, -1):
            apart = abs(other[place][0] - stamp)
            if apart / NS_PER_S <= max_apart_s:
                spared = best[place].spared + 2 * reach_ns + 1 - apart
                if spared > best[place + 1].spared:
                    best[place + 1] = _Chain(spared, one, place, best[place])
        for place in range(low, high):
            if best[place].spared >= best[place + 1].spared:
                best[place + 1] = best[place]
    found: dict[int, tuple[int, int]] = {}
    chain: _Chain | None = best[-1]
    while chain is not None and chain.before is not None:
        found[lead[chain.lead][1]] = other[chain.other]
        chain = chain.before
    return found
