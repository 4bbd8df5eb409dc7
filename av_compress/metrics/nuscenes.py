# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Average precision by the distance of centres, and errors of what was found: nuScenes' metrics.

Sources: Caesar et al., nuScenes: a multimodal dataset for autonomous driving, 2020; where it
leaves something open, nuscenes-devkit 1.2. Its attributes, and the score that needs them, are left
out.

Three things differ. Classes without true objects are left out, where the devkit counts them as 0;
labels may be ignored, where it removes objects and leaves what found them wrong; and distances,
headings and velocities are those in the plane of the cloud's frame, not of the world's ground: one
tilts against the other by no more than the vehicle and its LiDAR do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from av_compress.metrics.agreement import match
from av_compress.metrics.agreement3d import angle_between, center_distances
from av_compress.tasks.base import Detections3D, Labels3D
from av_compress.tasks.scope import Scope

Doubles = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

# Recalls 0, 0.01 .. 1.
_STEPS = 100
_RECALLS = np.linspace(0.0, 1.0, _STEPS + 1)

# Class -> farthest distance in metres at which its objects count.
NUSCENES_RANGES: Mapping[str, float] = {
    **dict.fromkeys(("car", "truck", "bus", "trailer", "construction_vehicle"), 50.0),
    **dict.fromkeys(("pedestrian", "motorcycle", "bicycle"), 40.0),
    **dict.fromkeys(("traffic_cone", "barrier"), 30.0),
}


@dataclass(frozen=True)
class NuscenesRules:
    """What is measured. Classes are named in lower case.

    Attributes:
        distances: in metres, below which a detection is right; precision is averaged over them.
        error_distance: the same for what the errors are measured of.
        min_recall: recalls up to this one are left out.
        min_precision: precision up to this one is worth nothing.
        ranges: class -> distance from the origin of the `Scope` in metres from which on neither
            objects nor detections count, such as `NUSCENES_RANGES`; others count everywhere.
        racked: classes of which neither objects nor detections count in the racks of the `Scope`.
        yaw_periods: class -> after how many radians a heading is the same; others after a turn.
        without_yaw: classes without a heading.
        without_velocity: classes that stand still.

    """

    distances: Sequence[float] = (0.5, 1.0, 2.0, 4.0)
    error_distance: float = 2.0
    min_recall: float = 0.1
    min_precision: float = 0.1
    ranges: Mapping[str, float] = field(default_factory=dict)
    racked: frozenset[str] = frozenset({"bicycle", "motorcycle"})
    yaw_periods: Mapping[str, float] = field(default_factory=lambda: {"barrier": np.pi})
    without_yaw: frozenset[str] = frozenset({"traffic_cone"})
    without_velocity: frozenset[str] = frozenset({"traffic_cone", "barrier"})

    @property
    def first(self) -> int:
        """The first of the recalls that count."""
        return round(_STEPS * self.min_recall) + 1

    def counting(self, name: str, boxes: npt.NDArray[np.floating], scope: Scope) -> Flags:
        """Tell which boxes [n, 7 or more] of a class count, bool [n]."""
        near = scope.distances(boxes) < self.ranges.get(name, np.inf)
        return near & ~scope.in_racks(boxes) if name in self.racked else near


# As the data set's own evaluation is configured, by the name of detection_cvpr_2019.
DETECTION_CVPR_2019 = NuscenesRules(ranges=NUSCENES_RANGES)


@dataclass(frozen=True)
class NuscenesErrors:
    """Errors of what was found, averaged over the recalls that count; 1 where none is reached.

    Attributes:
        translation: ATE, distance of the centres in bird's eye view, in metres.
        scale: ASE, 1 - intersection over union of boxes laid upon each other.
        orientation: AOE, in radians; None where headings mean nothing.
        velocity: AVE, in metres a second; None where none are known.

    """

    translation: float
    scale: float
    orientation: float | None
    velocity: float | None


@dataclass(frozen=True)
class NuscenesClassAP:
    """Figures of one class.

    Attributes:
        at: distance in metres -> average precision, in 0..1.
        errors: of what was found.
        truths: how many true objects count.

    """

    at: Mapping[float, float]
    errors: NuscenesErrors
    truths: int

    @property
    def ap(self) -> float:
        """Mean over the distances."""
        return float(np.mean(list(self.at.values())))


