# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What each form is emitted from: the prepared model, a plan, a calibration, and refinements."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import onnx

from av_compress.build.calibration import Calibration, calibrate
from av_compress.build.observing import Observation, Observing
from av_compress.build.recipe import Recipe
from av_compress.build.samples import SampleSet
from av_compress.compress.emit.insertion import symmetric_activation
from av_compress.compress.emit.quantize import (
    adapt_rules,
    narrow_plan,
    quantize,
    tensors_to_observe,
    weight_grid,
)
from av_compress.compress.observe.extents import with_extents
from av_compress.compress.observe.statistics import Wanted
from av_compress.compress.observe.unify import unify_concats
from av_compress.compress.plan.precision import Precision, PrecisionPlan, PrecisionRules, make_plan
from av_compress.compress.refine.affine import migrated_input
from av_compress.compress.refine.bias import Shifts, correct_biases
from av_compress.compress.refine.choose_affine import Choice
from av_compress.compress.refine.insert import (
    descriptions,
    insert_affines,
    insert_observably,
    unfolded,
)
from av_compress.compress.refine.refine import (
    affines_of,
    choose_affines,
    layer_inputs,
    round_weights,
)
from av_compress.compress.refine.refinement import Refinement
from av_compress.compress.search.plan_search import Search
from av_compress.compress.search.sensitivity import NodeSensitivity
from av_compress.engines.forms import FORMS
from av_compress.tasks.base import Task
from av_compress.tensors import Tensors

# Name of the method that choose_affine finds thresholds by.
HELD_OUT = "held_out"
# Means need fewer frames than ranges do.
CORRECTION_FRAMES = 16


@dataclass(frozen=True)
class Basis:
    """What a form is emitted from.

    Attributes:
        model: the prepared model, FP32.
        plan: precision of its weighted nodes.
        calibration: ranges and magnitudes of its tensors, with all refinements in place.
        choices: node name -> what is done to its input channels while it is INT8.
        refinements: form -> what is done to the nodes that are INT8 in it.
        alternative: the same without a migration; None where nothing was migrated.
        ranking: what each node costs alone in INT8, the dearest first; None: not measured.
        search: how its plan was found; None where the rules alone made it.

    """

    model: onnx.ModelProto
    plan: PrecisionPlan
    calibration: Calibration
    choices: Mapping[str, Choice] = field(default_factory=dict)
    refinements: Mapping[str, Refinement] = field(default_factory=dict)
    alternative: Basis | None = None
    ranking: tuple[NodeSensitivity, ...] | None = None
    search: Search | None = None

    def keeping(self, migrated: Collection[str]) -> Basis:
        """Return this with the migrations of some nodes, the others as in the alternative."""
        other = self.alternative
        if other is None:
            return self
        dropped = {name for name in self.choices if name not in migrated}
        calibration = self.calibration.joined(other.calibration)
        refinements = {
            emitter: own.without(dropped, other.refinements.get(emitter, Refinement()))
            for emitter, own in self.refinements.items()
        }
        choices = {name: c for name, c in self.choices.items() if name in migrated}
        notes = descriptions(self.model, affines_of(choices))
        return replace(
            self,
            plan=other.plan.with_notes(notes),
            calibration=calibration,
            choices=choices,
            refinements=refinements,
            alternative=None,
        )

    def emit(self, plan: PrecisionPlan, emitter: str) -> onnx.ModelProto:
        """Write the model in a form.

        Args:
            plan: no more in INT8 than in this basis's own plan.
            emitter: the form.

        Raises:
            ModelError: what was written is not valid.

        """
        calibration = self.calibration
        refined = self._refined(plan, emitter)
        return quantize(refined, plan, calibration.ranges, calibration.magnitudes, emitter)

    def represented(self, plan: PrecisionPlan, emitter: str) -> frozenset[str]:
        """Return the activations that a form of this represents in INT8; see `emit`."""
        return frozenset(tensors_to_observe(self._refined(plan, emitter), plan, emitter))

    def _refined(self, plan: PrecisionPlan, emitter: str) -> onnx.ModelProto:
        narrowed = narrow_plan(self.model, plan, emitter, self.calibration.magnitudes)
        refinement = self.refinements.get(emitter, Refinement())
        return refinement.apply(self.model, narrowed.quantised())


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
        if own.round:
            basis = _rounded(basis, own, emitters, task, samples)
        if basis.choices:
            plain = without_migration(own)
            other = make_basis(recipe, model, plain, task, samples, emitters, observing)
            if own.round:
                other = _rounded(other, own, emitters, task, samples)
            basis = replace(basis, alternative=other)
        bases |= dict.fromkeys(emitters, basis)
    return bases


def rebased(
    basis: Basis,
    plan: PrecisionPlan,
    rules: PrecisionRules,
    emitter: str,
    task: Task[Any, Any],
    samples: SampleSet,
) -> Basis:
    """Return a basis of a form for another plan, its weights rounded for that.

    Args:
        basis: what was calibrated.
        plan: no more in INT8 than in the basis's own plan; the scales of its weights may differ.
        rules: of the recipe's precision, for the form.
        emitter: the form.
        task: what the model means.
        samples: the calibration frames.

    Raises:
        DataError: a sample is not finite; the frame is named.

    """
    inside = plan.quantised()
    choices = {name: choice for name, choice in basis.choices.items() if name in inside}
    refinements = {emitter: Refinement(affines_of(choices))}
    own = replace(
        basis, plan=plan, choices=choices, refinements=refinements, alternative=None, search=None
    )
    return _rounded(own, rules, [emitter], task, samples) if rules.round else own


