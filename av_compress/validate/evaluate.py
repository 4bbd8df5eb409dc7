# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Accuracy of a model on labelled frames, through the task that serves it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from av_compress.data.base import GradedSource, LabelledSource, ScopedSource
from av_compress.data.content import content_sha256, labels_sha256
from av_compress.engines.pipeline import Pipeline
from av_compress.errors import DataError
from av_compress.fileio import sha256_bytes
from av_compress.metrics.accuracy import accuracy_of
from av_compress.metrics.coco_protocol import DetectionAP
from av_compress.metrics.kitti import KittiAP, kitti_average_precision
from av_compress.metrics.nuscenes import (
    DETECTION_CVPR_2019,
    NuscenesAP,
    nuscenes_average_precision,
)
from av_compress.progress import track
from av_compress.tasks.base import Detections3D

# Of many class names, an error names so many.
_NAMED_AT_MOST = 5


@dataclass(frozen=True)
class Evaluation:
    """How well a model does on a data set.

    Attributes:
        frames: number of frames.
        frames_sha256: hash over the hashes of what the frames show, in order.
        labels_sha256: hash of the true objects, in the task's classes.
        detections: number of detections over all frames.
        accuracy: average precision by the COCO protocol, overall and per class; of footprints
            where boxes lie in space.
        kitti: difficulty -> average precision by KITTI's protocol; empty for boxes in images, and
            where `nuscenes` is there.
        nuscenes: average precision and errors by nuScenes' protocol, if the data set is its.

    """

    frames: int
    frames_sha256: str
    labels_sha256: str
    detections: int
    accuracy: DetectionAP
    kitti: Mapping[str, KittiAP]
    nuscenes: NuscenesAP | None = None


def evaluate(pipeline: Pipeline, source: LabelledSource) -> Evaluation:
    """Run every frame of a labelled source and measure average precision.

    Raises:
        DataError: no label names a class of the task.
        FrameError: a frame cannot be decoded; a result over the others would not be comparable.

    """
    names, judged = pipeline.task.class_names, accuracy_of(pipeline.task)
    labels = [
        judged.in_classes(source.labels(index), source.class_names, names)
        for index in range(len(source))
    ]
    # Told before an hour of frames, not after it.
    if not any(judged.counting(frame).any() for frame in labels):
        raise DataError(
            f"no label of {source.description} names a class of the task; the labels have "
            f"{_some(source.class_names)}, the task has {_some(names)}"
        )
    results: list[Any] = []
    digests: list[str] = []
    for index in track(range(len(source)), "evaluate"):
        frame = source.read(index)
        digests.append(content_sha256(frame))
        results.append(pipeline.process(frame).result)
    in_space = pipeline.task.result_type is Detections3D
    return Evaluation(
        frames=len(results),
        frames_sha256=sha256_bytes("\n".join(digests).encode()),
        labels_sha256=labels_sha256(labels) or "",
        detections=sum(len(result) for result in results),
        accuracy=judged.on_labels(results, labels, names),
        kitti=_by_difficulty(source, results, labels, names) if in_space else {},
        nuscenes=_by_distance(source, results, labels, names) if in_space else None,
    )


def _by_difficulty(
    source: LabelledSource, results: Sequence[Any], labels: Sequence[Any], names: Sequence[str]
) -> Mapping[str, KittiAP]:
    """Measure by KITTI's protocol, unless the data set is nuScenes'.

    A graded source tells which boxes are small.
    """
    if isinstance(source, ScopedSource):
        return {}
    heights = None
    if isinstance(source, GradedSource):
        heights = [source.heights(index, result.boxes) for index, result in enumerate(results)]
    return kitti_average_precision(results, labels, names, heights=heights)


def _by_distance(
    source: LabelledSource, results: Sequence[Any], labels: Sequence[Any], names: Sequence[str]
) -> NuscenesAP | None:
    """Measure by nuScenes' protocol, if the data set is its: a scoped source tells what counts."""
    if not isinstance(source, ScopedSource):
        return None
    scopes = [source.scope(index) for index in range(len(source))]
    return nuscenes_average_precision(results, labels, names, DETECTION_CVPR_2019, scopes)


def _some(names: Sequence[str]) -> str:
    more = len(names) - _NAMED_AT_MOST
    return ", ".join(names[:_NAMED_AT_MOST]) + (f" and {more} more" if more > 0 else "")
