# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What a replay found out, as data: for its report, its table and its gates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from av_compress.metrics.agreement import Agreement, FrameAgreement
from av_compress.tasks.base import ImageFrame, PointCloud
from av_compress.telemetry.spans import SPAN_NAMES
from av_compress.telemetry.windows import LatencySummary, LatencyWindow


@dataclass(frozen=True)
class ReplayedModel:
    """A model that was replayed.

    Attributes:
        name: the bundle's folder or the model's file name, without its path.
        sha256: hash of the bundle's manifest, or of the model file.
        engine: backend, provider and precision in a few words.

    """

    name: str
    sha256: str
    engine: str


@dataclass(frozen=True)
class FrameRecord:
    """One frame and what became of it.

    Attributes:
        index: position in the source, for reading it again.
        key: name of the frame in its source.
        stamp_ns: acquisition time in nanoseconds.
        spans: span name -> nanoseconds of the bundle under test: decode, preprocess, h2d,
            execute, d2h, postprocess.
        result: detections of the bundle under test, in the frame's own coordinates.
        reference: detections of the reference; None without one.
        reference_spans: as `spans`, of the reference; empty without one.
        agreement: how the two compare; None without a reference.

    """

    index: int
    key: str
    stamp_ns: int
    spans: Mapping[str, int]
    result: Any
    reference: Any = None
    reference_spans: Mapping[str, int] = field(default_factory=dict)
    agreement: FrameAgreement | None = None


@dataclass(frozen=True)
class BadFrame:
    """A frame that could not be used, and why."""

    index: int
    key: str
    reason: str


@dataclass(frozen=True)
class WorstFrame:
    """A frame on which bundle and reference agree least.

    Attributes:
        record: what became of it.
        frame: as it was recorded.

    """

    record: FrameRecord
    frame: ImageFrame | PointCloud


@dataclass(frozen=True)
class GateOutcome:
    """A measured condition and whether it holds.

    Attributes:
        metric: what was measured.
        value: its value.
        limit: the limit.
        bound: whether `value` must be at least (`min`) or at most (`max`) `limit`.

    """

    metric: str
    value: float
    limit: float
    bound: Literal["min", "max"]

    @property
    def passed(self) -> bool:
        """Tell whether the condition holds; it never does for a value that is not a number."""
        if self.bound == "min":
            return self.value >= self.limit
        return self.value <= self.limit

    def __str__(self) -> str:
        """Format as `matched 0.9712 >= 0.95: passed`."""
        sign = ">=" if self.bound == "min" else "<="
        verdict = "passed" if self.passed else "FAILED"
        return f"{self.metric} {self.value:.4g} {sign} {self.limit:.4g}: {verdict}"


@dataclass(frozen=True)
class ReplayResult:
    """A whole replay.

    Attributes:
        source: description of the frame source (bag and topic).
        class_names: label index -> name.
        candidate: the bundle under test.
        reference: what it was compared with; None where nothing was.
        frames: every usable frame, in order.
        bad: every frame that could not be used, in order.
        agreement: agreement over all frames; None without a reference.
        worst: the frames that agree least, worst first; empty without a reference.
        gates: the conditions the replay was held to.
        wall_s: duration of the replay in seconds.

    """

    source: str
    class_names: Sequence[str]
    candidate: ReplayedModel
    reference: ReplayedModel | None
    frames: tuple[FrameRecord, ...]
    bad: tuple[BadFrame, ...]
    agreement: Agreement | None
    worst: tuple[WorstFrame, ...] = ()
    gates: tuple[GateOutcome, ...] = ()
    wall_s: float = 0.0

    @property
    def passed(self) -> bool:
        """Tell whether every gate holds."""
        return all(gate.passed for gate in self.gates)


def latencies(frames: Sequence[Mapping[str, int]]) -> dict[str, LatencySummary]:
    """Summarise spans over frames.

    Args:
        frames: per frame, span name -> nanoseconds.

    Returns:
        Span name -> summary, in the order a frame passes through them, and `total`, the summary
        of the sums per frame.

    """
    names = [name for name in SPAN_NAMES if any(name in spans for spans in frames)]
    found = {name: _summary([spans.get(name, 0) for spans in frames]) for name in names}
    found["total"] = _summary([sum(spans.values()) for spans in frames])
    return found


def _summary(durations_ns: Sequence[int]) -> LatencySummary:
    window = LatencyWindow(horizon_s=None)
    window.record_all(durations_ns)
    return window.summary()
