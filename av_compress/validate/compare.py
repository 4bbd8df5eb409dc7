# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""How a replayed bundle is held against its reference, and against its limits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from av_compress.metrics.accuracy import Accuracy
from av_compress.metrics.agreement import Agreement, FrameAgreement, scoring
from av_compress.metrics.replay import FrameRecord, GateOutcome, latencies


@dataclass(frozen=True)
class Comparison:
    """When two boxes are the same object, and which boxes count.

    Attributes:
        iou_threshold: least overlap of a pair; of footprints where boxes lie in space.
        min_score: a box without a partner counts from this score on, a pair where one of the two
            has it. Set above the task's threshold, it keeps boxes out of the count that are there
            or not for the smallest reason, since the other model's box may lie just below.

    """

    iou_threshold: float = 0.5
    min_score: float = 0.0


@dataclass(frozen=True)
class Limits:
    """What a replay must hold; None leaves a condition out.

    Attributes:
        min_matched: share of the reference's boxes that the bundle finds again.
        max_extra: boxes that the reference does not have, as a share of the reference's.
        min_iou: mean overlap of matched boxes.
        max_score_shift: largest mean change of score of matched boxes, either way.
        max_p99_ms: 99th percentile of a frame's total time.
        max_bad: share of frames that cannot be used.

    """

    min_matched: float | None = None
    max_extra: float | None = None
    min_iou: float | None = None
    max_score_shift: float | None = None
    max_p99_ms: float | None = None
    max_bad: float | None = None

    @property
    def need_reference(self) -> bool:
        """Tell whether a condition compares with a reference."""
        return any(
            limit is not None
            for limit in (self.min_matched, self.max_extra, self.min_iou, self.max_score_shift)
        )


def compare(
    reference: Any, candidate: Any, accuracy: Accuracy, comparison: Comparison
) -> FrameAgreement:
    """Match the boxes of two results of one frame; see `Comparison`."""
    whole = accuracy.compare(reference, candidate, comparison.iou_threshold)
    return scoring(whole, reference, candidate, comparison.min_score)


def disagreement(record: FrameRecord) -> float:
    """Weigh how far a frame's two results are apart, for finding the worst frames.

    The scores of boxes without a partner, plus for each pair its lack of overlap and its change
    of score: what a stack would have seen differently, weighted by how sure the models were.
    """
    agreement, reference = record.agreement, record.reference
    if agreement is None or reference is None:
        return 0.0
    alone = reference.scores[agreement.missed].sum() + record.result.scores[agreement.extra].sum()
    shifted = (1.0 - agreement.iou).sum() + np.abs(agreement.score_shift).sum()
    return float(alone + shifted)


def judge(
    frames: Sequence[FrameRecord], bad: int, agreement: Agreement | None, limits: Limits
) -> tuple[GateOutcome, ...]:
    """Hold a replay to its limits.

    A value that nothing was measured for is NaN, and no limit holds for it: a drive without a
    single object proves nothing.
    """
    return tuple(_outcomes(frames, bad, agreement, limits))


def _outcomes(
    frames: Sequence[FrameRecord], bad: int, agreement: Agreement | None, limits: Limits
) -> Iterator[GateOutcome]:
    if agreement is not None:
        yield from _agreement_outcomes(agreement, limits)
    if limits.max_p99_ms is not None:
        p99 = latencies([frame.spans for frame in frames])["total"].p99_ms
        yield GateOutcome("p99_ms", p99, limits.max_p99_ms, "max")
    if limits.max_bad is not None:
        yield GateOutcome("bad", bad / (bad + len(frames)), limits.max_bad, "max")


def _agreement_outcomes(agreement: Agreement, limits: Limits) -> Iterator[GateOutcome]:
    truths = agreement.matched + agreement.missed
    if limits.min_matched is not None:
        matched = _ratio(agreement.matched, truths)
        yield GateOutcome("matched", matched, limits.min_matched, "min")
    if limits.max_extra is not None:
        extra = _ratio(agreement.extra, truths)
        yield GateOutcome("extra", extra, limits.max_extra, "max")
    if limits.min_iou is not None:
        yield GateOutcome("mean_iou", _number(agreement.mean_iou), limits.min_iou, "min")
    if limits.max_score_shift is not None:
        shift = abs(_number(agreement.mean_score_shift))
        yield GateOutcome("mean_score_shift", shift, limits.max_score_shift, "max")


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
