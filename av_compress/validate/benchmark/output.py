# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""A benchmark as text for the terminal, and as JSON values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from av_compress.metrics.benchmark import BenchmarkResult, TimedModel
from av_compress.report.numbers import NONE, fixed, milliseconds, percent, plural
from av_compress.report.tables import Table

_LAYERS_SHOWN = 30


def benchmark_json(result: BenchmarkResult) -> dict[str, Any]:
    """Return a benchmark as JSON values; milliseconds, and shares of 1."""
    return {
        **asdict(result),
        "models": [{**asdict(model), "drift": model.drift} for model in result.models],
    }


def benchmark_text(result: BenchmarkResult) -> str:
    """Write the machine, the table of models, the stages, and what was left out."""
    parts = [
        "\n".join(_head(result)),
        Table(_HEADERS, [_row(model, result.models[0]) for model in result.models], left=2).text(),
        "\n".join(_legend(result)),
    ]
    parts += [_layers(model) for model in result.models if model.layers]
    if result.left_out:
        parts.append("\n".join(f"not timed: {one.name}: {one.reason}" for one in result.left_out))
    return "\n\n".join(parts)


_HEADERS = (
    *("model", "computes in", "p50 ms", "p95", "p99", "max", "copy in", "execute", "copy out"),
    *("drift", "frames/s", "in flight", "speed"),
)


def _head(result: BenchmarkResult) -> Iterator[str]:
    yield f"bundle {result.bundle}, sha256 {result.sha256[:12]}"
    named = {"cpu": "processor", "gpu": "card", "power_mode": "power mode"}
    for key, value in result.machine.items():
        yield f"{named.get(key, key.replace('_', ' '))}: {value}"
    method = result.method
    yield (
        f"batch {method['batch']:.0f}, {result.inputs}; at least {method['iterations']:.0f} runs "
        f"and {method['seconds']:g} s each, in {method['turns']:.0f} turns, after "
        f"{method['warm_up_ms']:g} ms"
    )


def _row(model: TimedModel, first: TimedModel) -> tuple[str, ...]:
    total, stages = model.latencies.total, model.latencies
    shown = (total.p50_ms, total.p95_ms, total.p99_ms, total.max_ms)
    split = (stages.h2d.p50_ms, stages.execute.p50_ms, stages.d2h.p50_ms)
    alone, *together = model.throughput
    return (
        model.name,
        model.precision,
        *map(milliseconds, (*shown, *split)),
        percent(model.drift),
        fixed(alone.frames_per_s, 1),
        fixed(together[0].frames_per_s, 1) if together else NONE,
        f"{first.latencies.total.p50_ms / total.p50_ms:.2f} x" if total.p50_ms else NONE,
    )


def _legend(result: BenchmarkResult) -> Iterator[str]:
    yield "p50 is the host latency as trtexec defines it: copy in + execution + copy out, median."
    yield "drift: how far apart the medians of the turns lie. speed: by p50, of the first = 1."
    for model in result.models:
        flying = [one.in_flight for one in model.throughput[1:]]
        more = f", {flying[0]} in flight" if flying else ""
        yield f"{model.name}: {model.engine}; {plural(model.runs, 'run')}{more}"


def _layers(model: TimedModel) -> str:
    whole = sum(layer.median_ms for layer in model.layers)
    slowest = sorted(model.layers, key=lambda layer: -layer.median_ms)
    rows = [
        (
            layer.name,
            layer.kind,
            layer.reads,
            fixed(layer.median_ms, 4),
            percent(layer.median_ms / whole if whole else None),
        )
        for layer in slowest
    ]
    headers = ("layer, the slowest first", "kind", "reads", "ms", "share")
    table = Table(headers, rows, left=3).text(_LAYERS_SHOWN)
    return f"{model.name}: {plural(len(rows), 'layer')}, {fixed(whole, 3)} ms\n{table}"
