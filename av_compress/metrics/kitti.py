# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Average precision in bird's eye view and in space, by KITTI's protocol.

Sources: the KITTI object development kit of 2017 for matching, what is ignored, difficulties and
the 41 thresholds; Simonelli et al., Disentangling monocular 3D object detection, 2019, for the
mean over 40 recalls without 0.

Two things differ. Boxes are compared in the LiDAR's frame, where upright is not quite what it is
in the camera's: overlaps differ in their third digit. And a detection that is too small in the
image is ignored for its own class alone, where the kit lets it take objects of any other, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from av_compress.metrics.labels3d import only
from av_compress.tasks.base import Detections3D, Labels3D, Visibility
from av_compress.tasks.boxes3d import bev_iou, iou_3d

Doubles = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

_THRESHOLDS = 41
# Every fourth of the 41: recalls 0, 0.1 .. 1.
_TENTHS = 4


@dataclass(frozen=True)
class Difficulty:
    """Which objects count: what a camera sees of them.

    Attributes:
        min_height: in the image, in pixels; smaller detections are ignored, too.
        max_occlusion: as in `Visibility`.
        max_truncation: as in `Visibility`.

    """

    min_height: float
    max_occlusion: int
    max_truncation: float

    def excludes(self, seen: Visibility) -> Flags:
        """Tell which objects do not count."""
        # As float32, 0.3 is a little more than 0.3.
        truncation = np.round(seen.truncation.astype(np.float64), 6)
        return np.asarray(
            (seen.heights < self.min_height)
            | (seen.occlusion > self.max_occlusion)
            | (truncation > self.max_truncation)
        )


DIFFICULTIES: Mapping[str, Difficulty] = {
    "easy": Difficulty(40, 0, 0.15),
    "moderate": Difficulty(25, 1, 0.3),
    "hard": Difficulty(25, 2, 0.5),
}
# Where the labels do not tell what a camera sees.
ALL = "all"


@dataclass(frozen=True)
class KittiRules:
    """How much two boxes must overlap to be the same object.

    Attributes:
        iou: class name in lower case -> overlap that must be exceeded.
        otherwise: the same for every other class.

    """

    iou: Mapping[str, float] = field(
        default_factory=lambda: {"car": 0.7, "pedestrian": 0.5, "cyclist": 0.5}
    )
    otherwise: float = 0.5

    def iou_of(self, name: str) -> float:
        """Return the overlap that a class needs."""
        return self.iou.get(name.lower(), self.otherwise)


@dataclass(frozen=True)
class Precision:
    """Average precision, in 0..1.

    Each object found reaches one of the recalls at most: with fewer than 80 objects even a perfect
    model stays below 1, with n of them at about n / 40.

    Attributes:
        r40: mean over recalls 1/40, 2/40 .. 1.
        r11: mean over recalls 0, 0.1 .. 1, as before 2019; larger where little is found.

    """

    r40: float
    r11: float


@dataclass(frozen=True)
class KittiClassAP:
    """Average precision of one class at one difficulty.

    Attributes:
        bev: by the overlap of footprints.
        volume: by the overlap in space.
        truths: how many true objects count.
        iou: the overlap that was needed.

    """

    bev: Precision
    volume: Precision
    truths: int
    iou: float


@dataclass(frozen=True)
class KittiAP:
    """Average precision over the classes that have true objects which count.

    Attributes:
        per_class: class name -> its own figures.

    """

    per_class: Mapping[str, KittiClassAP]

    @property
    def bev(self) -> float:
        """Mean over the classes in bird's eye view, at 40 recalls; 0 without truths."""
        return _mean([one.bev.r40 for one in self.per_class.values()])

    @property
    def volume(self) -> float:
        """Mean over the classes in space, at 40 recalls; 0 without truths."""
        return _mean([one.volume.r40 for one in self.per_class.values()])

    @property
    def truths(self) -> int:
        """Count the true objects; without any, average precision means nothing."""
        return sum(one.truths for one in self.per_class.values())


def kitti_average_precision(
    results: Sequence[Detections3D],
    labels: Sequence[Labels3D],
    class_names: Sequence[str],
    rules: KittiRules | None = None,
    heights: Sequence[npt.NDArray[np.floating]] | None = None,
) -> dict[str, KittiAP]:
    """Measure average precision over frames.

    Args:
        results: one entry a frame, found with a low score threshold.
        labels: one entry a frame, in the task's classes: see `labels3d.map_labels_3d`, whose
            `KITTI_NEIGHBOURS` the protocol ignores. A detection of an ignored object is neither
            right nor wrong.
        class_names: label index -> name.
        rules: how much two boxes must overlap.
        heights: for every frame those of the result's boxes in the image, in pixels [n]; None:
            none is too small. See `kitti_calibration.Calibration.heights`.

    Returns:
        difficulty -> figures: `easy`, `moderate` and `hard` where all labels tell what a camera
        sees, else `all` alone.

    Raises:
        ValueError: results and labels are not of the same number of frames.

    """
    if len(results) != len(labels):
        raise ValueError(f"{len(results)} results, but labels of {len(labels)} frames")
    rules = rules or KittiRules()
    graded = all(frame.visibility is not None for frame in labels)
    levels: Mapping[str, Difficulty | None] = DIFFICULTIES if graded and labels else {ALL: None}
    sizes = heights or [np.full(len(result), np.inf) for result in results]
    found: dict[str, dict[str, KittiClassAP]] = {level: {} for level in levels}
    for label, name in enumerate(class_names):
        frames = [_of_class(*frame, label) for frame in zip(results, labels, sizes)]
        for level, difficulty in levels.items():
            graded_frames = [frame.at(difficulty) for frame in frames]
            truths = sum(int((~frame.ignored).sum()) for frame in graded_frames)
            if truths:
                iou = rules.iou_of(name)
                bev, volume = (
                    _precision(graded_frames, measure, iou, truths) for measure in (0, 1)
                )
                found[level][name] = KittiClassAP(bev, volume, truths, iou)
    return {level: KittiAP(per_class) for level, per_class in found.items()}


