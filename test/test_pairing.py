# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Which clouds go together: by hand, and what must hold of any stamps."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from av_compress.data.pairing import closest_s, pair_stamps

MS = 1_000_000
START = 1_700_000_000_000 * MS


def ns(*stamps: int | None) -> list[int | None]:
    return [None if one is None else START + one * MS for one in stamps]


@pytest.mark.parametrize(
    ("lead", "other", "want"),
    [
        ([0, 100, 200], [30, 130, 230], [0, 1, 2]),
        # The second of the other LiDAR is lost; nobody takes its neighbour's.
        ([0, 100, 200], [30, 230], [0, None, 1]),
        # The leading LiDAR's second is lost: 130 is too far from what is free.
        ([0, 200, 300], [30, 130, 230, 330], [0, 2, 3]),
        # A lost first does not shift all that follow.
        ([0, 100, 200], [100, 200, 300], [None, 0, 1]),
        # Just as far as is allowed, and by the smallest amount farther.
        ([0], [100], [0]),
        ([0], [101], [None]),
        # Equally far from two: what was recorded first.
        ([0, 100], [50], [0, None]),
        ([50], [0, 100], [0]),
        # The closer of two.
        ([0, 60], [50], [None, 0]),
        ([0], [-60, 50], [1]),
        # Half a turn apart, one a little early or late: nobody is left alone.
        ([0, 100, 200, 300], [49, 151, 249, 352], [0, 1, 2, 3]),
        ([0, 100, 200, 300], [-49, 51, 148, 251], [0, 1, 2, 3]),
        # Two pairs of 60 and 60 are better than one of 40 and two that are alone.
        ([0, 100], [60, 160], [0, 1]),
        # The clock goes back: what was recorded is not in order.
        ([500, 600, 0, 100], [10, 110, 510, 610], [2, 3, 0, 1]),
        # Damaged headers.
        ([None, 100], [0, None, 100], [None, 2]),
        ([], [0], []),
        ([0], [], [None]),
    ],
)
def test_pairs_of_two_by_hand(lead, other, want):
    found = pair_stamps(ns(*lead), [ns(*other)], 0.1)
    assert found == [[one] for one in want]


def test_all_that_go_together_lie_near_each_other():
    # Each is near 80, but not near the other: the closer one is taken.
    assert pair_stamps(ns(80), [ns(0), ns(150)], 0.1) == [[None, 0]]
    assert pair_stamps(ns(80), [ns(10), ns(151)], 0.1) == [[0, None]]
    assert pair_stamps(ns(80), [ns(30), ns(130)], 0.1) == [[0, 0]]
    assert pair_stamps(ns(80, 200), [ns(30), ns(150)], 0.1) == [[0, None], [None, 0]]


STAMPS = st.lists(st.one_of(st.none(), st.integers(0, 600)), max_size=12)


def most_spared(lead: Sequence[int | None], other: Sequence[int | None], apart_ms: int) -> int:
    """Return the best of all ways to pair, each of which is tried, in milliseconds."""

    @cache
    def best(one: int, used: frozenset[int]) -> int:
        if one == len(lead):
            return 0
        ways = [best(one + 1, used)]
        for index, near in enumerate(other):
            if lead[one] is None or near is None or index in used:
                continue
            if (apart := abs(lead[one] - near)) <= apart_ms:
                ways.append(2 * apart_ms - apart + best(one + 1, used | {index}))
        return max(ways)

    return best(0, frozenset())


FEW = st.lists(st.one_of(st.none(), st.integers(0, 600)), max_size=6)


@given(FEW, FEW, st.integers(0, 200))
def test_two_lidars_are_paired_with_the_least_sum_of_differences(lead, other, apart_ms):
    found = [group[0] for group in pair_stamps(ns(*lead), [ns(*other)], apart_ms / 1000)]
    ours = [abs(lead[one] - other[index]) for one, index in enumerate(found) if index is not None]
    assert all(apart <= apart_ms for apart in ours)
    spared = sum(2 * apart_ms - apart for apart in ours)
    assert spared == most_spared(lead, other, apart_ms)


@given(STAMPS, st.lists(STAMPS, min_size=1, max_size=3), st.integers(0, 200))
def test_of_more_lidars_each_cloud_is_used_once_and_near_all_others(lead, others, apart_ms):
    found = pair_stamps(ns(*lead), [ns(*other) for other in others], apart_ms / 1000)
    assert len(found) == len(lead)
    for number, other in enumerate(others):
        used = [group[number] for group in found if group[number] is not None]
        assert len(set(used)) == len(used)
        assert all(other[one] is not None for one in used)
    for index, group in enumerate(found):
        times = [others[number][one] for number, one in enumerate(group) if one is not None]
        if lead[index] is None:
            assert not times
        else:
            assert max([lead[index], *times]) - min([lead[index], *times]) <= apart_ms


@given(STAMPS, STAMPS)
def test_the_closest_two(lead, other):
    found = closest_s(ns(*lead), ns(*other))
    both = [(a, b) for a in lead for b in other if a is not None and b is not None]
    assert found == min((abs(a - b) / 1000 for a, b in both), default=None)
