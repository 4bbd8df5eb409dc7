# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Which frames are taken: as many as asked for, and never one for both purposes."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from helpers_data import MemorySource, frames
from hypothesis import given, settings
from hypothesis import strategies as st

from av_compress.data.sampling import SampleRequest, even_coverage, select_disjoint, stride
from av_compress.errors import DataError


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
    first, second = select_disjoint(
        SampleRequest(source, own, sampling), SampleRequest(source, others, sampling)
    )
    assert (len(first), len(second)) == (own, others)
    assert not set(first) & set(second)
    assert list(first) == sorted(first)


def test_copies_in_another_source_are_never_on_both_sides():
    held = frames(6, 16, 16)
    first = MemorySource(held)
    second = MemorySource([replace(frame, key=f"copy {frame.key}") for frame in held])
    chosen, judged = select_disjoint(
        SampleRequest(first, 3, "stride"), SampleRequest(second, 3, "stride")
    )
    assert not set(chosen) & set(judged)
    with pytest.raises(DataError, match="differ from the calibration frames"):
        select_disjoint(SampleRequest(first, 4, "stride"), SampleRequest(second, 3, "stride"))


def test_frames_that_cannot_be_decoded_are_replaced():
    source = MemorySource(frames(24, 16, 16), damaged=(0, 3, 7))
    first, second = select_disjoint(
        SampleRequest(source, 3, "stride"), SampleRequest(source, 3, "stride")
    )
    assert not {0, 3, 7} & {*first, *second}


def test_coverage_prefers_scenes_that_differ():
    held = frames(20, 16, 16)
    # One scene, but for three frames: these have to be among the chosen.
    dull = [replace(held[0], key=str(i), stamp_ns=held[i].stamp_ns) for i in range(20)]
    for special in (4, 11, 17):
        dull[special] = held[special]
    assert {4, 11, 17} <= set(even_coverage(MemorySource(dull), 6))


def test_too_few_frames_are_counted():
    source = MemorySource(frames(5, 16, 16))
    with pytest.raises(DataError, match="has 5"):
        select_disjoint(SampleRequest(source, 3, "stride"), SampleRequest(source, 3, "stride"))
