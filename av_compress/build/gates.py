# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Gates: the FP32 model and a candidate, judged on the same frames through the same task."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import onnx

from av_compress.build.recipe import GateConfig
from av_compress.build.samples import SampleSet
from av_compress.data.base import LabelledSource
from av_compress.engines.base import Engine, RunResult
from av_compress.engines.manifest import GateRecord
from av_compress.engines.onnxruntime import OnnxRuntimeEngine, OrtOptions
from av_compress.engines.pipeline import Pipeline
from av_compress.errors import ConfigError, DataError, FrameError
from av_compress.metrics.accuracy import Accuracy, accuracy_of
from av_compress.metrics.coco_protocol import DetectionAP
from av_compress.metrics.shift import CONFIDENT_SCORE
from av_compress.tasks.base import Task
from av_compress.tensors import Tensors


@dataclass(frozen=True)
class Observed:
    """What one model made of the gate samples.

    Attributes:
        results: detections per frame, in the samples' order.

    """

    results: tuple[Any, ...]


@dataclass(frozen=True)
class ClassLoss:
    """What a class loses against FP32, in points, and of how many true objects."""

    points: float
    truths: int


@dataclass(frozen=True)
class Judge:
    """The gate samples and their truths, against which every candidate is measured.

    Attributes:
        config: metric and limit.
        samples: the frames.
        class_names: the task's class names.
        accuracy: how the task's results are judged.
        reference: what the FP32 model made of the samples.
        labels: true objects per frame in the task's classes; None for a source without labels.

    """

    config: GateConfig
    samples: SampleSet
    class_names: Sequence[str]
    accuracy: Accuracy
    reference: Observed
    labels: tuple[Any, ...] | None

    def observe(self, pipeline: Pipeline, label: str) -> Observed:
        """Run every gate sample through a candidate."""
        return observe(pipeline, self.samples, label)

    def precisions(self, observed: Observed) -> dict[str, DetectionAP]:
        """Measure results against every truth there is: `labels` and `agreement`."""
        names, results = self.class_names, observed.results
        against = self.accuracy.against(self.reference.results, results, CONFIDENT_SCORE, names)
        measured = {"agreement": against}
        if self.labels is not None:
            measured["labels"] = self.accuracy.on_labels(results, self.labels, names)
        return measured

    def figures(self, observed: Observed) -> dict[str, float]:
        """Return every accuracy figure in points, rounded so that equal runs print the same."""
        return _figures(self.precisions(observed))

    @cached_property
    def reference_precisions(self) -> dict[str, DetectionAP]:
        """The FP32 model's own; see `precisions`."""
        return self.precisions(self.reference)

    def class_losses(self, observed: Observed) -> dict[str, ClassLoss]:
        """Return what each class loses against FP32 in the recipe's metric."""
        truth, metric = split_metric(self.config.metric)
        reference = self.reference_precisions[truth].per_class
        found = self.precisions(observed)[truth].per_class
        return {
            name: ClassLoss(
                points=round(100.0 * (getattr(one, metric) - getattr(found[name], metric)), 4),
                truths=one.truths,
            )
            for name, one in reference.items()
        }

    def gate(self, observed: Observed) -> GateRecord:
        """Compare a candidate with FP32 in the recipe's metric."""
        metric, reference = self.config.metric, _figures(self.reference_precisions)
        candidate = self.figures(observed)
        # Rounded as the figures are: in binary, 1.1 - 1.0 is more than 0.1.
        loss = round(reference[metric] - candidate[metric], 4)
        return GateRecord(
            metric=metric,
            reference=reference[metric],
            candidate=candidate[metric],
            max_loss=self.config.max_loss,
            passed=loss <= self.config.max_loss,
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


def reference_pipeline(task: Task[Any, Any], model: onnx.ModelProto) -> Pipeline:
    """Open the FP32 model that all others are held against; see `measuring_pipeline`.

    It stops with DataError at an output that is no number: nothing agrees or disagrees with it.
    """
    engine = OnnxRuntimeEngine(model.SerializeToString(), OrtOptions())
    return Pipeline(task.for_measuring(), NumbersOnly(engine))


class NumbersOnly:
    """An engine whose outputs are numbers, or it raises DataError; see `Engine`."""

    def __init__(self, engine: Engine) -> None:
        """Wrap `engine`, which is closed with this."""
        self._engine = engine
        self.inputs, self.outputs = engine.inputs, engine.outputs
        self.description = engine.description

    def run(self, tensors: Tensors) -> RunResult:
        """Run once; see `Engine.run`."""
        result = self._engine.run(tensors)
        for name, array in result.outputs.items():
            if array.dtype.kind == "f" and np.isnan(array).any():
                raise DataError(f"the model's output '{name}' holds values that are no numbers")
        return result

    def close(self) -> None:
        """Free the engine."""
        self._engine.close()


def observe(pipeline: Pipeline, samples: SampleSet, label: str) -> Observed:
    """Run samples through a pipeline.

    Raises:
        DataError: an output of the reference is no number; the frame is named.

    """
    return Observed(tuple(_result(pipeline, frame) for frame in samples.frames(label)))


def _result(pipeline: Pipeline, frame: Any) -> Any:
    try:
        return pipeline.process(frame).result
    except FrameError:
        raise
    except DataError as error:
        raise DataError(f"frame {frame.key}: {error}") from error


def _figures(measured: Mapping[str, DetectionAP]) -> dict[str, float]:
    named = {"agreement": "agreement_", "labels": ""}
    return {
        f"{named[truth]}{metric}": round(100.0 * value, 4)
        for truth, result in measured.items()
        for metric, value in (("ap", result.ap), ("ap50", result.ap50))
    }


def split_metric(metric: str) -> tuple[str, str]:
    """Return what a metric judges against (`labels`, `agreement`) and its kind (`ap50`, `ap`)."""
    against, _, kind = metric.rpartition("_")
    return against or "labels", kind


def make_judge(
    config: GateConfig, samples: SampleSet, reference: Pipeline, purpose: str = "gate"
) -> Judge:
    """Collect the truths of the gate samples.

    Args:
        config: metric and limit.
        samples: the frames.
        reference: the FP32 model.
        purpose: what they are judged for, for the progress bar and for errors.

    Raises:
        ConfigError: the metric needs labels that the source does not have.
        DataError: the FP32 model sees nothing there to lose, or the labels name no class of it.

    """
    class_names, accuracy = reference.task.class_names, accuracy_of(reference.task)
    labels = _labels(samples, class_names, accuracy)
    if labels is None and split_metric(config.metric)[0] == "labels":
        raise ConfigError(
            f"gate.metric: {config.metric!r} needs labels, which {samples.source.description} "
            "does not have; allowed: agreement_ap50, agreement_ap"
        )
    observed = observe(reference, samples, f"{purpose}: FP32")
    judge = Judge(config, samples, class_names, accuracy, observed, labels)
    _check_truth(judge, purpose)
    return judge


def make_search_judge(config: GateConfig, samples: SampleSet, reference: Pipeline) -> Judge:
    """Collect the truths that a search judges by, on frames that are not the gate's.

    Without labels there are still the FP32 model's own detections to agree with.

    Raises:
        DataError: see `make_judge`.

    """
    if not isinstance(samples.source, LabelledSource):
        config = replace(config, metric=f"agreement_{split_metric(config.metric)[1]}")
    return make_judge(config, samples, reference, "search")


def _labels(
    samples: SampleSet, class_names: Sequence[str], accuracy: Accuracy
) -> tuple[Any, ...] | None:
    source = samples.source
    if not isinstance(source, LabelledSource):
        return None
    return tuple(
        accuracy.in_classes(source.labels(index), source.class_names, class_names)
        for index in samples.indices
    )


def _check_truth(judge: Judge, purpose: str) -> None:
    """Refuse a gate that any model would pass for want of objects."""
    samples = judge.samples
    if split_metric(judge.config.metric)[0] == "agreement":
        seen = _count(judge.reference.results)
        if seen == 0:
            raise DataError(
                f"{purpose}: the FP32 model detects nothing with score over {CONFIDENT_SCORE} on "
                f"the {len(samples)} samples of {samples.source.description}; check the task's "
                "preprocess and head, or choose other frames"
            )
    elif judge.labels is not None and not any(
        judge.accuracy.counting(labels).any() for labels in judge.labels
    ):
        raise DataError(
            f"{purpose}: none of the labels of {samples.source.description} names a class of the "
            f"task ({', '.join(judge.class_names[:5])} ...)"
        )


def _count(results: Iterable[Any]) -> int:
    return sum(int((result.scores > CONFIDENT_SCORE).sum()) for result in results)
