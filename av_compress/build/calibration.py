# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Calibration: samples through the task's own preprocess, observed, turned into ranges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx

from av_compress.build.recipe import ThresholdConfig
from av_compress.build.samples import SampleSet
from av_compress.compress.emit.insertion import Ranges
from av_compress.compress.observe.calibrate import Calibrator, MagnitudeProbe
from av_compress.compress.observe.observers import HistogramObserver
from av_compress.compress.observe.thresholds import ThresholdMethod, find_range
from av_compress.data.images import content_sha256
from av_compress.engines.manifest import CalibrationRecord, FrameDigest
from av_compress.errors import DataError
from av_compress.fileio import sha256_bytes
from av_compress.progress import track
from av_compress.tasks.base import Task

# FP16 has a factor of 128 between the limit of its use and its overflow: a few frames show
# which tensors come near.
PROBE_FRAMES = 8


@dataclass(frozen=True)
class Calibration:
    """What calibration found.

    Attributes:
        observers: tensor name -> statistics of the activations.
        ranges: tensor name -> lowest and highest value represented.
        magnitudes: tensor name -> largest magnitude, for every float tensor.
        record: which frames, how chosen, for the manifest.

    """

    observers: Mapping[str, HistogramObserver]
    ranges: Ranges
    magnitudes: Mapping[str, float]
    record: CalibrationRecord


def calibrate(
    model: onnx.ModelProto,
    tensors: Sequence[str],
    task: Task[Any, Any],
    samples: SampleSet,
    threshold: ThresholdConfig,
) -> Calibration:
    """Observe `tensors` over the samples, one at a time, and choose a range for each.

    Raises:
        DataError: a sample or an activation is not finite; the frame is named.

    """
    calibrator, probe = Calibrator(model, tensors), MagnitudeProbe(model)
    digests: list[FrameDigest] = []
    for frame in samples.frames("calibrate"):
        prepared = task.preprocess(frame).tensors
        try:
            calibrator.observe(prepared)
        except DataError as error:
            raise DataError(f"calibration frame {frame.key}: {error}") from error
        if len(digests) < PROBE_FRAMES:
            probe.observe(prepared)
        digests.append(FrameDigest(frame.key, content_sha256(frame)))
    record = CalibrationRecord(
        source=samples.source.description,
        sampling=samples.sampling,
        threshold=threshold.method,
        sha256=sha256_bytes("\n".join(digest.sha256 for digest in digests).encode()),
        frames=tuple(digests),
    )
    ranges = choose_ranges(calibrator.observers, threshold)
    return Calibration(calibrator.observers, ranges, probe.magnitudes, record)


def choose_ranges(
    observers: Mapping[str, HistogramObserver], config: ThresholdConfig
) -> dict[str, tuple[float, float]]:
    """Choose a range for every observed tensor by the recipe's method."""
    method = ThresholdMethod(config.method)
    return {
        name: find_range(observer, method, config.percentile)
        for name, observer in track(observers.items(), f"thresholds: {config.method}")
    }
