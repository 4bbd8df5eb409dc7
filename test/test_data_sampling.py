# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Which frames are taken: as many as asked for, and never one for both purposes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from helpers_data import MemorySource, frames
from hypothesis import given, settings
from hypothesis import strategies as st

from av_compress.data.combined import CombinedSource
from av_compress.data.content import content_sha256
from av_compress.data.sampling import (
    ChosenFrame,
    SampleRequest,
    select,
    select_disjoint,
    stride,
)
from av_compress.errors import DataError


def places(chosen: Sequence[ChosenFrame]) -> list[int]:
    return [frame.index for frame in chosen]


def split(calibration: SampleRequest, gate: SampleRequest) -> tuple[list[int], list[int]]:
    first, second = select_disjoint(calibration, gate)
    return places(first), places(second)


@given(st.integers(1, 500), st.integers(1, 500))
def test_stride_is_even_and_within(n: int, count: int):
    if n < count:
        with pytest.raises(DataError, match=f"{count} frames are wanted, there are {n}"):
            stride(n, count)
        return
    chosen = stride(n, count)
    gaps = {later - earlier for earlier, later in pairwise(chosen)}
    assert len(set(chosen)) == count
    assert 0 <= chosen[0] <= chosen[-1] < n
    assert not gaps or max(gaps) - min(gaps) <= 1


@settings(max_examples=30, deadline=None)
@given(
    own=st.integers(1, 8),
    others=st.integers(1, 8),
    spare=st.integers(0, 20),
    sampling=st.sampled_from(["stride", "coverage"]),
)
def test_one_source_is_split_without_overlap(own: int, others: int, spare: int, sampling: str):
    source = MemorySource(frames(own + others + spare, 16, 16))
    first, second = split(
        SampleRequest(source, own, sampling), SampleRequest(source, others, sampling)
    )
    assert (len(first), len(second)) == (own, others)
    assert not set(first) & set(second)
    assert first == sorted(first)


def test_copies_in_another_source_are_never_on_both_sides():
    held = frames(6, 16, 16)
    first = MemorySource(held)
    second = MemorySource([replace(frame, key=f"copy {frame.key}") for frame in held])
    chosen, judged = split(SampleRequest(first, 3, "stride"), SampleRequest(second, 3, "stride"))
    assert not set(chosen) & set(judged)
    with pytest.raises(DataError, match="differ from the calibration frames"):
        select_disjoint(SampleRequest(first, 4, "stride"), SampleRequest(second, 3, "stride"))


def test_frames_that_cannot_be_decoded_are_replaced():
    source = MemorySource(frames(24, 16, 16), damaged=(0, 3, 7))
    first, second = split(SampleRequest(source, 3, "stride"), SampleRequest(source, 3, "stride"))
    assert not {0, 3, 7} & {*first, *second}


def test_coverage_prefers_scenes_that_differ():
    held = frames(20, 16, 16)
    # One scene, but for three frames: these have to be among the chosen.
    dull = [replace(held[0], key=str(i), stamp_ns=held[i].stamp_ns) for i in range(20)]
    for special in (4, 11, 17):
        dull[special] = held[special]
    chosen = select(SampleRequest(MemorySource(dull), 6, "coverage"))
    assert {4, 11, 17} <= set(places(chosen))
    assert all(frame.sha256 == content_sha256(dull[frame.index]) for frame in chosen)


def test_too_few_frames_are_counted():
    source = MemorySource(frames(5, 16, 16))
    with pytest.raises(DataError, match="has 5"):
        select_disjoint(SampleRequest(source, 3, "stride"), SampleRequest(source, 3, "stride"))


def combined(*lengths: int) -> CombinedSource:
    held = frames(sum(lengths), 16, 16)
    ends = np.cumsum(lengths)
    return CombinedSource([MemorySource(held[e - n : e]) for e, n in zip(ends, lengths)])


@pytest.mark.parametrize(
    ("lengths", "count", "expected"),
    [
        ((100, 100), 8, (4, 4)),
        ((100, 10, 100), 9, (3, 3, 3)),
        ((100, 2, 100), 9, (4, 2, 3)),
        ((100, 100, 100), 2, (1, 1, 0)),
        ((3, 1), 4, (3, 1)),
    ],
)
@pytest.mark.parametrize("sampling", ["stride", "coverage"])
def test_the_members_of_a_source_give_alike(lengths, count, expected, sampling):
    source = combined(*lengths)
    chosen = places(select(SampleRequest(source, count, sampling)))
    assert chosen == sorted(chosen)
    found = Counter(np.searchsorted(np.cumsum(lengths), index, side="right") for index in chosen)
    assert tuple(found[member] for member in range(len(lengths))) == expected


@settings(max_examples=30)
@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=4),
    parts=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    sampling=st.sampled_from(["stride", "coverage"]),
)
def test_combined_sources_are_split_without_overlap(lengths, parts, sampling):
    source = combined(*lengths)
    requests = [SampleRequest(source, count, sampling) for count in parts]
    if sum(parts) > sum(lengths):
        with pytest.raises(DataError, match="wanted"):
            select_disjoint(*requests)
        return
    first, second = split(*requests)
    assert (len(set(first)), len(set(second))) == parts
    assert not set(first) & set(second)


def test_a_gate_may_share_one_of_several_sources():
    both = combined(10, 10)
    gate = SampleRequest(both.members[1], 4, "stride")
    first, second = split(SampleRequest(both, 8, "stride"), gate)
    assert [index // 10 for index in first] == [0] * 4 + [1] * 4
    assert not {index - 10 for index in first[4:]} & set(second)


def test_too_few_in_all_members_together():
    with pytest.raises(DataError, match=r"9 frames of .* are wanted, there are 8"):
        select(SampleRequest(combined(5, 3), 9, "stride"))
