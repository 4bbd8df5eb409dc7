# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What a benchmark measured: the facts of its table, its JSON and of what plans keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from av_compress.engines.layer_times import LayerTime
from av_compress.telemetry.windows import LatencySummary, LatencyWindow


@dataclass(frozen=True)
class Latencies:
    """Summaries of one model's runs, by stage.

    Attributes:
        total: host latency: the sum of the three below, run by run.
        h2d: inputs to the device.
        execute: the model itself.
        d2h: outputs back.

    """

    total: LatencySummary
    h2d: LatencySummary
    execute: LatencySummary
    d2h: LatencySummary


@dataclass(frozen=True)
class Throughput:
    """Frames a second, with so many batches on their way at once."""

    in_flight: int
    frames_per_s: float


@dataclass(frozen=True)
class TimedModel:
    """A model that was timed.

    Attributes:
        name: where it is from and which form, without paths.
        sha256: hash of what ran: of the plan, or of the ONNX model.
        precision: what it computes in, in a few words.
        engine: backend, version and device.
        batch: frames in each run.
        runs: how many were counted for the latencies.
        latencies: of these runs.
        turn_medians_ms: median total of each turn, in the order in which the turns came.
        throughput: one batch at a time first; then with as many in flight as the engine takes.
        layers: time of each layer; empty where it was not asked for.

    """

    name: str
    sha256: str
    precision: str
    engine: str
    batch: int
    runs: int
    latencies: Latencies
    turn_medians_ms: tuple[float, ...]
    throughput: tuple[Throughput, ...]
    layers: tuple[LayerTime, ...] = ()

    @property
    def drift(self) -> float:
        """How far apart the turns' medians lie, as a share of their median; 0 for one turn."""
        middle = median(self.turn_medians_ms)
        return (max(self.turn_medians_ms) - min(self.turn_medians_ms)) / middle if middle else 0.0


@dataclass(frozen=True)
class LeftOut:
    """What could not be timed, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class BenchmarkResult:
    """A whole benchmark.

    Attributes:
        bundle: name of the bundle's folder.
        sha256: hash of its manifest.
        machine: processor, and card with its power mode where there is one.
        inputs: what the models were fed, in words.
        method: how it was measured: runs, seconds and warm-up at least, turns.
        models: in the order in which they were asked for; the first is what the others are held
            against.
        left_out: what else there is.

    """

    bundle: str
    sha256: str
    machine: Mapping[str, str]
    inputs: str
    method: Mapping[str, float]
    models: tuple[TimedModel, ...]
    left_out: tuple[LeftOut, ...]


def summarise(durations_ns: Sequence[int]) -> LatencySummary:
    """Summarise durations in nanoseconds."""
    window = LatencyWindow(horizon_s=None)
    window.record_all(durations_ns)
    return window.summary()
