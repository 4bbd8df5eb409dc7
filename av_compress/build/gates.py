# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Gates: the FP32 model and a candidate, judged on the same frames through the same task."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import onnx

from av_compress.build.recipe import GateConfig
from av_compress.build.samples import SampleSet
from av_compress.data.base import LabelledSource
from av_compress.engines.manifest import GateRecord
from av_compress.engines.onnxruntime import OnnxRuntimeEngine, OrtOptions
from av_compress.engines.pipeline import Pipeline
from av_compress.errors import ConfigError, DataError
from av_compress.metrics.average_precision import (
    DetectionAP,
    average_precision,
    average_precision_against,
    map_labels,
)
from av_compress.tasks.base import Detections2D, Labels2D, Task

# A reference detection counts as truth from this score on: what a stack would act upon.
CONFIDENT_SCORE = 0.25


@dataclass(frozen=True)
class Observed:
    """What one model made of the gate samples.

    Attributes:
        results: detections per frame, in the samples' order.
        engine: backend and provider in a few words.
        execute_ms: median execution time per frame, in milliseconds.

    """

    results: tuple[Detections2D, ...]
    engine: str
    execute_ms: float


@dataclass(frozen=True)
class Judge:
    """The gate samples and their truths, against which every candidate is measured.

    Attributes:
        config: metric and limit.
        samples: the frames.
        class_names: the task's class names.
        reference: what the FP32 model made of the samples.
        labels: true objects per frame in the task's classes; None for a source without labels.

    """

    config: GateConfig
    samples: SampleSet
    class_names: Sequence[str]
    reference: Observed
    labels: tuple[Labels2D, ...] | None

    def observe(self, pipeline: Pipeline, label: str) -> Observed:
        """Run every gate sample through a candidate."""
        return observe(pipeline, self.samples, label)

    def precisions(self, observed: Observed) -> dict[str, DetectionAP]:
        """Measure results against every truth there is: `labels` and `agreement`."""
        against = average_precision_against(
            self.reference.results,
            observed.results,
            min_score=CONFIDENT_SCORE,
            class_names=self.class_names,
        )
        measured = {"agreement": against}
        if self.labels is not None:
            labels = average_precision(observed.results, self.labels, self.class_names)
            measured["labels"] = labels
        return measured

    def figures(self, observed: Observed) -> dict[str, float]:
        """Return every accuracy figure in points, rounded so that equal runs print the same."""
        measured = self.precisions(observed)
        named = {"agreement": "agreement_", "labels": ""}
        return {
            f"{named[truth]}{metric}": round(100.0 * value, 4)
            for truth, result in measured.items()
            for metric, value in (("ap", result.ap), ("ap50", result.ap50))
        }

    def gate(self, observed: Observed) -> GateRecord:
        """Compare a candidate with FP32 in the recipe's metric."""
        metric, reference = self.config.metric, self.figures(self.reference)
        candidate = self.figures(observed)
        return GateRecord(
            metric=metric,
            reference=reference[metric],
            candidate=candidate[metric],
            max_loss=self.config.max_loss,
            passed=reference[metric] - candidate[metric] <= self.config.max_loss,
            source=self.samples.source.description,
            frames=len(self.samples),
            figures={**{f"fp32_{name}": v for name, v in reference.items()}, **candidate},
        )


def measuring_pipeline(task: Task[Any, Any], model: onnx.ModelProto, exact: bool) -> Pipeline:
    """Open a model for judging.

    Args:
        task: what it means.
        model: any form.
        exact: compute every Q/DQ pair as it stands, as TensorRT would.

    Raises:
        ModelError: the model does not load, or does not fit the task.

    """
    options = OrtOptions(exact_quantization=exact)
    return Pipeline(task.for_measuring(), OnnxRuntimeEngine(model.SerializeToString(), options))


def observe(pipeline: Pipeline, samples: SampleSet, label: str) -> Observed:
    """Run samples through a pipeline."""
    results, times = [], []
    for frame in samples.frames(label):
        processed = pipeline.process(frame)
        results.append(processed.result)
        times.append(processed.spans["execute"])
    return Observed(tuple(results), pipeline.engine.description, median(times) / 1e6)


def make_judge(config: GateConfig, samples: SampleSet, reference: Pipeline) -> Judge:
    """Collect the truths of the gate samples.

    Raises:
        ConfigError: the metric needs labels that the source does not have.
        DataError: the FP32 model sees nothing there to lose, or the labels name no class of it.

    """
    class_names = reference.task.class_names
    labels = _labels(samples, class_names)
    if labels is None and not config.metric.startswith("agreement"):
        raise ConfigError(
            f"gate.metric: {config.metric!r} needs labels, which {samples.source.description} "
            "does not have; allowed: agreement_ap50, agreement_ap"
        )
    observed = observe(reference, samples, "gate: FP32")
    judge = Judge(config, samples, class_names, observed, labels)
    _check_truth(judge)
    return judge


def _labels(samples: SampleSet, class_names: Sequence[str]) -> tuple[Labels2D, ...] | None:
    source = samples.source
    if not isinstance(source, LabelledSource):
        return None
    return tuple(
        map_labels(source.labels(index), source.class_names, class_names)
        for index in samples.indices
    )


def _check_truth(judge: Judge) -> None:
    """Refuse a gate that any model would pass for want of objects."""
    samples = judge.samples
    if judge.config.metric.startswith("agreement"):
        seen = _count(judge.reference.results)
        if seen == 0:
            raise DataError(
                f"gate: the FP32 model detects nothing with score over {CONFIDENT_SCORE} on the "
                f"{len(samples)} gate samples of {samples.source.description}; check the task's "
                "preprocess and head, or choose other frames"
            )
    elif judge.labels is not None and not any(len(labels) for labels in judge.labels):
        raise DataError(
            f"gate: none of the labels of {samples.source.description} names a class of the task "
            f"({', '.join(judge.class_names[:5])} ...)"
        )


def _count(results: Iterable[Detections2D]) -> int:
    return sum(int((result.scores > CONFIDENT_SCORE).sum()) for result in results)
