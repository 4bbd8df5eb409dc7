# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Calibration: samples through the task's own preprocess, observed, turned into ranges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import onnx

from av_compress.build.observing import DirectObserving, Observation, Observing
from av_compress.build.recipe import ThresholdConfig
from av_compress.build.samples import SampleSet
from av_compress.compress.emit.insertion import Ranges
from av_compress.compress.observe.choose import choose_ranges
from av_compress.compress.observe.observers import HistogramObserver
from av_compress.compress.observe.statistics import PROBE_FRAMES, Wanted
from av_compress.compress.observe.thresholds import ThresholdMethod, find_range
from av_compress.data.sampling import stride
from av_compress.engines.manifest import CalibrationRecord, FrameDigest
from av_compress.fileio import sha256_bytes
from av_compress.progress import track
from av_compress.tasks.base import Task

# The method that takes another one for each tensor.
BEST = "best"
# It tries them on so many of the frames.
TRIAL_FRAMES = 8


@dataclass(frozen=True)
class Calibration:
    """What calibration found.

    Attributes:
        observers: tensor name -> statistics of the activations.
        ranges: tensor name -> lowest and highest value represented.
        methods: tensor name -> the method that chose its range.
        magnitudes: tensor name -> largest magnitude, for every float tensor.
        record: which frames, how chosen, for the manifest.

    """

    observers: Mapping[str, HistogramObserver]
    ranges: Ranges
    methods: Mapping[str, str]
    magnitudes: Mapping[str, float]
    record: CalibrationRecord

    def with_ranges(self, ranges: Ranges, method: str) -> Calibration:
        """Return this with other ranges for some tensors, chosen by a method."""
        return replace(
            self,
            ranges={**self.ranges, **ranges},
            methods={**self.methods, **dict.fromkeys(ranges, method)},
        )

    def joined(self, other: Calibration) -> Calibration:
        """Return this with the tensors of another model over the same frames added."""
        return replace(
            self,
            observers={**other.observers, **self.observers},
            ranges={**other.ranges, **self.ranges},
            methods={**other.methods, **self.methods},
            magnitudes={**other.magnitudes, **self.magnitudes},
        )


def calibrate(
    model: onnx.ModelProto,
    tensors: Sequence[str],
    task: Task[Any, Any],
    samples: SampleSet,
    threshold: ThresholdConfig,
    observing: Observing | None = None,
) -> Calibration:
    """Observe `tensors` over the samples, one at a time, and choose a range for each.

    Args:
        model: FP32 model with inferred shapes.
        tensors: names of float tensors.
        task: makes the input tensors.
        samples: the frames.
        threshold: how ranges are chosen.
        observing: where observations come from; by default a run over the samples.

    Raises:
        DataError: a sample or an activation is not finite; the frame is named.

    """
    wanted = Wanted(histograms=tuple(tensors), magnitudes=PROBE_FRAMES)
    observation = Observation(model, wanted, task, samples)
    found = (observing or DirectObserving()).statistics(observation)
    chosen = _choose(observation, found.histograms, threshold)
    return Calibration(
        observers=found.histograms,
        ranges={name: limits for name, (limits, _) in chosen.items()},
        methods={name: method for name, (_, method) in chosen.items()},
        magnitudes=found.magnitudes,
        record=_record(samples, threshold),
    )


def _choose(
    observation: Observation,
    observers: Mapping[str, HistogramObserver],
    config: ThresholdConfig,
) -> dict[str, tuple[tuple[float, float], str]]:
    """Choose a range for every observed tensor, and name the method that did."""
    if config.method == BEST:
        samples, task = observation.samples, observation.task
        positions = stride(len(samples), min(len(samples), TRIAL_FRAMES))
        frames = samples.frames_at(positions, "frames to try thresholds on")
        inputs = [task.preprocess(frame).tensors for frame in frames]
        choices = choose_ranges(observation.model, observers, inputs)
        return {name: (choice.range, choice.method) for name, choice in choices.items()}
    method = ThresholdMethod(config.method)
    return {
        name: (find_range(observer, method, config.percentile), config.method)
        for name, observer in track(observers.items(), f"thresholds: {config.method}")
    }


def _record(samples: SampleSet, threshold: ThresholdConfig) -> CalibrationRecord:
    return CalibrationRecord(
        source=samples.source.description,
        sampling=samples.sampling,
        threshold=threshold.method,
        sha256=sha256_bytes("\n".join(samples.hashes).encode()),
        frames=tuple(
            FrameDigest(samples.source.key(index), sha256)
            for index, sha256 in zip(samples.indices, samples.hashes)
        ),
    )
