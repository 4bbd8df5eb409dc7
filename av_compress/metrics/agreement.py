# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""How far two models agree on the same frames: matched, missed and extra boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from av_compress.metrics.iou import iou_matrix
from av_compress.tasks.base import Detections2D

Doubles = npt.NDArray[np.float64]


class Scored(Protocol):
    """What every kind of detections has; see `Detections2D` and `Detections3D`."""

    @property
    def scores(self) -> npt.NDArray[np.float32]:
        """See `Detections2D`."""
        ...

    @property
    def labels(self) -> npt.NDArray[np.int32]:
        """See `Detections2D`."""
        ...

    def __len__(self) -> int:
        """Count the detections."""
        ...


@dataclass(frozen=True)
class PoseShifts:
    """How far the boxes of pairs in space have moved.

    Attributes:
        position: float64 [m], distance of the centres in metres.
        yaw: float64 [m], smallest angle between the headings in radians, 0..pi.

    """

    position: Doubles
    yaw: Doubles


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
        pose: how far the boxes of each pair have moved; None for boxes in an image.

    """

    pairs: npt.NDArray[np.intp]
    iou: Doubles
    score_shift: Doubles
    matched_labels: npt.NDArray[np.int32]
    missed: npt.NDArray[np.intp]
    missed_labels: npt.NDArray[np.int32]
    extra: npt.NDArray[np.intp]
    extra_labels: npt.NDArray[np.int32]
    pose: PoseShifts | None = None

    @property
    def rate(self) -> float:
        """Matched boxes as a part of all; 1 where neither model sees anything."""
        return _rate(len(self.pairs), len(self.missed), len(self.extra))


@dataclass(frozen=True)
class PoseTotals:
    """How far boxes in space have moved, over all pairs.

    Attributes:
        mean_position: mean distance of the centres in metres.
        max_position: the largest.
        mean_yaw: mean angle between the headings in radians, 0..pi.
        max_yaw: the largest; near pi where a box was turned back to front.

    """

    mean_position: float
    max_position: float
    mean_yaw: float
    max_yaw: float


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
        pose: how far the boxes of the pairs have moved; None without pairs, or in images.

    """

    matched: int
    missed: int
    extra: int
    mean_iou: float | None
    mean_score_shift: float | None
    max_score_shift: float | None
    pose: PoseTotals | None = field(default=None, kw_only=True)

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
    near = same_class(reference, candidate) & (overlaps >= iou_threshold)
    pairs = match(candidate.scores, np.where(near, overlaps, -np.inf))
    return agreement_of(reference, candidate, pairs, overlaps)


def same_class(reference: Scored, candidate: Scored) -> npt.NDArray[np.bool_]:
    """Tell which boxes are of one class, bool [candidate's, reference's]."""
    return np.asarray(candidate.labels[:, None] == reference.labels[None])


def match(scores: npt.NDArray[np.floating], closeness: Doubles) -> npt.NDArray[np.intp]:
    """Pair boxes of two sets: those of the one choose, in the order of their scores.

    Args:
        scores: [n], of the candidates, which choose.
        closeness: float64 [n, m], the larger the nearer a candidate is to what it may choose, -inf
            where the two cannot be the same object. Each takes the nearest that is free.

    Returns:
        intp [pairs, 2], indices of what was chosen and of the candidate.

    """
    choices = closeness.copy()
    pairs: list[tuple[int, int]] = []
    hopeful = np.flatnonzero((choices > -np.inf).any(axis=1))
    for index in hopeful[np.argsort(-scores[hopeful], kind="stable")]:
        partner = int(choices[index].argmax())
        if choices[index, partner] > -np.inf:
            pairs.append((partner, int(index)))
            choices[:, partner] = -np.inf
    return np.array(pairs, np.intp).reshape(-1, 2)


def agreement_of(
    reference: Scored, candidate: Scored, pairs: npt.NDArray[np.intp], overlaps: Doubles
) -> FrameAgreement:
    """Describe two results of one frame whose boxes were matched.

    Args:
        reference: of one frame.
        candidate: of the same frame.
        pairs: as `match` returns them.
        overlaps: float64 [candidate's, reference's], intersection over union.

    """
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


