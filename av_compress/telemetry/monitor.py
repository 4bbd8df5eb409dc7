# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""One node's health: what its frames cost, what it lost, and whether that is acceptable."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum

from av_compress.telemetry.clocks import ClockWatch
from av_compress.telemetry.spans import SPAN_NAMES
from av_compress.telemetry.windows import (
    NS_PER_MS,
    NS_PER_S,
    Generations,
    LatencySummary,
    LatencyWindow,
)

# Frames that wait for the next report, which sorts them into the windows. Reports come about once
# a second; without any, the frame that fills the queue pays for all of them.
_PENDING = 1024
_FOREIGN_CLOCK_NS = 60 * NS_PER_S


class Level(IntEnum):
    """How well it goes; the values are those of diagnostic_msgs/DiagnosticStatus."""

    OK = 0
    WARN = 1
    ERROR = 2


@dataclass(frozen=True)
class Limits:
    """What is acceptable. A limit of 0 is off.

    Attributes:
        max_allowed_processing_time_ms: decode to publish; WARN while the last frame took longer.
        max_acceptable_consecutive_delay_ms: ERROR once every frame has taken longer for this long.
        deadline_ms: from the input's stamp to publication; a later result is a deadline miss.
        warn_miss_ratio: WARN where this share of recent frames or more missed the deadline.
        error_miss_ratio: ERROR likewise.
        warn_drop_ratio: WARN where this share of recent frames or more was dropped.
        error_drop_ratio: ERROR likewise.
        input_timeout_ms: ERROR when no frame has come for this long.
        max_clock_jump_s: how far ahead the clock may jump before the windows are cleared.

    """

    max_allowed_processing_time_ms: float = 0.0
    max_acceptable_consecutive_delay_ms: float = 0.0
    deadline_ms: float = 0.0
    warn_miss_ratio: float = 0.0
    error_miss_ratio: float = 0.0
    warn_drop_ratio: float = 0.0
    error_drop_ratio: float = 0.0
    input_timeout_ms: float = 0.0
    max_clock_jump_s: float = 10.0


@dataclass
class Counts:
    """Frames by what became of them.

    Attributes:
        received: arrived at the node.
        processed: served, their result published.
        dropped: thrown away because a newer one came first.
        failed: could not be decoded or served.
        deadline_misses: of the processed ones, published after the deadline.
        degraded: of the processed ones, made of less than could be, such as fewer sweeps.

    """

    received: int = 0
    processed: int = 0
    dropped: int = 0
    failed: int = 0
    deadline_misses: int = 0
    degraded: int = 0

    def clear(self) -> None:
        """Count from zero again."""
        for name in vars(self):
            setattr(self, name, 0)


@dataclass(frozen=True)
class Report:
    """A node's health at one moment.

    Attributes:
        level: the worst of all conditions.
        message: every condition that is not OK, or `OK`.
        figures: key of the diagnostics -> number.

    """

    level: Level
    message: str
    figures: Mapping[str, int | float]


Condition = tuple[Level, str]


