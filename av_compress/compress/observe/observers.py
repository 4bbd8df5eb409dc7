# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Observers: streaming statistics of one tensor, in memory that does not grow with the samples.

Bin widths are powers of two and bins are counted from zero outwards, so that the bins of a finer
histogram nest exactly in those of a coarser one. Observing a, then b, therefore gives the same
counts, bit for bit, as observing b, then a, or as merging two observers that saw one each.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import cv2
import numpy as np
import numpy.typing as npt

from av_compress.errors import DataError
from av_compress.tensors import Array

BINS = 2048

# The reciprocal of a bin's width has to be finite in float32.
_SMALLEST_EXPONENT = -126
_CHUNK = 1 << 20


class HistogramObserver:
    """Running minimum, maximum and a histogram of `BINS` bins of magnitude on either side of zero.

    The range starts at the first power-of-two multiple that holds the first sample and grows by
    doubling: neighbouring bins are added, nothing is lost but resolution. At least half of the
    bins are always in use.
    """

    def __init__(self) -> None:
        """Start without samples."""
        self.samples = 0
        self.min = math.inf
        self.max = -math.inf
        self._exponent: int | None = None
        # One array for both signs; the middle bin holds |x| < width of either sign.
        self._signed = np.zeros(2 * BINS - 1, np.int64)

    @property
    def absmax(self) -> float:
        """Largest magnitude seen; 0 before the first sample."""
        return max(abs(self.min), abs(self.max)) if self.samples else 0.0

    @property
    def bin_width(self) -> float:
        """Width of a bin, a power of two."""
        return math.ldexp(1.0, _SMALLEST_EXPONENT if self._exponent is None else self._exponent)

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """Counts of |x|, int64 [BINS]; bin i holds i <= |x| / bin_width < i + 1."""
        folded: npt.NDArray[np.int64] = self._signed[BINS - 1 :].copy()
        folded[1:] += self._signed[BINS - 2 :: -1]
        return folded

    @property
    def signed_counts(self) -> npt.NDArray[np.int64]:
        """Counts of x, int64 [2 * BINS - 1]; the middle bin holds |x| < bin_width."""
        counts: npt.NDArray[np.int64] = self._signed.copy()
        return counts

    def observe(self, array: Array) -> None:
        """Take in one sample, a float array of any shape.

        Raises:
            DataError: the sample holds NaN or infinity; the observer is unchanged.

        """
        values = np.ascontiguousarray(array, dtype=np.float32).reshape(-1)
        if values.size == 0:
            return
        low, high = float(values.min()), float(values.max())
        # NaN survives min and max, so two comparisons find every value that is not finite.
        if not (math.isfinite(low) and math.isfinite(high)):
            raise DataError("holds values that are not finite (NaN or infinity)")
        self._grow(_exponent_for(max(abs(low), abs(high))))
        self._count(values)
        self.min, self.max = min(self.min, low), max(self.max, high)
        self.samples += 1

    def merge(self, other: HistogramObserver) -> None:
        """Take in everything that `other` has seen."""
        if other._exponent is None:
            return
        self._grow(other._exponent)
        assert self._exponent is not None
        self._signed += _coarsen(other._signed, self._exponent - other._exponent)
        self.min, self.max = min(self.min, other.min), max(self.max, other.max)
        self.samples += other.samples

    def state(self) -> dict[str, Array]:
        """Return everything as arrays, for storage; see `from_state`."""
        exponent = _SMALLEST_EXPONENT if self._exponent is None else self._exponent
        return {
            "counts": self._signed.copy(),
            "range": np.array([self.min, self.max], np.float64),
            "scale": np.array([exponent, self.samples], np.int64),
        }

    @staticmethod
    def from_state(state: Mapping[str, Array]) -> HistogramObserver:
        """Restore what `state` returned."""
        observer = HistogramObserver()
        observer._signed = np.array(state["counts"], np.int64)
        observer.min, observer.max = map(float, state["range"])
        exponent, observer.samples = map(int, state["scale"])
        observer._exponent = exponent if observer.samples else None
        return observer

    def _grow(self, exponent: int) -> None:
        if self._exponent is None:
            self._exponent = exponent
        elif exponent > self._exponent:
            self._signed = _coarsen(self._signed, exponent - self._exponent)
            self._exponent = exponent

    def _count(self, values: npt.NDArray[np.float32]) -> None:
        assert self._exponent is not None
        factor = np.float32(math.ldexp(1.0, -self._exponent))
        # In chunks that stay in the cache, and that bound the memory of the indices.
        for start in range(0, values.size, _CHUNK):
            # Truncation towards zero is what makes bins nest; scaling by a power of two is exact.
            index = (values[start : start + _CHUNK] * factor).astype(np.int16)
            index += BINS - 1
            # Three times as fast as np.bincount; its float32 counts are exact for a chunk.
            counts = cv2.calcHist([index.view(np.uint16)], [0], None, [2 * BINS], [0, 2 * BINS])
            # One column in OpenCV 4, flat in OpenCV 5.
            self._signed += counts.reshape(-1)[:-1].astype(np.int64)


def _exponent_for(absmax: float) -> int:
    """Return the smallest e with absmax < BINS * 2^e."""
    # frexp: absmax = m * 2^e with 0.5 <= m < 1, so absmax < 2^e always.
    return max(math.frexp(absmax)[1] - BINS.bit_length() + 1, _SMALLEST_EXPONENT)


def _coarsen(signed: npt.NDArray[np.int64], doublings: int) -> npt.NDArray[np.int64]:
    """Double the bin width `doublings` times; counts move to the bin that holds theirs."""
    if doublings == 0:
        return signed
    magnitude = np.abs(np.arange(-(BINS - 1), BINS)) >> min(doublings, BINS.bit_length())
    target = np.where(np.arange(2 * BINS - 1) < BINS - 1, -magnitude, magnitude) + BINS - 1
    coarse = np.zeros_like(signed)
    np.add.at(coarse, target, signed)
    return coarse