@dataclass(frozen=True)
class _Frame:
    """One class in one frame.

    Attributes:
        overlaps: float64 [2, objects, detections], of footprints and in space.
        scores: float64 [detections].
        heights: float64 [detections], in the image.
        small: bool [detections], too small to count.
        ignored: bool [objects], not to count.
        seen: of the objects.

    """

    overlaps: Doubles
    scores: Doubles
    heights: Doubles
    small: Flags
    ignored: Flags
    seen: Visibility | None

    def at(self, difficulty: Difficulty | None) -> _Frame:
        """Leave out what does not count at a difficulty."""
        if difficulty is None or self.seen is None:
            return self
        return replace(
            self,
            small=self.heights < difficulty.min_height,
            ignored=self.ignored | difficulty.excludes(self.seen),
        )


def _of_class(
    result: Detections3D, labels: Labels3D, heights: npt.NDArray[np.floating], label: int
) -> _Frame:
    own = result.labels == label
    rows = np.flatnonzero(labels.labels == label)
    truths = only(labels, rows, labels.labels[rows], labels.ignored[rows])
    boxes = result.boxes[own]
    return _Frame(
        overlaps=np.stack([bev_iou(truths.boxes, boxes), iou_3d(truths.boxes, boxes)]),
        scores=result.scores[own].astype(np.float64),
        heights=np.asarray(heights, np.float64)[own],
        small=np.zeros(len(boxes), np.bool_),
        ignored=truths.ignored,
        seen=truths.visibility,
    )


def _precision(frames: Sequence[_Frame], measure: int, iou: float, truths: int) -> Precision:
    hits = np.concatenate([_hits(frame, measure, iou) for frame in frames])
    thresholds = _thresholds(np.sort(hits)[::-1], truths)
    counts = np.zeros((2, len(thresholds)))
    for frame in frames:
        counts += _counts(frame, measure, iou, thresholds)
    right, wrong = counts
    curve = np.zeros(_THRESHOLDS)
    found = right + wrong
    curve[: len(thresholds)] = np.divide(right, found, out=np.zeros_like(right), where=found > 0)
    # The best precision at this recall or a higher one.
    curve = np.maximum.accumulate(curve[::-1])[::-1]
    return Precision(r40=float(curve[1:].mean()), r11=float(curve[::_TENTHS].mean()))


def _hits(frame: _Frame, measure: int, iou: float) -> Doubles:
    """Return the scores at which objects are found: each takes the best free detection."""
    free = np.ones(len(frame.scores), np.bool_)
    hits: list[float] = []
    for overlaps, ignored in zip(frame.overlaps[measure], frame.ignored):
        near = free & (overlaps > iou)
        if not near.any():
            continue
        chosen = int(np.where(near, frame.scores, -np.inf).argmax())
        free[chosen] = False
        if not (ignored or frame.small[chosen]):
            hits.append(float(frame.scores[chosen]))
    return np.array(hits, np.float64)


def _thresholds(hits: Doubles, truths: int) -> Doubles:
    """Choose the scores at which recall comes nearest to 0, 1/40 .. 1.

    Args:
        hits: scores of all objects found, descending.
        truths: how many objects there are.

    """
    chosen: list[float] = []
    last = len(hits) - 1
    recall = 0.0
    for index, score in enumerate(hits):
        left, right = (index + 1) / truths, (index + 2) / truths
        if index < last and right - recall < recall - left:
            continue
        chosen.append(float(score))
        recall += 1.0 / (_THRESHOLDS - 1)
    return np.array(chosen[:_THRESHOLDS], np.float64)


def _counts(frame: _Frame, measure: int, iou: float, thresholds: Doubles) -> Doubles:
    """Count right and wrong detections at every threshold: float64 [2, thresholds].

    Each object takes the free detection that overlaps it most; one that is too small only where
    there is no other.
    """
    free = frame.scores[None] >= thresholds[:, None]
    right = np.zeros(len(thresholds))
    if free.size == 0:
        return np.stack([right, right])
    for overlaps, ignored in zip(frame.overlaps[measure], frame.ignored):
        near = free & (overlaps > iou)
        large, small = near & ~frame.small, near & frame.small
        some = large.any(axis=1)
        best = np.where(large, overlaps, -1.0).argmax(axis=1)
        chosen = np.where(some, best, small.argmax(axis=1))
        taken = some | small.any(axis=1)
        free[taken, chosen[taken]] = False
        if not ignored:
            right += some
    return np.stack([right, (free & ~frame.small).sum(axis=1)])


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else 0.0
