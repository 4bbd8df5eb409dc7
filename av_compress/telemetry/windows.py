# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Figures of the recent past, in fixed memory however long the node runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
from hdrh.histogram import HdrHistogram

NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000

# Latencies from half a microsecond to an hour, kept to three significant digits (0.1 %).
_LOWEST_NS = 512
_HIGHEST_NS = 3600 * NS_PER_S
_DIGITS = 3


class Clearable(Protocol):
    """Something that grows, and can be emptied for use again."""

    def clear(self) -> None:
        """Become as new."""


T = TypeVar("T", bound=Clearable)


class Generations(Generic[T]):
    """Two generations of something that grows; the older one is emptied and used again in turn.

    A generation lasts half the horizon, so both together cover at least the last half of the
    horizon and at most all of it. Not thread-safe.
    """

    def __init__(
        self,
        make: Callable[[], T],
        horizon_s: float | None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Start with empty generations.

        Args:
            make: makes an empty generation.
            horizon_s: how far back both reach, in seconds; None keeps everything in one.
            clock: steady time in nanoseconds.

        """
        self._half_ns = None if horizon_s is None else int(horizon_s * NS_PER_S / 2)
        self._clock = clock
        self._older, self._current = make(), make()
        self._started = clock()

    def current(self) -> T:
        """Return the generation that takes new values."""
        self._rotate()
        return self._current

    def recent(self) -> tuple[T, T]:
        """Return both generations, the newer last."""
        self._rotate()
        return self._older, self._current

    def clear(self) -> None:
        """Forget everything."""
        self._older.clear()
        self._current.clear()
        self._started = self._clock()

    def _rotate(self) -> None:
        if self._half_ns is None:
            return
        now = self._clock()
        age = now - self._started
        if age < self._half_ns:
            return
        self._older, self._current = self._current, self._older
        self._current.clear()
        if age >= 2 * self._half_ns:
            self._older.clear()
        self._started = now


@dataclass(frozen=True)
class LatencySummary:
    """Figures of a window in milliseconds; all zero where nothing was recorded.

    Attributes:
        count: number of values.
        mean_ms: arithmetic mean.
        p50_ms: median.
        p95_ms: 95th percentile.
        p99_ms: 99th percentile.
        max_ms: the largest value, exact up to an hour.

    """

    count: int = 0
    mean_ms: float = 0.0
    p50_ms: float = 0.0
    p95_ms: float = 0.0
    p99_ms: float = 0.0
    max_ms: float = 0.0


class LatencyWindow:
    """Latencies of the recent past. Not thread-safe.

    Values stand in HdrHistograms (G. Tene, http://hdrhistogram.org): percentiles are nearest-rank
    and right to 0.1 %. Values below 0 count as 0, values beyond an hour as an hour.
    """

    def __init__(
        self, horizon_s: float | None = 10.0, clock: Callable[[], int] = time.monotonic_ns
    ) -> None:
        """Start empty; see `Generations` for the arguments."""
        self._generations = Generations(_Histogram, horizon_s, clock)

    def record(self, duration_ns: int) -> None:
        """Record a latency in nanoseconds."""
        self.record_all((duration_ns,))

    def record_all(self, durations_ns: Sequence[int]) -> None:
        """Record latencies in nanoseconds; cheaper than one by one."""
        if durations_ns:
            self._generations.current().record_all(durations_ns)

    def clear(self) -> None:
        """Forget everything, e.g. because the clock jumped."""
        self._generations.clear()

    def summary(self) -> LatencySummary:
        """Summarise what was recorded within the horizon."""
        generations = self._generations.recent()
        counts = np.sum([generation.counts for generation in generations], axis=0)
        count = int(counts.sum())
        if count == 0:
            return LatencySummary()
        # Nearest rank: the smallest value that at least this share of all values does not exceed.
        ranks = [max(1, int(np.ceil(count * share))) for share in (0.50, 0.95, 0.99)]
        places = np.searchsorted(np.cumsum(counts), ranks)
        largest = max(generation.largest_ns for generation in generations)
        p50, p95, p99 = (
            min(generations[0].value(int(place)), largest) / NS_PER_MS for place in places
        )
        total = sum(generation.sum_ns for generation in generations)
        return LatencySummary(count, total / count / NS_PER_MS, p50, p95, p99, largest / NS_PER_MS)


class _Histogram:
    """An HdrHistogram whose counters can be read, and emptied, at once."""

    __slots__ = ("_histogram", "counts", "largest_ns", "sum_ns")

    def __init__(self) -> None:
        self._histogram: Any = HdrHistogram(_LOWEST_NS, _HIGHEST_NS, _DIGITS)
        # The library walks its counters one by one in Python; numpy reads them where they are.
        self.counts: npt.NDArray[np.int64] = np.frombuffer(self._histogram.counts, np.int64)
        self.sum_ns = 0
        self.largest_ns = 0

    def clear(self) -> None:
        self.counts[:] = 0
        self.sum_ns = 0
        self.largest_ns = 0

    def record_all(self, durations_ns: Sequence[int]) -> None:
        record = self._histogram.record_value
        values = [min(max(int(value), 0), _HIGHEST_NS) for value in durations_ns]
        for value in values:
            record(value)
        self.sum_ns += sum(values)
        self.largest_ns = max(self.largest_ns, *values)

    def value(self, index: int) -> int:
        """Return the middle of what counter `index` stands for, in nanoseconds."""
        lowest = self._histogram.get_value_from_index(index)
        highest = self._histogram.get_highest_equivalent_value(lowest)
        return int(lowest + highest) // 2
