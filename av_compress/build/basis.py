# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What each form is emitted from: a model equal to the source, its plan, its calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx

from av_compress.build.calibration import Calibration, calibrate
from av_compress.build.observing import Observation, Observing
from av_compress.build.recipe import Recipe
from av_compress.build.samples import SampleSet
from av_compress.compress.emit.quantize import adapt_rules, tensors_to_observe
from av_compress.compress.observe.channels import channel_factors, depthwise_inputs
from av_compress.compress.observe.statistics import Wanted
from av_compress.compress.plan.precision import PrecisionPlan, PrecisionRules, make_plan
from av_compress.compress.refine.migration import Migrated, migrate
from av_compress.compress.search.plan_search import Search
from av_compress.tasks.base import Task


@dataclass(frozen=True)
class Basis:
    """What a form is emitted from.

    Attributes:
        model: FP32, equal to the prepared model in real arithmetic.
        plan: precision of its weighted nodes.
        calibration: ranges and magnitudes of its tensors.
        migrated: which scales were migrated to make it.
        search: how its plan was found; None where the rules alone made it.

    """

    model: onnx.ModelProto
    plan: PrecisionPlan
    calibration: Calibration
    migrated: tuple[Migrated, ...]
    search: Search | None = None


def make_bases(
    recipe: Recipe,
    model: onnx.ModelProto,
    rules: PrecisionRules,
    task: Task[Any, Any],
    samples: SampleSet,
    observing: Observing,
) -> Mapping[str, Basis]:
    """Make what every form of a recipe is emitted from; forms with equal needs share one.

    Args:
        recipe: what to build.
        model: prepared FP32 model.
        rules: of the recipe's precision.
        task: what the model means.
        samples: the calibration frames.
        observing: where observations of them come from.

    Raises:
        ConfigError: the rules do not fit the model.
        DataError: a sample or an activation is not finite; the frame is named.

    """
    bases: dict[str, Basis] = {}
    for emitters, own in emitters_apart(recipe, rules):
        basis = make_basis(recipe, model, own, task, samples, emitters, observing)
        bases |= dict.fromkeys(emitters, basis)
    return bases


def emitters_apart(
    recipe: Recipe, rules: PrecisionRules
) -> list[tuple[list[str], PrecisionRules]]:
    """Divide the forms into those that share a basis, each with the rules for it."""
    divided: dict[PrecisionRules, list[str]] = {}
    for emitter in recipe.emitters:
        divided.setdefault(adapt_rules(rules, emitter), []).append(emitter)
    return [(emitters, own) for own, emitters in divided.items()]


def make_basis(
    recipe: Recipe,
    model: onnx.ModelProto,
    rules: PrecisionRules,
    task: Task[Any, Any],
    samples: SampleSet,
    emitters: Sequence[str],
    observing: Observing,
) -> Basis:
    """Make what some forms are emitted from; see `make_bases`."""
    plan = make_plan(model, rules)
    migrated: tuple[Migrated, ...] = ()
    if rules.migrate:
        model, migrated = _migrate(model, plan, task, samples, observing)
        plan = plan.with_notes({m.node: m.description for m in migrated})
    wanted = {t for emitter in emitters for t in tensors_to_observe(model, plan, emitter)}
    calibration = calibrate(model, sorted(wanted), task, samples, recipe.threshold, observing)
    return Basis(model, plan, calibration, migrated)


def _migrate(
    model: onnx.ModelProto,
    plan: PrecisionPlan,
    task: Task[Any, Any],
    samples: SampleSet,
    observing: Observing,
) -> tuple[onnx.ModelProto, tuple[Migrated, ...]]:
    read = depthwise_inputs(model, plan)
    if not read:
        return model, ()
    wanted = Wanted(channels=tuple(read.values()))
    found = observing.statistics(Observation(model, wanted, task, samples))
    return migrate(model, channel_factors(read, found.channels))
