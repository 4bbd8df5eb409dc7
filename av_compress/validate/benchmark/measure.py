# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Timing by turns, with trtexec's method.

Latency is what NVIDIA's trtexec calls so: "the summation of H2D Latency, GPU Compute Time, and
D2H Latency. This is the latency to infer a single query." Each is taken between events of the
device; inputs wait in page-locked memory. As trtexec does by default, a model warms up for 200 ms
(`--warmUp`), then runs at least 10 times (`--iterations`) and for at least 3 s (`--duration`),
one run after the other without a pause (`--idleTime` 0); the median is the figure to quote.
Definitions: https://docs.nvidia.com/deeplearning/tensorrt/latest/performance/benchmarking.html
and `trtexec --verbose`, "Explanations of the performance metrics".

What trtexec does not do: several models take turns of a tenth of that time each, so that a
machine whose clock or temperature drifts is fair to all. The first run of a turn is not counted:
what others left in the caches is not the model's own.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Protocol, runtime_checkable

from av_compress.engines.base import RunTiming
from av_compress.errors import UsageError
from av_compress.metrics.benchmark import Latencies, Throughput, summarise
from av_compress.progress import track
from av_compress.telemetry.windows import NS_PER_MS, NS_PER_S

TURNS = 10


@dataclass(frozen=True)
class BenchmarkOptions:
    """How long to measure.

    Attributes:
        iterations: least number of counted runs of each model.
        seconds: least duration of the counted runs of each model.
        warm_up_ms: how long each runs before.
        batch: frames in each run.

    Raises:
        UsageError: a value is out of its range.

    """

    iterations: int = 10
    seconds: float = 3.0
    warm_up_ms: float = 200.0
    batch: int = 1

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.iterations < 1:
            raise UsageError(f"--iterations {self.iterations}: measure at least one run")
        if not 0 <= self.seconds < float("inf"):
            raise UsageError(f"--seconds {self.seconds}: give a duration of at least 0")
        if not 0 <= self.warm_up_ms < float("inf"):
            raise UsageError(f"--warm-up {self.warm_up_ms}: give at least 0 milliseconds")
        if self.batch < 1:
            raise UsageError(f"--batch {self.batch}: a run takes at least one frame")

    @property
    def turns(self) -> int:
        """Into how many turns a model's runs are divided."""
        return min(TURNS, self.iterations)


class Runs(Protocol):
    """A model with its inputs, ready to run again and again."""

    def once(self) -> RunTiming:
        """Run once, from the inputs' copy to the outputs'; nothing else is in flight."""
        ...


@runtime_checkable
class OverlappingRuns(Runs, Protocol):
    """A model that takes the next inputs while others are on their way.

    Attributes:
        in_flight: how many runs may be on their way at once.

    """

    in_flight: int

    def begin(self) -> None:
        """Put a run on its way; at most `in_flight` of them."""
        ...

    def end(self) -> None:
        """Wait for the run that began first."""
        ...


@dataclass
class Taken:
    """What one model took.

    Attributes:
        timings: of the counted runs, turn by turn.
        one_by_one_ns: duration of these runs on the host's clock.
        in_flight: how many runs were on their way at once; 1 where the model takes no more.
        ended: runs that ended while others were in flight.
        in_flight_ns: how long that lasted on the host's clock.

    """

    timings: list[list[RunTiming]] = field(default_factory=list)
    one_by_one_ns: int = 0
    in_flight: int = 1
    ended: int = 0
    in_flight_ns: int = 0

    @property
    def runs(self) -> int:
        """How many runs count."""
        return sum(map(len, self.timings))

    def latencies(self) -> Latencies:
        """Summarise the counted runs by stage."""
        runs = [timing for turn in self.timings for timing in turn]
        return Latencies(
            total=summarise([_total_ns(timing) for timing in runs]),
            h2d=summarise([timing.h2d_ns for timing in runs]),
            execute=summarise([timing.execute_ns for timing in runs]),
            d2h=summarise([timing.d2h_ns for timing in runs]),
        )

    def turn_medians_ms(self) -> tuple[float, ...]:
        """Return the median latency of each turn."""
        return tuple(median(map(_total_ns, turn)) / NS_PER_MS for turn in self.timings)

    def throughput(self, batch: int) -> tuple[Throughput, ...]:
        """Return frames a second, one run at a time and, where that was done, several."""
        found = [Throughput(1, batch * self.runs * NS_PER_S / max(1, self.one_by_one_ns))]
        if self.ended:
            per_s = batch * self.ended * NS_PER_S / max(1, self.in_flight_ns)
            found.append(Throughput(self.in_flight, per_s))
        return tuple(found)


def measure(models: Sequence[Runs], options: BenchmarkOptions) -> list[Taken]:
    """Time models by turns; who is first changes at every turn.

    Args:
        models: at least one.
        options: how long.

    Returns:
        What each took, in the order of `models`.

    Raises:
        EngineError: a model does not run.

    """
    taken = [Taken() for _ in models]
    for one in models:
        _warm_up(one, options.warm_up_ms)
    places = list(range(len(models)))
    for turn in track(range(options.turns), "benchmark"):
        first = turn % len(models)
        for place in places[first:] + places[:first]:
            _take_turn(models[place], taken[place], options)
    return taken


def _warm_up(model: Runs, least_ms: float) -> None:
    end = time.perf_counter_ns() + int(least_ms * NS_PER_MS)
    model.once()
    while time.perf_counter_ns() < end:
        model.once()


def _take_turn(model: Runs, taken: Taken, options: BenchmarkOptions) -> None:
    least_runs = -(-options.iterations // options.turns)
    least_ns = int(options.seconds * NS_PER_S / options.turns)
    model.once()
    _one_by_one(model, taken, least_runs, least_ns)
    if isinstance(model, OverlappingRuns):
        _in_flight(model, taken, least_runs, least_ns)


def _one_by_one(model: Runs, taken: Taken, least_runs: int, least_ns: int) -> None:
    timings: list[RunTiming] = []
    started = now = time.perf_counter_ns()
    while len(timings) < least_runs or now - started < least_ns:
        timings.append(model.once())
        now = time.perf_counter_ns()
    taken.timings.append(timings)
    taken.one_by_one_ns += now - started


def _in_flight(model: OverlappingRuns, taken: Taken, least_runs: int, least_ns: int) -> None:
    for _ in range(model.in_flight):
        model.begin()
    # From here on the device is never without a next run.
    model.end()
    ended, started = 0, time.perf_counter_ns()
    now = started
    while ended < least_runs or now - started < least_ns:
        model.begin()
        model.end()
        ended += 1
        now = time.perf_counter_ns()
    taken.in_flight = model.in_flight
    taken.ended += ended
    taken.in_flight_ns += now - started
    for _ in range(model.in_flight - 1):
        model.end()


def _total_ns(timing: RunTiming) -> int:
    return timing.h2d_ns + timing.execute_ns + timing.d2h_ns