@dataclass(frozen=True)
class NuscenesAP:
    """Figures of the classes that have true objects.

    Attributes:
        per_class: class name -> its own figures.

    """

    per_class: Mapping[str, NuscenesClassAP]

    @property
    def ap(self) -> float:
        """Mean average precision over the classes, in 0..1; 0 without truths."""
        return _mean([one.ap for one in self.per_class.values()]) or 0.0

    @property
    def at(self) -> Mapping[float, float]:
        """Distance in metres -> average precision over the classes; empty without truths."""
        found = [one.at for one in self.per_class.values()]
        return {near: float(np.mean([at[near] for at in found])) for at in found for near in at}

    @property
    def errors(self) -> NuscenesErrors | None:
        """Mean errors, each over the classes that have it; None without truths."""
        found = [one.errors for one in self.per_class.values()]
        translation, scale = _mean([e.translation for e in found]), _mean([e.scale for e in found])
        if translation is None or scale is None:
            return None
        return NuscenesErrors(
            translation,
            scale,
            _mean([e.orientation for e in found if e.orientation is not None]),
            _mean([e.velocity for e in found if e.velocity is not None]),
        )

    @property
    def truths(self) -> int:
        """Count the true objects; without any, the figures mean nothing."""
        return sum(one.truths for one in self.per_class.values())


def nuscenes_average_precision(
    results: Sequence[Detections3D],
    labels: Sequence[Labels3D],
    class_names: Sequence[str],
    rules: NuscenesRules | None = None,
    scopes: Sequence[Scope] | None = None,
) -> NuscenesAP:
    """Measure average precision and errors over frames.

    Args:
        results: one entry a frame, found with a low score threshold.
        labels: one entry a frame, in the task's classes: see `labels3d.map_labels_3d`. A detection
            that is near an ignored object alone is neither right nor wrong.
        class_names: label index -> name.
        rules: what is measured.
        scopes: one entry a frame; by default ranges are measured from the frame's origin.

    Raises:
        ValueError: results, labels and scopes are not of the same number of frames.

    """
    scopes = [Scope()] * len(labels) if scopes is None else scopes
    if len(results) != len(labels):
        raise ValueError(f"{len(results)} results, but labels of {len(labels)} frames")
    if len(scopes) != len(labels):
        raise ValueError(f"{len(scopes)} scopes, but labels of {len(labels)} frames")
    rules = rules or NuscenesRules()
    per_class: dict[str, NuscenesClassAP] = {}
    for label, name in enumerate(class_names):
        frames = [
            _of_class(*frame, label, name.lower(), rules) for frame in zip(results, labels, scopes)
        ]
        truths = sum(len(frame.truths) for frame in frames)
        if truths:
            at = {
                distance: _average_precision(_found(frames, distance), truths, rules)
                for distance in rules.distances
            }
            found = _found(frames, rules.error_distance)
            per_class[name] = NuscenesClassAP(
                at, _errors(found, truths, name.lower(), rules), truths
            )
    return NuscenesAP(per_class)


@dataclass(frozen=True)
class _Frame:
    """One class in one frame.

    Attributes:
        boxes: float64 [n, 9], those found with their velocities, NaN where unknown.
        scores: float64 [n].
        truths: float64 [m, 9], the objects that count.
        ignored: float64 [k, 9], the others.
        told: whether the model tells velocities.

    """

    boxes: Doubles
    scores: Doubles
    truths: Doubles
    ignored: Doubles
    told: bool


def _of_class(
    result: Detections3D,
    labels: Labels3D,
    scope: Scope,
    label: int,
    name: str,
    rules: NuscenesRules,
) -> _Frame:
    found = _table(result.boxes, result.velocities)
    true = _table(labels.boxes, labels.velocities)
    own = (result.labels == label) & rules.counting(name, found, scope)
    theirs = (labels.labels == label) & rules.counting(name, true, scope)
    return _Frame(
        found[own],
        result.scores[own].astype(np.float64),
        true[theirs & ~labels.ignored],
        true[theirs & labels.ignored],
        result.velocities is not None,
    )


def _table(boxes: npt.NDArray[np.float32], velocities: npt.NDArray[np.float32] | None) -> Doubles:
    known = np.full((len(boxes), 2), np.nan) if velocities is None else velocities
    return np.concatenate([boxes.astype(np.float64), known], axis=1)


