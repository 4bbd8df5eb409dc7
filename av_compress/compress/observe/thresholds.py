# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Thresholds: the magnitude up to which a tensor is represented, the rest being clipped."""

from __future__ import annotations

from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt

from av_compress.compress.observe.observers import BINS, HistogramObserver

# Positive levels of a signed 8-bit number.
LEVELS = 128
# How many thresholds a search tries: neighbours are within 0.4 percent of the range.
CANDIDATES = 256
# A tensor that is always zero needs a scale all the same; any will do.
FALLBACK = 1.0
# Below this, a float32 scale (threshold / 127) would be denormal.
SMALLEST = 1e-35

Floats = npt.NDArray[np.floating[Any]]


class ThresholdMethod(Enum):
    """How a threshold is chosen.

    MINMAX clips nothing. PERCENTILE clips the given share of values. ENTROPY minimises the
    Kullback-Leibler divergence of the quantised distribution. MSE minimises the expected squared
    error of quantisation.
    """

    MINMAX = "minmax"
    PERCENTILE = "percentile"
    ENTROPY = "entropy"
    MSE = "mse"


def find_threshold(
    observer: HistogramObserver, method: ThresholdMethod, percentile: float = 99.99
) -> float:
    """Choose the threshold of a tensor for symmetric 8-bit quantisation.

    Args:
        observer: what was seen of the tensor.
        method: how to choose.
        percentile: share of values, in percent, that PERCENTILE keeps from clipping.

    Returns:
        a finite number over 0 and at most the largest magnitude seen (`FALLBACK` where that is 0).

    """
    absmax = observer.absmax
    if absmax <= SMALLEST:
        return FALLBACK if absmax == 0.0 else SMALLEST
    if method is ThresholdMethod.MINMAX:
        return absmax
    counts = observer.counts.astype(np.float64)
    if method is ThresholdMethod.PERCENTILE:
        bins = _percentile_bins(counts, percentile)
    elif method is ThresholdMethod.ENTROPY:
        bins = _entropy_bins(counts)
    else:
        bins = _mse_bins(counts)
    return float(min(max(bins * observer.bin_width, SMALLEST), absmax))


def find_range(
    observer: HistogramObserver, method: ThresholdMethod, percentile: float = 99.99
) -> tuple[float, float]:
    """Choose the lowest and highest value represented: what was seen, within the threshold."""
    threshold = find_threshold(observer, method, percentile)
    if observer.absmax <= SMALLEST:
        return -threshold, threshold
    return max(observer.min, -threshold), min(observer.max, threshold)


def _percentile_bins(counts: Floats, percentile: float) -> float:
    """Return the (interpolated) number of bins that hold `percentile` of the values."""
    cumulative = np.cumsum(counts)
    wanted = cumulative[-1] * percentile / 100.0
    index = int(np.searchsorted(cumulative, wanted))
    before = cumulative[index - 1] if index else 0.0
    return index + float((wanted - before) / counts[index])


def _entropy_bins(counts: Floats) -> float:
    """Search the number of bins with the smallest divergence.

    Source: Migacz, 8-bit Inference with TensorRT, GTC 2017: for every candidate, the clipped tail
    is added to the last bin of the reference P; Q is P without the tail, merged into 128 levels
    and spread evenly over the bins of each level that are not empty. The bin around zero is left
    out of both: rectified tensors are mostly zeros, which every threshold represents exactly, and
    which would otherwise drown the rest.
    """
    counts = counts.copy()
    counts[0] = 0.0
    last = int(np.flatnonzero(counts)[-1]) + 1 if counts.any() else 0
    if last <= LEVELS:
        return float(max(last, 1))
    tails = counts[::-1].cumsum()[::-1]
    best, best_bins = np.inf, last
    for bins in _candidates(LEVELS, last):
        divergence = _divergence(counts[:bins], tails[bins] if bins < BINS else 0.0)
        if divergence < best:
            best, best_bins = divergence, int(bins)
    return float(best_bins)


def _divergence(kept: Floats, tail: float) -> float:
    filled = kept > 0
    # Level edges need not fall on bin edges: a bin belongs to the level that holds its start.
    level = (np.arange(kept.size) * LEVELS) // kept.size
    total = np.bincount(level, weights=kept, minlength=LEVELS)
    share = np.bincount(level, weights=filled, minlength=LEVELS)
    spread = total / np.maximum(share, 1.0)
    reference = kept.copy()
    reference[-1] += tail
    both = np.flatnonzero(reference > 0)
    p = reference[both] / reference.sum()
    q = np.where(filled, spread[level], 0.0)[both]
    if q.sum() == 0.0:
        return np.inf
    # A tail that falls on an empty bin has no counterpart in Q; a small one keeps KL finite.
    q = np.maximum(q / q.sum(), 1e-12)
    return float((p * np.log(p / q)).sum())


def _mse_bins(counts: Floats) -> float:
    """Search the number of bins with the smallest squared error of quantise-dequantise.

    Every bin counts with its centre, but the middle one with zero: what it holds is mostly exact
    zeros, which no threshold changes.
    """
    last = int(np.flatnonzero(counts)[-1]) + 1
    used = counts[:last]
    center = np.arange(last) + 0.5
    center[0] = 0.0
    candidates = _candidates(1, last)
    errors = [_squared_error(used, center, float(bins)) for bins in candidates]
    return float(candidates[int(np.argmin(errors))])


def _squared_error(counts: Floats, center: Floats, threshold: float) -> float:
    step = threshold / (LEVELS - 1)
    quantised = np.minimum(np.rint(center / step), LEVELS - 1) * step
    return float(counts @ (center - quantised) ** 2)


def _candidates(first: int, last: int) -> npt.NDArray[np.int64]:
    """Return at most `CANDIDATES` numbers of bins from `first` to `last`, both among them."""
    return np.unique(np.linspace(first, last, CANDIDATES).astype(np.int64))
