# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Accuracy of a model on labelled images, through the task that serves it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from av_compress.data.base import LabelledSource
from av_compress.data.content import content_sha256
from av_compress.engines.pipeline import Pipeline
from av_compress.errors import DataError
from av_compress.fileio import sha256_bytes
from av_compress.metrics.average_precision import DetectionAP, average_precision, map_labels
from av_compress.progress import track
from av_compress.tasks.base import Detections2D

# Of many class names, an error names so many.
_NAMED_AT_MOST = 5


@dataclass(frozen=True)
class Evaluation:
    """How well a model does on a data set.

    Attributes:
        frames: number of images.
        frames_sha256: hash over the hashes of the images' pixels, in order.
        detections: number of detections over all images.
        accuracy: COCO average precision, overall and per class.

    """

    frames: int
    frames_sha256: str
    detections: int
    accuracy: DetectionAP


def evaluate(pipeline: Pipeline, source: LabelledSource) -> Evaluation:
    """Run every image of a labelled source and measure COCO average precision.

    Raises:
        DataError: no label names a class of the task.
        FrameError: an image cannot be decoded; a result over the others would not be comparable.

    """
    names = pipeline.task.class_names
    labels = [
        map_labels(source.labels(index), source.class_names, names) for index in range(len(source))
    ]
    # Told before an hour of images, not after it.
    if not any((~frame.crowd).any() for frame in labels):
        raise DataError(
            f"no label of {source.description} names a class of the task; the labels have "
            f"{_some(source.class_names)}, the task has {_some(names)}"
        )
    results: list[Detections2D] = []
    digests: list[str] = []
    for index in track(range(len(source)), "evaluate"):
        frame = source.read(index)
        digests.append(content_sha256(frame))
        results.append(pipeline.process(frame).result)
    return Evaluation(
        frames=len(results),
        frames_sha256=sha256_bytes("\n".join(digests).encode()),
        detections=sum(len(result) for result in results),
        accuracy=average_precision(results, labels, names),
    )


def _some(names: Sequence[str]) -> str:
    more = len(names) - _NAMED_AT_MOST
    return ", ".join(names[:_NAMED_AT_MOST]) + (f" and {more} more" if more > 0 else "")
