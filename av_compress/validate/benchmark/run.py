# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""A whole benchmark: load, feed, time by turns, look at the layers, and keep what plans took."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

from av_compress.data.base import FrameSource
from av_compress.engines.bundle import Bundle
from av_compress.engines.machine import describe
from av_compress.engines.measurements import describe_machine
from av_compress.engines.plans.measured import PlanTimes, keep_times
from av_compress.errors import AvCompressError, UsageError
from av_compress.metrics.benchmark import BenchmarkResult, TimedModel
from av_compress.progress import track
from av_compress.tensors import Tensors
from av_compress.validate.benchmark.contestants import (
    Contestant,
    Wanted,
    card_of,
    open_all,
)
from av_compress.validate.benchmark.inputs import random_inputs, recorded_inputs
from av_compress.validate.benchmark.measure import BenchmarkOptions, Taken, measure
from av_compress.validate.benchmark.runs import make_runs

# Runs whose layers are timed.
LAYER_RUNS = 20


def benchmark(
    bundle: Bundle,
    wanted: Wanted,
    options: BenchmarkOptions,
    source: FrameSource | None = None,
    layers: bool = False,
) -> tuple[BenchmarkResult, tuple[str, ...]]:
    """Time a bundle's models on this machine.

    What plans took is kept beside them, see `engines.plans.measured`.

    Args:
        bundle: verified.
        wanted: which models, on what.
        options: how long.
        source: frames to feed them; None: random numbers.
        layers: time each layer too, in runs of their own.

    Returns:
        what was measured, and warnings.

    Raises:
        UsageError: the batch is larger than the bundle's, or there is no such card.
        AvCompressError: what was demanded cannot be run, or nothing can; says why.

    """
    most = bundle.manifest.max_batch
    if options.batch > most:
        raise UsageError(
            f"--batch {options.batch}: {bundle.root} takes at most {most} frames at once; build "
            f"it with optimize: {{max_batch: {options.batch}}}"
        )
    with ExitStack() as stack:
        lineup = open_all(bundle, wanted, options.batch, stack)
        contestants = lineup.contestants
        inputs = _inputs(bundle, contestants, source, options.batch)
        taken = measure(
            [make_runs(one.engine, fed, options.batch) for one, fed in zip(contestants, inputs)],
            options,
        )
        card = card_of(contestants, wanted.device)
        timed = [
            _timed(one, what, options.batch, _layers(one, fed[0]) if layers else ())
            for one, what, fed in zip(contestants, taken, inputs)
        ]
    machine = {"cpu": describe_machine(), **describe(card)}
    result = BenchmarkResult(
        bundle=bundle.root.resolve().name,
        sha256=bundle.sha256,
        machine=machine,
        inputs="random numbers" if source is None else source.description,
        method={**asdict(options), "turns": options.turns},
        models=tuple(timed),
        left_out=lineup.left_out,
    )
    return result, tuple(_keep(contestants, timed, describe(card)))


def _inputs(
    bundle: Bundle, contestants: Sequence[Contestant], source: FrameSource | None, batch: int
) -> list[list[Tensors]]:
    if source is None:
        return [random_inputs(one.engine.inputs, batch) for one in contestants]
    recorded = recorded_inputs(source, bundle.task(), batch)
    return [recorded for _ in contestants]


def _timed(one: Contestant, taken: Taken, batch: int, layers: tuple[Any, ...]) -> TimedModel:
    return TimedModel(
        name=one.name,
        sha256=one.sha256,
        precision=one.precision,
        engine=one.engine.description,
        batch=batch,
        runs=taken.runs,
        latencies=taken.latencies(),
        turn_medians_ms=taken.turn_medians_ms(),
        throughput=taken.throughput(batch),
        layers=layers,
    )


def _layers(one: Contestant, tensors: Tensors) -> tuple[Any, ...]:
    (found,) = (one.profile(tensors, LAYER_RUNS) for _ in track(range(1), f"layers {one.name}"))
    return found


def _keep(
    contestants: Sequence[Contestant], timed: Sequence[TimedModel], machine: Mapping[str, str]
) -> Iterator[str]:
    """Keep what plans took; yield why it cannot be kept."""
    for one, model in zip(contestants, timed):
        if one.plan is None or one.bundle is None:
            continue
        try:
            keep_times(one.bundle.plans(), one.plan, _plan_times(model, machine))
        except AvCompressError as error:
            yield f"what {one.name} took is not kept beside it: {error}"


def _plan_times(model: TimedModel, machine: Mapping[str, str]) -> PlanTimes:
    total = model.latencies.total
    stages = ("h2d", "execute", "d2h")
    return PlanTimes(
        plan_sha256=model.sha256,
        machine=machine,
        batch=model.batch,
        runs=model.runs,
        latency_ms={name: getattr(total, f"{name}_ms") for name in ("p50", "p95", "p99", "max")},
        stages_ms={name: getattr(model.latencies, name).p50_ms for name in stages},
        drift=model.drift,
        frames_per_s={str(one.in_flight): one.frames_per_s for one in model.throughput},
    )