def emitters_apart(
    recipe: Recipe, rules: PrecisionRules
) -> list[tuple[list[str], PrecisionRules]]:
    """Divide the forms into those that share a basis, each with the rules for it."""
    divided: dict[PrecisionRules, list[str]] = {}
    for emitter in recipe.emitters:
        divided.setdefault(adapt_rules(rules, emitter), []).append(emitter)
    return [(emitters, own) for own, emitters in divided.items()]


def without_migration(rules: PrecisionRules) -> PrecisionRules:
    """Return rules that let the same nodes be INT8, their channels as they are."""
    return replace(rules, migrate=False, depthwise=True)


def make_basis(
    recipe: Recipe,
    model: onnx.ModelProto,
    rules: PrecisionRules,
    task: Task[Any, Any],
    samples: SampleSet,
    emitters: Sequence[str],
    observing: Observing,
) -> Basis:
    """Make what some forms are emitted from, weights rounded to nearest; see `make_bases`."""
    plan = make_plan(_sized(model, task, samples), rules)
    choices: dict[str, Choice] = {}
    if rules.migrate:
        names = frozenset(name for name in plan.quantised() if rules.migrates(name))
        choices = _choices(model, names, task, samples, observing)
    affines = affines_of(choices)
    refined, observed = insert_affines(model, affines), insert_observably(model, affines)
    wanted = {t for emitter in emitters for t in tensors_to_observe(refined, plan, emitter)}
    calibration = calibrate(observed, sorted(wanted), task, samples, recipe.threshold, observing)
    # What a migrated input has to hold was chosen with its map.
    chosen = {migrated_input(n): (-c.threshold, c.threshold) for n, c in choices.items()}
    calibration = calibration.with_ranges(chosen, HELD_OUT)
    if rules.unify_concat:
        calibration = replace(calibration, ranges=unify_concats(refined, calibration.ranges))
    choices = _settled(model, plan, choices, calibration, emitters[0])
    affines = affines_of(choices)
    plan = plan.with_notes(descriptions(model, affines))
    return Basis(model, plan, calibration, choices, dict.fromkeys(emitters, Refinement(affines)))


def _settled(
    model: onnx.ModelProto,
    plan: PrecisionPlan,
    choices: Mapping[str, Choice],
    calibration: Calibration,
    emitter: str,
) -> dict[str, Choice]:
    """Put zero on a step in every map, and say which maps FP16 bears in front of activations."""
    half = plan.base is Precision.FP16
    apart = unfolded(model, affines_of(choices), calibration.magnitudes) if half else set()
    found = {}
    for name, choice in choices.items():
        step = _step(plan, calibration.ranges[migrated_input(name)], emitter)
        affine = choice.affine.snapped(step)
        found[name] = replace(choice, affine=replace(affine, foldable=name not in apart))
    return found


def _sized(model: onnx.ModelProto, task: Task[Any, Any], samples: SampleSet) -> onnx.ModelProto:
    first = next(iter(samples.frames_at((0,), "read extents")))
    return with_extents(model, task.preprocess(first).tensors)


def _step(plan: PrecisionPlan, limits: tuple[float, float], emitter: str) -> float:
    """Return the step of an activation's quantiser in a form that migrates."""
    grid = weight_grid(plan, emitter)
    scale = symmetric_activation(*limits).scale
    return float(scale if grid is None else grid.snap(scale))


def _choices(
    model: onnx.ModelProto,
    names: frozenset[str],
    task: Task[Any, Any],
    samples: SampleSet,
    observing: Observing,
) -> dict[str, Choice]:
    read = layer_inputs(model, names)
    if not read:
        return {}
    wanted = Wanted(channels=tuple(sorted(set(read.values()))))
    found = observing.statistics(Observation(model, wanted, task, samples))
    return choose_affines(model, names, found.channels)


def _rounded(
    basis: Basis,
    rules: PrecisionRules,
    emitters: Sequence[str],
    task: Task[Any, Any],
    samples: SampleSet,
) -> Basis:
    """Round the weights of each form that leaves it to others."""
    grids = {e: g for e in emitters if (g := weight_grid(basis.plan, e)) is not None}
    if not grids or not basis.plan.quantised():
        return basis
    affines = affines_of(basis.choices)
    quantised = basis.plan.quantised()
    weights = round_weights(basis.model, affines, quantised, _Inputs(task, samples), grids)
    found = {e: Refinement(affines, weights.get(e, {})) for e in emitters}
    some = [t for t, _ in zip(_Inputs(task, samples), range(CORRECTION_FRAMES))]
    # Where kernels add biases as integers, forms store them so, each in steps of its own.
    for emitter in (e for e in grids if FORMS[e].simulated and rules.correct_bias):
        found[emitter] = _corrected(basis, emitter, found[emitter], some)
    return replace(basis, refinements=found)


def _corrected(
    basis: Basis, emitter: str, refinement: Refinement, inputs: Sequence[Tensors]
) -> Refinement:
    """Correct the biases of a form; where it leaves some nodes in float, of the others."""
    plan = narrow_plan(basis.model, basis.plan, emitter).in_fp32()

    def emit(shifts: Shifts) -> onnx.ModelProto:
        shifted = {emitter: replace(refinement, biases=shifts)}
        return replace(basis, refinements=shifted).emit(plan, emitter)

    label, affines = f"correct biases: {emitter}", refinement.affines
    shifts = correct_biases(basis.model, affines, emit, plan.quantised(), inputs, label)
    return replace(refinement, biases=shifts)


@dataclass(frozen=True)
class _Inputs:
    """The input tensors of samples, made anew for every iteration."""

    task: Task[Any, Any]
    samples: SampleSet

    def __iter__(self) -> Iterator[Tensors]:
        for frame in self.samples.frames("round weights"):
            yield self.task.preprocess(frame).tensors
