# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The recipe's model, prepared for its task; the task as it is with that model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from av_compress.build.recipe import Recipe
from av_compress.build.samples import SampleSet
from av_compress.compress.optimize.normalization import fold_normalization
from av_compress.compress.optimize.open_batch import proven_open
from av_compress.compress.optimize.passes import cost, report_of
from av_compress.compress.optimize.prepare import (
    PreparedModel,
    PrepareOptions,
    load_reference,
    prepare_model,
)
from av_compress.compress.optimize.proof import difference_on, refuse_foreign
from av_compress.errors import ModelError
from av_compress.tasks.base import Task
from av_compress.tasks.camera_detection.task import CameraDetection
from av_compress.tasks.registry import make_task

# Real frames on which the prepared model is held against the source.
PROOF_FRAMES = 2


@dataclass(frozen=True)
class Preparation:
    """A model ready for calibration, and the task that fits it.

    Attributes:
        prepared: the model, and what was done to it.
        task: feeds and reads the prepared model.
        source_task: feeds the source model; another one where normalisation was folded.

    """

    prepared: PreparedModel
    task: Task[Any, Any]
    source_task: Task[Any, Any]


def prepare(recipe: Recipe) -> Preparation:
    """Prepare a recipe's model as its `optimize` section says.

    Raises:
        ConfigError: the task's configuration is wrong.
        ModelError: the model cannot be compressed, or not be run.

    """
    task = make_task(recipe.task)
    prepared = prepare_model(recipe.model, _options(recipe, task))
    try:
        # Nothing that follows does without: calibration, search and gate.
        refuse_foreign(prepared.model)
    except ModelError as error:
        raise ModelError(f"{recipe.model}: {error}") from error
    prepared = _with_batch(recipe, prepared)
    if not recipe.optimize.fold_normalization:
        return Preparation(prepared, task, task)
    return _with_normalization(prepared, task)


def prove_on_frames(recipe: Recipe, preparation: Preparation, samples: SampleSet) -> PreparedModel:
    """Hold the prepared model against the source on a few real frames.

    Returns:
        the prepared model, with a report of the comparison.

    Raises:
        ModelError: they differ; says what to do.

    """
    prepared = preparation.prepared
    if prepared.unproven:
        return prepared
    frames = [samples.source.read(index) for index in samples.indices[:PROOF_FRAMES]]
    feeds = [
        (preparation.source_task.preprocess(f).tensors, preparation.task.preprocess(f).tensors)
        for f in frames
    ]
    source = load_reference(recipe.model, _options(recipe, preparation.task))
    deviation = difference_on(source, prepared.model, feeds)
    if deviation > prepared.limit:
        raise ModelError(
            f"{recipe.model}: on real frames the prepared model differs from the source by "
            f"{deviation:.2g} of the largest output (allowed {prepared.limit:g}); leave passes "
            "out by optimize.skip"
        )
    here = cost(prepared.model)
    said = f"compared on {len(feeds)} calibration frames"
    report = report_of("prove on real frames", here, here, said, deviation)
    return replace(prepared, reports=(*prepared.reports, report))


def _with_batch(recipe: Recipe, prepared: PreparedModel) -> PreparedModel:
    """Prove early that the batch can be opened; that is done to what is emitted at the end."""
    extent = recipe.optimize.max_batch
    if extent == 1:
        return prepared
    try:
        opened = proven_open(prepared.model, extent)
    except ModelError as error:
        raise ModelError(f"{recipe.model}: {error}") from error
    here = cost(prepared.model)
    said = f"up to {extent} frames at once give what each gives alone"
    report = report_of("open batch", here, here, said, opened.deviation)
    return replace(prepared, reports=(*prepared.reports, report))


def _options(recipe: Recipe, task: Task[Any, Any]) -> PrepareOptions:
    wanted = recipe.optimize
    shapes = _input_shapes(task) if wanted.static_shapes else {}
    return PrepareOptions(shapes, wanted.detach_nms, frozenset(wanted.skip))


def _input_shapes(task: Task[Any, Any]) -> Mapping[str, Sequence[int]]:
    """Return the extents of the tensors that a task feeds; of other tasks none are known yet."""
    if not isinstance(task, CameraDetection):
        return {}
    return {task.settings.input.name: task.settings.input.shape}


def _with_normalization(prepared: PreparedModel, task: Task[Any, Any]) -> Preparation:
    """Let the model normalise what it can, and the task only the rest."""
    if not isinstance(task, CameraDetection) or task.settings.input.dtype != "float32":
        return Preparation(prepared, task, task)
    wanted = task.settings.input
    axis = 1 if wanted.layout == "nchw" else 3
    folded = fold_normalization(prepared.model, wanted.name, wanted.mean, wanted.std, axis)
    report = folded.report
    changed = replace(prepared, model=folded.model, reports=(*prepared.reports, report))
    left = replace(wanted, mean=_triple(folded.mean), std=_triple(folded.std))
    return Preparation(changed, CameraDetection(replace(task.settings, input=left)), task)


def _triple(values: Sequence[float]) -> tuple[float, float, float]:
    first, second, third = values
    return first, second, third
