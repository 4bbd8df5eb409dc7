# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Observers: exact counts, whatever the order, in memory that does not grow."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from av_compress.compress.observe.observers import BINS, HistogramObserver
from av_compress.errors import DataError

FLOATS = st.floats(-(2.0**100), 2.0**100, width=32, allow_subnormal=True)
ARRAYS = hnp.arrays(np.float32, st.integers(1, 40), elements=FLOATS)


def observed(*arrays: np.ndarray) -> HistogramObserver:
    observer = HistogramObserver()
    for array in arrays:
        observer.observe(array)
    return observer


def same(first: HistogramObserver, second: HistogramObserver) -> bool:
    left, right = first.state(), second.state()
    return all(np.array_equal(left[key], right[key]) for key in left)


@settings(max_examples=200, deadline=None)
@given(st.lists(ARRAYS, min_size=1, max_size=5))
def test_counts_are_those_of_the_definition(arrays):
    observer = observed(*arrays)
    values = np.abs(np.concatenate(arrays).astype(np.float64))
    # bin i holds i <= |x| / width < i + 1, in exact arithmetic: the width is a power of two.
    expected = np.bincount((values / observer.bin_width).astype(np.int64), minlength=BINS)
    assert np.array_equal(observer.counts, expected)
    assert observer.absmax == values.max()
    assert observer.absmax < BINS * observer.bin_width


@settings(max_examples=200, deadline=None)
@given(st.lists(ARRAYS, min_size=2, max_size=6), st.randoms(use_true_random=False))
def test_order_and_merging_make_no_difference(arrays, random):
    whole = observed(*arrays)
    shuffled = list(arrays)
    random.shuffle(shuffled)
    assert same(whole, observed(*shuffled))
    cut = random.randrange(1, len(arrays))
    first, second = observed(*shuffled[:cut]), observed(*shuffled[cut:])
    first.merge(second)
    assert same(whole, first)


@settings(max_examples=100, deadline=None)
@given(st.lists(ARRAYS, min_size=1, max_size=4))
def test_signs_are_told_apart(arrays):
    observer = observed(*arrays)
    values = np.concatenate(arrays).astype(np.float64)
    index = np.trunc(values / observer.bin_width).astype(np.int64) + BINS - 1
    assert np.array_equal(observer.signed_counts, np.bincount(index, minlength=2 * BINS - 1))
    assert (observer.min, observer.max) == (values.min(), values.max())


def test_at_least_half_of_the_bins_are_in_use():
    for exponent in range(-20, 20):
        observer = observed(np.array([2.0**exponent * 1.5], np.float32))
        assert BINS / 2 <= observer.absmax / observer.bin_width < BINS


def test_state_survives_storage():
    observer = observed(np.array([-3.0, 0.0, 7.5], np.float32))
    assert same(observer, HistogramObserver.from_state(observer.state()))
    empty = HistogramObserver.from_state(HistogramObserver().state())
    empty.merge(observer)
    assert same(empty, observer)


def test_merging_nothing_changes_nothing():
    observer = observed(np.array([1.0, 2.0], np.float32))
    before = observer.state()
    observer.merge(HistogramObserver())
    assert all(np.array_equal(before[key], value) for key, value in observer.state().items())


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused_and_leave_no_trace(bad):
    observer = observed(np.array([1.0, 2.0], np.float32))
    before = observer.state()
    with pytest.raises(DataError, match="not finite"):
        observer.observe(np.array([0.5, bad], np.float32))
    assert all(np.array_equal(before[key], value) for key, value in observer.state().items())


def test_zeros_denormals_and_the_largest_float():
    for value in (0.0, 1e-45, np.finfo(np.float32).tiny, np.finfo(np.float32).max):
        observer = observed(np.full(5, value, np.float32))
        assert observer.counts.sum() == 5
        assert observer.absmax == np.float32(value)


def test_a_tensor_larger_than_a_chunk_and_half_precision():
    values = np.random.default_rng(0).normal(size=(1 << 20) + 3).astype(np.float16)
    observer = observed(values.reshape(1, -1))
    assert observer.counts.sum() == values.size
    assert observer.max == float(values.max())
