# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Two models on the same frames, taking turns: latency, agreement, and accuracy against labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from av_compress.data.base import FrameSource, LabelledSource
from av_compress.engines.pipeline import Pipeline
from av_compress.errors import ConfigError, DataError, FrameError
from av_compress.metrics.accuracy import accuracy_of
from av_compress.metrics.agreement import Agreement, summarise
from av_compress.progress import track
from av_compress.telemetry.windows import NS_PER_MS
from av_compress.validate.compare import Comparison, compare


@dataclass(frozen=True)
class Measured:
    """What one model made of the frames.

    Attributes:
        engine: backend, provider and precision in a few words.
        latency_ms: span name -> median over the frames; `total` is that of the sums per frame.
        accuracy: metric -> points against labels; empty where the frames have none.

    """

    engine: str
    latency_ms: Mapping[str, float]
    accuracy: Mapping[str, float]


@dataclass(frozen=True)
class SideBySide:
    """What two models made of the same frames.

    Attributes:
        source: the frames, in words.
        frames: how many were run.
        bad: how many could not be used.
        a: the first model.
        b: the second model.
        agreement: b's results held against a's.

    """

    source: str
    frames: int
    bad: int
    a: Measured
    b: Measured
    agreement: Agreement


def run_side_by_side(
    a: Pipeline, b: Pipeline, source: FrameSource, frames: int, comparison: Comparison
) -> SideBySide:
    """Run two models on the same frames.

    They take turns at each frame, and at going first, so that whatever else the machine does falls
    on both. Their threads must not spin between runs: see `OrtOptions.session_config`.

    Args:
        a: the first, against which the other is held.
        b: the second.
        source: where the frames come from.
        frames: at most how many, spread evenly over the source.
        comparison: when two boxes are the same object, and which boxes count.

    Raises:
        ConfigError: the two do not know the same classes.
        DataError: not one frame can be used.
        EngineError: a model does not run.

    """
    if list(a.task.class_names) != list(b.task.class_names):
        raise ConfigError(
            "the two do not know the same classes: "
            f"{_some(a.task.class_names)} and {_some(b.task.class_names)}"
        )
    used, (first, second) = _run((a, b), source, frames)
    accuracy = accuracy_of(a.task)
    agreements = [
        compare(one, two, accuracy, comparison) for one, two in zip(first.results, second.results)
    ]
    return SideBySide(
        source=source.description,
        frames=len(used),
        bad=len(_chosen(len(source), frames)) - len(used),
        a=_measured(a, first, source, used),
        b=_measured(b, second, source, used),
        agreement=summarise(agreements, a.task.class_names),
    )


@dataclass(frozen=True)
class _Record:
    """What one model yielded, frame by frame."""

    results: list[Any]
    spans: list[dict[str, int]]


def _run(
    pipelines: tuple[Pipeline, Pipeline], source: FrameSource, frames: int
) -> tuple[list[int], tuple[_Record, _Record]]:
    """Run every chosen frame; return the indices of those that could be used."""
    records = (_Record([], []), _Record([], []))
    used: list[int] = []
    reason = ""
    for turn, index in enumerate(track(_chosen(len(source), frames), "run both")):
        order = (0, 1) if turn % 2 == 0 else (1, 0)
        try:
            frame = source.read(index)
            if not used:
                # First runs take far longer.
                for pipeline in pipelines:
                    pipeline.process(frame)
            done = {which: pipelines[which].process(frame) for which in order}
        except FrameError as error:
            reason = reason or str(error)
            continue
        for which, processed in done.items():
            records[which].results.append(processed.result)
            records[which].spans.append(processed.spans)
        used.append(index)
    if not used:
        raise DataError(f"no frame of {source.description} can be used; the first: {reason}")
    return used, records


def _chosen(count: int, most: int) -> list[int]:
    """Spread at most so many indices evenly."""
    taken = min(count, most)
    return [index * count // taken for index in range(taken)]


def _measured(
    pipeline: Pipeline, record: _Record, source: FrameSource, used: Sequence[int]
) -> Measured:
    names = record.spans[0]
    latency = {name: median(s.get(name, 0) for s in record.spans) / NS_PER_MS for name in names}
    latency["total"] = median(sum(s.values()) for s in record.spans) / NS_PER_MS
    accuracy = {}
    if isinstance(source, LabelledSource):
        known, judged = pipeline.task.class_names, accuracy_of(pipeline.task)
        labels = [judged.in_classes(source.labels(i), source.class_names, known) for i in used]
        found = judged.on_labels(record.results, labels, known)
        if found.truths:
            accuracy = {"ap50": 100 * found.ap50, "ap": 100 * found.ap}
    return Measured(pipeline.engine.description, latency, accuracy)


def _some(names: Sequence[str]) -> str:
    return f"{len(names)} ({', '.join(names[:3])}{', ...' * (len(names) > 3)})"
