# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Power over quantisation error: against theory, and against values quantised one by one."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from av_compress.compress.observe.observers import HistogramObserver
from av_compress.metrics.range_error import signal_to_noise_db


def test_a_uniform_distribution_has_the_ratio_of_the_textbook():
    # Power 1/3, error step^2 / 12 with steps of 1/127: 10 log10(4 * 127^2).
    side = 100_000
    counts = np.ones(2 * side + 1, np.int64)
    found = signal_to_noise_db(counts, 1.0 / (side + 1), -1.0, 1.0)
    assert found == pytest.approx(10 * math.log10(4 * 127**2), abs=0.05)


def test_twice_the_range_costs_a_bit():
    side = 50_000
    counts = np.ones(2 * side + 1, np.int64)
    narrow, wide = (signal_to_noise_db(counts, 1 / side, -limit, limit) for limit in (1.0, 2.0))
    assert narrow - wide == pytest.approx(6.02, abs=0.1)


@given(st.integers(0, 2**32 - 1), st.floats(0.3, 3.0))
def test_it_is_what_quantising_every_value_gives(seed, limit):
    values = np.random.default_rng(seed).normal(0, 0.5, 4000).astype(np.float32)
    observer = HistogramObserver()
    observer.observe(values)
    step = limit / 127
    error = values - np.clip(np.rint(values / step), -127, 127) * step
    true = 10 * np.log10((values.astype(float) ** 2).sum() / (error.astype(float) ** 2).sum())
    found = signal_to_noise_db(observer.signed_counts, observer.bin_width, -limit, limit)
    assert found == pytest.approx(true, abs=0.6)


@pytest.mark.parametrize("filled", [[], [10]])
def test_nothing_but_zeros_loses_nothing(filled):
    counts = np.zeros(21, np.int64)
    counts[filled] = 5
    assert signal_to_noise_db(counts, 0.1, -1.0, 1.0) == math.inf


def test_only_the_larger_end_of_a_range_counts():
    counts = np.random.default_rng(0).integers(0, 50, 401)
    assert signal_to_noise_db(counts, 0.01, -0.3, 1.0) == signal_to_noise_db(
        counts, 0.01, -1.0, 1.0
    )