def scoring(
    whole: FrameAgreement, reference: Scored, candidate: Scored, min_score: float
) -> FrameAgreement:
    """Keep what counts from a score on: a pair where one of the two has it, else the box itself.

    Args:
        whole: how the two compare.
        reference: of the frame.
        candidate: of the frame.
        min_score: the least score that counts.

    """
    partners, chosen = whole.pairs[:, 0], whole.pairs[:, 1]
    pairs = np.maximum(reference.scores[partners], candidate.scores[chosen]) >= min_score
    missed = reference.scores[whole.missed] >= min_score
    extra = candidate.scores[whole.extra] >= min_score
    pose = whole.pose
    if pose is not None:
        pose = PoseShifts(pose.position[pairs], pose.yaw[pairs])
    return FrameAgreement(
        pairs=whole.pairs[pairs],
        iou=whole.iou[pairs],
        score_shift=whole.score_shift[pairs],
        matched_labels=whole.matched_labels[pairs],
        missed=whole.missed[missed],
        missed_labels=whole.missed_labels[missed],
        extra=whole.extra[extra],
        extra_labels=whole.extra_labels[extra],
        pose=pose,
    )


def summarise(frames: Sequence[FrameAgreement], class_names: Sequence[str]) -> Agreement:
    """Sum frames up, altogether and per class."""
    whole = _Joined.of(frames)
    seen = np.unique(np.concatenate([whole.matched, whole.missed, whole.extra])).astype(int)
    per_class = {class_names[label]: Totals(**whole.of_class(label).totals()) for label in seen}
    return Agreement(**whole.totals(), frames=len(frames), per_class=per_class)


@dataclass(frozen=True)
class _Joined:
    """All frames' boxes: the classes of pairs and others, and what was measured of the pairs."""

    matched: npt.NDArray[np.generic]
    missed: npt.NDArray[np.generic]
    extra: npt.NDArray[np.generic]
    iou: npt.NDArray[np.generic]
    shift: npt.NDArray[np.generic]
    position: npt.NDArray[np.generic] | None
    yaw: npt.NDArray[np.generic] | None

    @staticmethod
    def of(frames: Sequence[FrameAgreement]) -> _Joined:
        # Either all frames' boxes lie in space or none's.
        poses = [frame.pose for frame in frames if frame.pose is not None]
        return _Joined(
            matched=_joined([frame.matched_labels for frame in frames]),
            missed=_joined([frame.missed_labels for frame in frames]),
            extra=_joined([frame.extra_labels for frame in frames]),
            iou=_joined([frame.iou for frame in frames]),
            shift=_joined([frame.score_shift for frame in frames]),
            position=_joined([pose.position for pose in poses]) if poses else None,
            yaw=_joined([pose.yaw for pose in poses]) if poses else None,
        )

    def of_class(self, label: int) -> _Joined:
        pairs = self.matched == label
        return _Joined(
            self.matched[pairs],
            self.missed[self.missed == label],
            self.extra[self.extra == label],
            self.iou[pairs],
            self.shift[pairs],
            None if self.position is None else self.position[pairs],
            None if self.yaw is None else self.yaw[pairs],
        )

    def totals(self) -> dict[str, Any]:
        some = len(self.matched) > 0
        return {
            "matched": len(self.matched),
            "missed": len(self.missed),
            "extra": len(self.extra),
            "mean_iou": float(self.iou.mean()) if some else None,
            "mean_score_shift": float(self.shift.mean()) if some else None,
            "max_score_shift": float(np.abs(self.shift).max()) if some else None,
            "pose": self._pose() if some else None,
        }

    def _pose(self) -> PoseTotals | None:
        if self.position is None or self.yaw is None:
            return None
        return PoseTotals(
            float(self.position.mean()),
            float(self.position.max()),
            float(self.yaw.mean()),
            float(self.yaw.max()),
        )


def _joined(parts: list[npt.NDArray[np.generic]]) -> npt.NDArray[np.generic]:
    return np.concatenate(parts) if parts else np.zeros(0)


def _rate(matched: int, missed: int, extra: int) -> float:
    total = matched + missed + extra
    return matched / total if total else 1.0