class Monitor:
    """Collects what happens to frames and judges it. Thread-safe."""

    def __init__(
        self,
        limits: Limits,
        horizon_s: float = 10.0,
        steady_clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Start without frames.

        Args:
            limits: what is acceptable.
            horizon_s: how far back percentiles and ratios reach.
            steady_clock: steady time in nanoseconds.

        """
        self.limits = limits
        self._steady_clock = steady_clock
        self._lock = threading.Lock()
        names = (*SPAN_NAMES, "processing_time", "pipeline_latency")
        self._windows = {name: LatencyWindow(horizon_s, steady_clock) for name in names}
        self._recent = Generations(Counts, horizon_s, steady_clock)
        self._total = Counts()
        self._pending: list[tuple[int, dict[str, int]]] = []
        self._horizon_ns = int(horizon_s * NS_PER_S)
        self._watch = ClockWatch(limits.max_clock_jump_s, steady_clock)
        self._clock_jumps = 0
        self._input_since = steady_clock()
        self._last_failure = ""
        self._last_note = ""
        self._last: Mapping[str, int] = {}
        self._slow_since: int | None = None

    def received(self, now_ns: int) -> None:
        """Count an arriving frame; `now_ns` is the node's clock."""
        with self._lock:
            self._look_at_clock(now_ns)
            self._input_since = self._steady_clock()
            self._count("received")

    def dropped(self) -> None:
        """Count a frame that a newer one replaced."""
        with self._lock:
            self._count("dropped")

    def failed(self, reason: str) -> None:
        """Count a frame that could not be served."""
        with self._lock:
            self._last_failure = reason
            self._count("failed")

    def degraded(self, note: str) -> None:
        """Count a processed frame that was made of less than could be; `note` says why."""
        with self._lock:
            self._last_note = note
            self._count("degraded")

    def processed(self, spans: Mapping[str, int]) -> None:
        """Count a frame whose result was published.

        Args:
            spans: span name -> nanoseconds; `input_age` is the age of the frame's stamp when work
                on it began, and may be negative or absurd where clocks disagree.

        """
        age = spans.get("input_age", 0)
        processing = sum(spans.values()) - age
        entry = {**spans, "processing_time": processing, "pipeline_latency": age + processing}
        with self._lock:
            self._last = entry
            self._pending.append((self._steady_clock(), entry))
            self._count("processed")
            if 0 < self.limits.deadline_ms * NS_PER_MS < age + processing:
                self._count("deadline_misses")
            self._judge_processing(processing)
            if len(self._pending) >= _PENDING:
                self._sort_in()

    def forget(self) -> None:
        """Forget the recent past, as when serving begins anew; totals stay."""
        with self._lock:
            self._forget()
            self._last = {}
            self._input_since = self._steady_clock()

    def report(self, now_ns: int) -> Report:
        """Judge the recent past; `now_ns` is the node's clock."""
        with self._lock:
            self._look_at_clock(now_ns)
            self._sort_in()
            conditions = [
                condition
                for judge in (
                    self._input_silent,
                    self._clock_foreign,
                    self._slow,
                    self._missing_deadlines,
                    self._dropping,
                    self._failing,
                    self._degrading,
                )
                if (condition := judge()) is not None
            ]
            level = max((level for level, _ in conditions), default=Level.OK)
            message = "; ".join(text for _, text in conditions) or "OK"
            return Report(level, message, self._figures())

    def summary(self, name: str) -> LatencySummary:
        """Summarise a span, `processing_time` or `pipeline_latency`."""
        with self._lock:
            self._sort_in()
            return self._windows[name].summary()

    def totals(self) -> Counts:
        """Return the counts since the start."""
        with self._lock:
            return Counts(**vars(self._total))

    def _count(self, name: str) -> None:
        for counts in (self._total, self._recent.current()):
            setattr(counts, name, getattr(counts, name) + 1)

    def _sort_in(self) -> None:
        pending, self._pending = self._pending, []
        horizon = self._steady_clock() - self._horizon_ns
        recent = [spans for finished, spans in pending if finished > horizon]
        for name, window in self._windows.items():
            window.record_all([spans[name] for spans in recent if name in spans])

    def _look_at_clock(self, now_ns: int) -> None:
        if not self._watch.jumped(now_ns):
            return
        self._clock_jumps += 1
        self._forget()

    def _forget(self) -> None:
        self._pending = []
        for window in self._windows.values():
            window.clear()
        self._recent.clear()
        self._slow_since = None

    def _judge_processing(self, processing_ns: int) -> None:
        if not 0 < self.limits.max_allowed_processing_time_ms * NS_PER_MS < processing_ns:
            self._slow_since = None
        elif self._slow_since is None:
            self._slow_since = self._steady_clock()

    def _input_silent(self) -> Condition | None:
        timeout = self.limits.input_timeout_ms * NS_PER_MS
        silent = self._steady_clock() - self._input_since
        if not 0 < timeout < silent:
            return None
        return Level.ERROR, f"no input for {silent / NS_PER_S:.1f} s"

    def _clock_foreign(self) -> Condition | None:
        age = self._last.get("input_age", 0)
        if abs(age) < _FOREIGN_CLOCK_NS:
            return None
        return Level.WARN, (
            f"input stamps are {age / NS_PER_S:.0f} s from the node's clock: "
            "set use_sim_time, or synchronise the clocks"
        )

    def _slow(self) -> Condition | None:
        if self._slow_since is None:
            return None
        limits = self.limits
        last = self._last["processing_time"] / NS_PER_MS
        text = f"processing took {last:.1f} ms, allowed {limits.max_allowed_processing_time_ms:g}"
        lasting = (self._steady_clock() - self._slow_since) / NS_PER_MS
        if 0 < limits.max_acceptable_consecutive_delay_ms < lasting:
            return Level.ERROR, f"{text}, for {lasting / 1000:.1f} s"
        return Level.WARN, text

    def _missing_deadlines(self) -> Condition | None:
        recent = self._recent_counts()
        return _ratio(
            f"of {recent.processed} results came after the deadline of "
            f"{self.limits.deadline_ms:g} ms",
            recent.deadline_misses,
            recent.processed,
            (self.limits.warn_miss_ratio, self.limits.error_miss_ratio),
        )

    def _dropping(self) -> Condition | None:
        recent = self._recent_counts()
        return _ratio(
            f"of {recent.received} frames were dropped",
            recent.dropped,
            recent.received,
            (self.limits.warn_drop_ratio, self.limits.error_drop_ratio),
        )

    def _failing(self) -> Condition | None:
        failed = self._recent_counts().failed
        if failed == 0:
            return None
        return Level.WARN, f"{failed} bad frames, the last: {self._last_failure}"

    def _degrading(self) -> Condition | None:
        recent = self._recent_counts()
        if recent.degraded == 0:
            return None
        return Level.WARN, (
            f"{recent.degraded} of {recent.processed} results were made of less than could be, "
            f"the last: {self._last_note}"
        )

    def _recent_counts(self) -> Counts:
        generations = self._recent.recent()
        return Counts(
            **{
                name: sum(getattr(counts, name) for counts in generations)
                for name in vars(self._total)
            }
        )

    def _figures(self) -> dict[str, int | float]:
        figures: dict[str, int | float] = {}
        for name in ("processing_time", "pipeline_latency", "input_age"):
            figures[f"{name}_ms"] = self._last.get(name, 0) / NS_PER_MS
        for name, window in self._windows.items():
            summary = window.summary()
            figures[f"{name}_p50_ms"] = summary.p50_ms
            figures[f"{name}_p95_ms"] = summary.p95_ms
            figures[f"{name}_p99_ms"] = summary.p99_ms
            figures[f"{name}_max_ms"] = summary.max_ms
        return {**figures, **vars(self._total), "clock_jumps": self._clock_jumps}


def _ratio(text: str, part: int, whole: int, limits: tuple[float, float]) -> Condition | None:
    share = part / whole if whole else 0.0
    warn, error = limits
    if 0 < error <= share:
        return Level.ERROR, f"{part} {text}"
    if 0 < warn <= share:
        return Level.WARN, f"{part} {text}"
    return None
