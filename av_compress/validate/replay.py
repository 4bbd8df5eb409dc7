# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Replay: every recorded frame, in order, through the path that the node uses. Without ROS."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from av_compress.data.base import FrameSource
from av_compress.engines.pipeline import Pipeline
from av_compress.errors import ConfigError, DataError, FrameError
from av_compress.metrics.accuracy import accuracy_of
from av_compress.metrics.agreement import Agreement, summarise
from av_compress.metrics.replay import (
    BadFrame,
    FrameRecord,
    ReplayedModel,
    ReplayResult,
    WorstFrame,
)
from av_compress.progress import track
from av_compress.telemetry.spans import SpanRecorder
from av_compress.validate.compare import Comparison, Limits, compare, disagreement, judge

# Takes index, frame and result of every usable frame, in order.
Sink: TypeAlias = Callable[[int, Any, Any], None]


@dataclass(frozen=True)
class Contestant:
    """A model under replay: what it is called, and the path its frames take."""

    model: ReplayedModel
    pipeline: Pipeline


@dataclass(frozen=True)
class ReplayOptions:
    """How to compare, what must hold, and how many of the worst frames to keep whole."""

    comparison: Comparison = field(default_factory=Comparison)
    limits: Limits = field(default_factory=Limits)
    worst_frames: int = 8


def replay(
    source: FrameSource,
    candidate: Contestant,
    reference: Contestant | None = None,
    sink: Sink | None = None,
    options: ReplayOptions | None = None,
) -> ReplayResult:
    """Replay every frame of a source.

    Candidate and reference take turns at the whole source, not at each frame: the threads of one
    would slow the other, and the latencies would be of neither.

    Args:
        source: the recorded frames.
        candidate: the bundle under test.
        reference: what to compare it with.
        sink: what takes the candidate's results, e.g. a bag.
        options: how to compare and what must hold.

    Raises:
        ConfigError: the two do not know the same classes, or a limit needs a reference.
        DataError: no frame at all can be used, or the source breaks off.
        EngineError: a model does not run.

    """
    options = options or ReplayOptions()
    _check(candidate, reference, options.limits)
    started = time.perf_counter()
    frames, bad = _run(source, candidate, sink)
    agreement = None
    if reference is not None:
        frames, worse = _compare(source, frames, reference, options.comparison)
        bad = sorted([*bad, *worse], key=lambda one: one.index)
        agreement = _summarise(frames, candidate)
    return ReplayResult(
        source=source.description,
        class_names=tuple(candidate.pipeline.task.class_names),
        candidate=candidate.model,
        reference=None if reference is None else reference.model,
        frames=tuple(frames),
        bad=tuple(bad),
        agreement=agreement,
        worst=_worst(source, frames, options.worst_frames),
        gates=judge(frames, len(bad), agreement, options.limits),
        wall_s=time.perf_counter() - started,
    )


def _check(candidate: Contestant, reference: Contestant | None, limits: Limits) -> None:
    if reference is None:
        if limits.need_reference:
            raise ConfigError("limits on agreement need a reference to agree with")
        return
    ours = list(candidate.pipeline.task.class_names)
    theirs = list(reference.pipeline.task.class_names)
    if ours != theirs:
        raise ConfigError(
            f"{candidate.model.name} and reference {reference.model.name} do not know the same "
            f"classes: {_some(ours)} and {_some(theirs)}"
        )


def _some(names: Sequence[str]) -> str:
    return f"{len(names)} ({', '.join(names[:3])}{', ...' * (len(names) > 3)})"


def _run(
    source: FrameSource, contestant: Contestant, sink: Sink | None
) -> tuple[list[FrameRecord], list[BadFrame]]:
    """Take all frames through the candidate."""
    frames: list[FrameRecord] = []
    bad: list[BadFrame] = []
    for index in track(range(len(source)), f"replay {contestant.model.name}"):
        try:
            if not frames:
                _warm_up(source, index, contestant.pipeline)
            frame, result, spans = _process(source, index, contestant.pipeline)
        except FrameError as error:
            bad.append(BadFrame(index, source.key(index), str(error)))
            continue
        frames.append(FrameRecord(index, frame.key, frame.stamp_ns, spans, result))
        if sink is not None:
            sink(index, frame, result)
    _check_any(frames, bad, source)
    return frames, bad


def _warm_up(source: FrameSource, index: int, pipeline: Pipeline) -> None:
    """Take a frame through the pipeline off the record: first runs take far longer."""
    pipeline.process(source.read(index))


def _check_any(
    frames: Sequence[FrameRecord], bad: Sequence[BadFrame], source: FrameSource
) -> None:
    if not frames:
        raise DataError(
            f"none of the {len(bad)} frames of {source.description} can be used; "
            f"the first: {bad[0].reason}"
        )


def _process(
    source: FrameSource, index: int, pipeline: Pipeline
) -> tuple[Any, Any, dict[str, int]]:
    recorder = SpanRecorder()
    with recorder.span("decode"):
        frame = source.read(index)
    processed = pipeline.process(frame)
    return frame, processed.result, {**recorder.spans(), **processed.spans}


def _compare(
    source: FrameSource,
    frames: Sequence[FrameRecord],
    reference: Contestant,
    comparison: Comparison,
) -> tuple[list[FrameRecord], list[BadFrame]]:
    """Take the candidate's frames through the reference as well."""
    accuracy = accuracy_of(reference.pipeline.task)
    compared: list[FrameRecord] = []
    bad: list[BadFrame] = []
    for record in track(frames, f"replay {reference.model.name}"):
        try:
            if not compared:
                _warm_up(source, record.index, reference.pipeline)
            _, result, spans = _process(source, record.index, reference.pipeline)
        except FrameError as error:
            bad.append(BadFrame(record.index, record.key, f"reference: {error}"))
            continue
        agreement = compare(result, record.result, accuracy, comparison)
        compared.append(
            replace(record, reference=result, reference_spans=spans, agreement=agreement)
        )
    _check_any(compared, bad, source)
    return compared, bad


def _summarise(frames: Sequence[FrameRecord], candidate: Contestant) -> Agreement:
    found = [frame.agreement for frame in frames if frame.agreement is not None]
    return summarise(found, candidate.pipeline.task.class_names)


def _worst(
    source: FrameSource, frames: Sequence[FrameRecord], count: int
) -> tuple[WorstFrame, ...]:
    """Read the frames that agree least once more; nothing is kept of the others."""
    weights = {frame.index: disagreement(frame) for frame in frames}
    ranked = sorted(frames, key=lambda frame: -weights[frame.index])[:count]
    whole = {
        frame.index: source.read(frame.index)
        for frame in sorted(ranked, key=lambda frame: frame.index)
        if weights[frame.index] > 0
    }
    return tuple(WorstFrame(frame, whole[frame.index]) for frame in ranked if frame.index in whole)
