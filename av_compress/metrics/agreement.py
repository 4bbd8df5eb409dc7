# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""How far two models agree on the same frames: matched, missed and extra boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from av_compress.metrics.iou import iou_matrix
from av_compress.tasks.base import Detections2D


@dataclass(frozen=True)
class FrameAgreement:
    """Two results of one frame, box by box.

    Attributes:
        pairs: intp [m, 2], indices into reference and candidate of boxes that match.
        iou: float64 [m], overlap of each pair.
        score_shift: float64 [m], candidate's score minus reference's.
        matched_labels: int32 [m], class of each pair.
        missed: intp [k], indices into the reference of boxes without a partner.
        missed_labels: int32 [k], their classes.
        extra: intp [j], indices into the candidate of boxes without a partner.
        extra_labels: int32 [j], their classes.

    """

    pairs: npt.NDArray[np.intp]
    iou: npt.NDArray[np.float64]
    score_shift: npt.NDArray[np.float64]
    matched_labels: npt.NDArray[np.int32]
    missed: npt.NDArray[np.intp]
    missed_labels: npt.NDArray[np.int32]
    extra: npt.NDArray[np.intp]
    extra_labels: npt.NDArray[np.int32]

    @property
    def rate(self) -> float:
        """Matched boxes as a part of all; 1 where neither model sees anything."""
        return _rate(len(self.pairs), len(self.missed), len(self.extra))


@dataclass(frozen=True)
class Totals:
    """Agreement summed over frames.

    Attributes:
        matched: pairs of boxes.
        missed: boxes of the reference without a partner.
        extra: boxes of the candidate without a partner.
        mean_iou: mean overlap of the pairs; None without pairs.
        mean_score_shift: mean of candidate's score minus reference's; None without pairs.
        max_score_shift: largest absolute shift; None without pairs.

    """

    matched: int
    missed: int
    extra: int
    mean_iou: float | None
    mean_score_shift: float | None
    max_score_shift: float | None

    @property
    def rate(self) -> float:
        """Matched boxes as a part of all; 1 where neither model sees anything."""
        return _rate(self.matched, self.missed, self.extra)


@dataclass(frozen=True)
class Agreement(Totals):
    """Agreement over all frames.

    Attributes:
        frames: how many frames were compared.
        per_class: class name -> its totals, for classes that either model saw.

    """

    frames: int
    per_class: dict[str, Totals]


def compare_frame(
    reference: Detections2D, candidate: Detections2D, iou_threshold: float = 0.5
) -> FrameAgreement:
    """Match the boxes of two results of one frame.

    The candidate's boxes choose in the order of their scores: each takes the free reference box
    of its class that it overlaps most, if by at least `iou_threshold` (COCO's matching).
    """
    overlaps = iou_matrix(candidate.boxes, reference.boxes)
    same_class = candidate.labels[:, None] == reference.labels[None]
    free = np.ones(len(reference), np.bool_)
    pairs: list[tuple[int, int]] = []
    for index in np.argsort(-candidate.scores, kind="stable"):
        choices = np.where(free & same_class[index], overlaps[index], -1.0)
        partner = int(choices.argmax()) if free.any() else -1
        if partner >= 0 and choices[partner] >= iou_threshold:
            pairs.append((partner, int(index)))
            free[partner] = False
    return _frame_agreement(reference, candidate, pairs, overlaps)


def summarise(frames: Sequence[FrameAgreement], class_names: Sequence[str]) -> Agreement:
    """Sum frames up, altogether and per class."""
    matched = _joined([frame.matched_labels for frame in frames])
    missed = _joined([frame.missed_labels for frame in frames])
    extra = _joined([frame.extra_labels for frame in frames])
    iou = _joined([frame.iou for frame in frames])
    shift = _joined([frame.score_shift for frame in frames])
    seen = np.unique(np.concatenate([matched, missed, extra])).astype(int)
    per_class = {
        class_names[label]: Totals(
            int((matched == label).sum()),
            int((missed == label).sum()),
            int((extra == label).sum()),
            *_shifts(iou[matched == label], shift[matched == label]),
        )
        for label in seen
    }
    return Agreement(
        len(matched),
        len(missed),
        len(extra),
        *_shifts(iou, shift),
        frames=len(frames),
        per_class=per_class,
    )


def _frame_agreement(
    reference: Detections2D,
    candidate: Detections2D,
    matched: list[tuple[int, int]],
    overlaps: npt.NDArray[np.float64],
) -> FrameAgreement:
    pairs = np.array(matched, np.intp).reshape(-1, 2)
    partners, chosen = pairs[:, 0], pairs[:, 1]
    missed = np.setdiff1d(np.arange(len(reference)), partners)
    extra = np.setdiff1d(np.arange(len(candidate)), chosen)
    scores = candidate.scores[chosen].astype(np.float64)
    return FrameAgreement(
        pairs=pairs,
        iou=overlaps[chosen, partners],
        score_shift=scores - reference.scores[partners],
        matched_labels=reference.labels[partners],
        missed=missed,
        missed_labels=reference.labels[missed],
        extra=extra,
        extra_labels=candidate.labels[extra],
    )


def _joined(parts: list[npt.NDArray[np.generic]]) -> npt.NDArray[np.generic]:
    return np.concatenate(parts) if parts else np.zeros(0)


def _shifts(
    iou: npt.NDArray[np.generic], shift: npt.NDArray[np.generic]
) -> tuple[float | None, float | None, float | None]:
    if len(iou) == 0:
        return None, None, None
    return float(iou.mean()), float(shift.mean()), float(np.abs(shift).max())


def _rate(matched: int, missed: int, extra: int) -> float:
    total = matched + missed + extra
    return matched / total if total else 1.0
