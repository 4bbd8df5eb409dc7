# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Thresholds against straightforward searches in double precision, and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from av_compress.compress.observe.observers import HistogramObserver
from av_compress.compress.observe.thresholds import (
    FALLBACK,
    LEVELS,
    ThresholdMethod,
    find_range,
    find_threshold,
)

METHODS = list(ThresholdMethod)
FLOATS = st.floats(-(2.0**100), 2.0**100, width=32, allow_subnormal=True)


def observed(values: np.ndarray) -> HistogramObserver:
    observer = HistogramObserver()
    observer.observe(values.astype(np.float32))
    return observer


def squared_error(values: np.ndarray, threshold: float) -> float:
    step = threshold / 127
    quantised = np.clip(np.rint(values / step), -127, 127) * step
    return float(((values - quantised) ** 2).mean())


SAMPLES = {
    "normal": lambda rng: rng.normal(size=60000),
    "rectified": lambda rng: np.maximum(rng.normal(size=60000), 0),
    "outliers": lambda rng: np.concatenate([rng.normal(size=60000), [60.0, -45.0]]),
    "laplace": lambda rng: rng.laplace(size=60000),
    "uniform": lambda rng: rng.uniform(-2, 2, size=60000),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_mse_comes_within_a_percent_of_the_best_threshold(name):
    values = SAMPLES[name](np.random.default_rng(1))
    found = find_threshold(observed(values), ThresholdMethod.MSE)
    grid = np.linspace(0.02, 1.0, 400) * np.abs(values).max()
    best = min(squared_error(values, threshold) for threshold in grid)
    assert squared_error(values, found) <= 1.01 * best


def slow_divergence(counts: list[float], bins: int) -> float:
    """Migacz's KL divergence, one bin at a time, the zero bin left out."""
    counts = [0.0, *counts[1:]]
    reference = list(counts[:bins])
    reference[-1] += sum(counts[bins:])
    candidate = [0.0] * bins
    for level in range(LEVELS):
        members = [i for i in range(bins) if i * LEVELS // bins == level]
        filled = [i for i in members if counts[i] > 0]
        for i in filled:
            candidate[i] = sum(counts[j] for j in members) / len(filled)
    total_p, total_q = sum(reference), sum(candidate)
    if total_q == 0:
        return float("inf")
    divergence = 0.0
    for p, q in zip(reference, candidate):
        if p > 0:
            divergence += p / total_p * np.log(p / total_p / max(q / total_q, 1e-12))
    return divergence


@pytest.mark.parametrize("name", ["normal", "rectified", "outliers"])
def test_entropy_comes_near_the_exhaustive_search(name):
    values = SAMPLES[name](np.random.default_rng(2))[:20000]
    if name == "outliers":
        values = np.append(values, 60.0)
    observer = observed(values)
    counts = observer.counts.astype(float).tolist()
    last = max(i for i, c in enumerate(counts) if c) + 1
    every = {bins: slow_divergence(counts, bins) for bins in range(LEVELS, last + 1, 29)}
    found = find_threshold(observer, ThresholdMethod.ENTROPY) / observer.bin_width
    mine = slow_divergence(counts, min(max(round(found), LEVELS), last))
    assert mine <= min(every.values()) + 1e-3


def test_entropy_clips_an_outlier_and_is_not_minmax():
    values = np.append(np.random.default_rng(3).normal(size=50000), 100.0)
    threshold = find_threshold(observed(values), ThresholdMethod.ENTROPY)
    assert 2.0 < threshold < 20.0


@pytest.mark.parametrize("percentile", [90.0, 99.0, 99.9, 100.0])
def test_percentile_against_numpy(percentile):
    values = np.random.default_rng(4).normal(size=40000)
    observer = observed(values)
    found = find_threshold(observer, ThresholdMethod.PERCENTILE, percentile)
    # Within one bin of the exact percentile.
    assert abs(found - np.percentile(np.abs(values), percentile)) <= observer.bin_width


def test_minmax_is_the_largest_magnitude():
    assert find_threshold(observed(np.array([1.0, -3.5, 2.0])), ThresholdMethod.MINMAX) == 3.5


def test_a_tensor_of_zeros_gets_the_fallback():
    for method in METHODS:
        assert find_threshold(observed(np.zeros(9)), method) == FALLBACK


@settings(max_examples=150, deadline=None)
@given(
    values=hnp.arrays(np.float32, st.integers(1, 60), elements=FLOATS),
    method=st.sampled_from(METHODS),
)
def test_any_finite_tensor_gets_a_usable_range(values, method):
    observer = observed(values)
    threshold = find_threshold(observer, method)
    low, high = find_range(observer, method)
    assert np.isfinite(threshold)
    assert threshold > 0
    assert threshold <= max(observer.absmax, FALLBACK)
    assert -threshold <= low <= high <= threshold
    # As float32, the scale is positive too.
    assert np.float32(threshold / 127) > 0


@pytest.mark.parametrize("method", METHODS)
def test_thresholds_scale_with_the_tensor(method):
    values = np.random.default_rng(6).normal(size=20000).astype(np.float32)
    plain, scaled = (find_threshold(observed(values * k), method) for k in (1.0, 8.0))
    # Powers of two move bins as they are.
    assert scaled == pytest.approx(8 * plain, rel=1e-6)


def test_a_rectified_tensor_has_no_negative_range():
    values = np.maximum(np.random.default_rng(7).normal(size=5000), 0)
    low, high = find_range(observed(values), ThresholdMethod.MSE)
    assert low == 0.0
    assert high > 1.0
