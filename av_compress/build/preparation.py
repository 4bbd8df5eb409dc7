# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The recipe's model, prepared for its task; the task as it is with that model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from av_compress.build.recipe import Recipe
from av_compress.build.samples import SampleSet
from av_compress.compress.optimize.normalization import fold_normalization
from av_compress.compress.optimize.open_batch import proven_open
from av_compress.compress.optimize.passes import cost, report_of
from av_compress.compress.optimize.prepare import (
    PreparedModel,
    PrepareOptions,
    prepare_loaded,
    reference_of,
)
from av_compress.compress.optimize.proof import difference_on, refuse_foreign
from av_compress.compress.plan.precision import PrecisionRules
from av_compress.errors import ConfigError, ModelError
from av_compress.tasks.base import PointCloud, Task
from av_compress.tasks.camera_detection.task import CameraDetection
from av_compress.tasks.lidar_detection.encoders.voxels import VoxelConfig
from av_compress.tasks.lidar_detection.task import LidarDetection
from av_compress.tasks.registry import make_task
from av_compress.tensors import Tensors

# Real frames on which the prepared model is held against the source.
PROOF_FRAMES = 2
# Points of the larger one of two clouds that are made up for the proof of each pass.
_EXAMPLE_POINTS = 3000


@dataclass(frozen=True)
class Preparation:
    """A model ready for calibration, and the task that fits it.

    Attributes:
        prepared: the model, and what was done to it.
        task: feeds and reads the prepared model.
        source_task: feeds the source model; another one where normalisation was folded, or
            voxels are padded.

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
    source_task = make_task(recipe.task)
    task = _padded(source_task) if recipe.optimize.pad_voxels else source_task
    source = recipe.model.load(source_task)
    try:
        prepared = prepare_loaded(source, _options(recipe, task))
        # Nothing that follows does without: calibration, search and gate.
        refuse_foreign(prepared.model)
    except ModelError as error:
        raise ModelError(f"{recipe.model}: {error}") from error
    prepared = _with_batch(recipe, prepared)
    preparation = Preparation(prepared, task, source_task)
    return _with_normalization(preparation) if recipe.optimize.fold_normalization else preparation


def precision_rules(recipe: Recipe, task: Task[Any, Any]) -> PrecisionRules:
    """Return what the recipe says of precision, and what the task's inputs ask for."""
    rules = PrecisionRules.from_config(recipe.precision)
    if isinstance(task, LidarDetection) and isinstance(task.settings.input.encoder, VoxelConfig):
        voxels = task.settings.input.encoder.tensors.voxels
        return replace(rules, coordinates=frozenset({voxels}))
    return rules


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
    source_task = preparation.source_task
    source = reference_of(recipe.model.load(source_task), _options(recipe, source_task))
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
    return PrepareOptions(shapes, wanted.detach_nms, frozenset(wanted.skip), _examples(task))


def _input_shapes(task: Task[Any, Any]) -> Mapping[str, Sequence[int]]:
    """Return the extents of the tensors that a task feeds; not of those that a frame decides."""
    if isinstance(task, CameraDetection):
        return {task.settings.input.name: task.settings.input.shape}
    if isinstance(task, LidarDetection):
        known = {spec.name: spec.static_shape for spec in task.input_specs}
        return {name: shape for name, shape in known.items() if shape is not None}
    return {}


def _examples(task: Task[Any, Any]) -> tuple[Tensors, ...]:
    """Make the inputs of two clouds of random points, where random inputs would be no cloud's."""
    if not isinstance(task, LidarDetection):
        return ()
    wanted, columns = task.settings.input, len(task.point_columns)
    rng = np.random.default_rng(0)
    clouds = []
    for count in (_EXAMPLE_POINTS, _EXAMPLE_POINTS // 3):
        points = rng.uniform(0.0, 1.0, (count, columns))
        points[:, :3] = rng.uniform(wanted.lower, wanted.upper, (count, 3))
        clouds.append(PointCloud(points.astype(np.float32)))
    return tuple(task.preprocess(cloud).tensors for cloud in clouds)


def _padded(task: Task[Any, Any]) -> Task[Any, Any]:
    """Return the task with as many voxels for every cloud, where their number was open."""
    if isinstance(task, LidarDetection):
        wanted = task.settings.input
        if isinstance(wanted.encoder, VoxelConfig):
            if wanted.encoder.padding != "none":
                return task
            encoder = replace(wanted.encoder, padding="repeat_last")
            return LidarDetection(replace(task.settings, input=replace(wanted, encoder=encoder)))
    raise ConfigError(
        "optimize.pad_voxels: true goes with a task of kind lidar_detection, whose "
        "task.input.encoder is of type voxels"
    )


def _with_normalization(preparation: Preparation) -> Preparation:
    """Let the model normalise what it can, and the task only the rest."""
    prepared, task = preparation.prepared, preparation.task
    if not isinstance(task, CameraDetection) or task.settings.input.dtype != "float32":
        return preparation
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
