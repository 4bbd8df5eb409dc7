# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Accuracy of a model on labelled images, through the task that serves it."""

from __future__ import annotations

from dataclasses import dataclass

from av_compress.data.base import LabelledSource
from av_compress.engines.pipeline import Pipeline
from av_compress.errors import DataError
from av_compress.metrics.average_precision import DetectionAP, average_precision, map_labels
from av_compress.progress import track
from av_compress.tasks.base import Detections2D


@dataclass(frozen=True)
class Evaluation:
    """How well a model does on a data set.

    Attributes:
        frames: number of images.
        detections: number of detections over all images.
        accuracy: COCO average precision, overall and per class.

    """

    frames: int
    detections: int
    accuracy: DetectionAP


def evaluate(pipeline: Pipeline, source: LabelledSource) -> Evaluation:
    """Run every image of a labelled source and measure COCO average precision.

    Raises:
        DataError: no label names a class of the task.
        FrameError: an image cannot be decoded; a result over the others would not be comparable.

    """
    names = pipeline.task.class_names
    results: list[Detections2D] = []
    labels = []
    for index in track(range(len(source)), "evaluate"):
        results.append(pipeline.process(source.read(index)).result)
        labels.append(map_labels(source.labels(index), source.class_names, names))
    if not any(len(frame) for frame in labels):
        raise DataError(
            f"no label of {source.description} names a class of the task; the labels have "
            f"{', '.join(source.class_names[:5])} ..., the task has {', '.join(names[:5])} ..."
        )
    found = sum(len(result) for result in results)
    return Evaluation(len(results), found, average_precision(results, labels, names))