@dataclass(frozen=True)
class _Found:
    """All detections of a class that count, the best first.

    Attributes:
        scores: float64 [n].
        right: bool [n].
        boxes: float64 [right, 9], the right ones.
        truths: float64 [right, 9], what they found.
        moving: whether velocities are told, and some of the objects' known.

    """

    scores: Doubles
    right: Flags
    boxes: Doubles
    truths: Doubles
    moving: bool


def _found(frames: Sequence[_Frame], distance: float) -> _Found:
    """Match every frame's detections: each takes the nearest free object, if it is near enough."""
    scores, partners = [], []
    for frame in frames:
        apart = center_distances(frame.boxes, frame.truths)
        pairs = match(frame.scores, np.where(apart < distance, -apart, -np.inf))
        partner = np.full((len(frame.boxes), 18), np.nan)
        partner[:, :9] = frame.boxes
        partner[pairs[:, 1], 9:] = frame.truths[pairs[:, 0]]
        near_ignored = (center_distances(frame.boxes, frame.ignored) < distance).any(axis=1)
        counts = ~(near_ignored & np.isnan(partner[:, 9]))
        scores.append(frame.scores[counts])
        partners.append(partner[counts])
    joined, table = np.concatenate(scores), np.concatenate(partners)
    order = np.argsort(-joined, kind="stable")
    joined, table = joined[order], table[order]
    right = ~np.isnan(table[:, 9])
    told = any(frame.told for frame in frames)
    known = any(not np.isnan(frame.truths[:, 7:]).all() for frame in frames)
    return _Found(joined, right, table[right, :9], table[right, 9:], told and known)


def _average_precision(found: _Found, truths: int, rules: NuscenesRules) -> float:
    if not found.right.any():
        return 0.0
    hits = np.cumsum(found.right)
    precision = hits / np.arange(1, len(hits) + 1)
    curve = np.interp(_RECALLS, hits / truths, precision, right=0.0)
    worth = np.maximum(curve[rules.first :] - rules.min_precision, 0.0)
    return float(worth.mean() / (1.0 - rules.min_precision))


def _errors(found: _Found, truths: int, name: str, rules: NuscenesRules) -> NuscenesErrors:
    boxes, true = found.boxes, found.truths
    period = rules.yaw_periods.get(name, 2 * np.pi)
    shared = np.minimum(boxes[:, 3:6], true[:, 3:6]).prod(axis=1)
    union = boxes[:, 3:6].prod(axis=1) + true[:, 3:6].prod(axis=1) - shared
    speeds = np.hypot(*(boxes[:, 7:] - true[:, 7:]).T)
    heads = name not in rules.without_yaw
    moves = found.moving and name not in rules.without_velocity

    def over_recalls(errors: Doubles) -> float:
        return _over_recalls(errors, found, truths, rules.first)

    return NuscenesErrors(
        translation=over_recalls(np.hypot(*(boxes[:, :2] - true[:, :2]).T)),
        scale=over_recalls(1.0 - shared / union),
        orientation=over_recalls(angle_between(true[:, 6], boxes[:, 6], period))
        if heads
        else None,
        velocity=over_recalls(speeds) if moves else None,
    )


def _over_recalls(errors: Doubles, found: _Found, truths: int, first: int) -> float:
    """Average an error over the recalls that count and are reached.

    At each recall the error is the mean over what was found down to the score that reaches it.

    Args:
        errors: float64 [right], NaN where unknown.
        found: the detections.
        truths: how many objects there are.
        first: the first of the recalls that count.

    """
    known = np.cumsum(~np.isnan(errors))
    if len(known) == 0 or known[-1] == 0:
        return 1.0
    hits = np.cumsum(found.right)
    scores = np.interp(_RECALLS, hits / truths, found.scores, right=0.0)
    means = np.divide(np.nancumsum(errors), known, out=np.zeros(len(errors)), where=known > 0)
    # np.interp wants ascending places.
    curve = np.interp(scores[::-1], found.scores[found.right][::-1], means[::-1])[::-1]
    reached = np.flatnonzero(scores)
    last = int(reached[-1]) if len(reached) else 0
    return float(curve[first : last + 1].mean()) if last >= first else 1.0


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None
