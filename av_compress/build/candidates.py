# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The candidates of a form, each made when its turn comes: INT8, mixed, FP16, FP32."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from typing import Any

import onnx

from av_compress.build.basis import Basis, rebased
from av_compress.build.gates import Judge, make_search_judge
from av_compress.build.recipe import Recipe
from av_compress.build.samples import BuildSamples
from av_compress.build.search import Searcher
from av_compress.compress.emit.quantize import adapt_rules, narrow_plan, quantize
from av_compress.compress.emit.simulate import simulate_half
from av_compress.compress.observe.calibrate import MagnitudeProbe
from av_compress.compress.observe.statistics import PROBE_FRAMES
from av_compress.compress.optimize.open_batch import proven_open
from av_compress.compress.optimize.prepare import PreparedModel
from av_compress.compress.plan.precision import (
    Precision,
    PrecisionPlan,
    PrecisionRules,
    WeightScales,
)
from av_compress.compress.search.journal import Journal
from av_compress.compress.search.plan_search import affordable, reason
from av_compress.engines.forms import FORMS
from av_compress.engines.manifest import AttemptRecord
from av_compress.engines.pipeline import Pipeline
from av_compress.errors import ConfigError, DataError, ModelError
from av_compress.tasks.base import Task

# In integers the last digit of a sum may be a whole step: what is right was proven in FP32, and
# here only what is wrong is looked for.
OPEN_TOLERANCE = 0.05


@dataclass(frozen=True)
class Emitted:
    """A candidate in its form.

    Attributes:
        emitter: the form.
        kind: `int8`, `mixed`, `fp16` or `fp32`.
        basis: what it was emitted from.
        plan: precision of its weighted nodes, as the form holds it.
        model: what is written.
        judged: what is run to judge it.

    """

    emitter: str
    kind: str
    basis: Basis
    plan: PrecisionPlan
    model: onnx.ModelProto
    judged: onnx.ModelProto


@dataclass(frozen=True)
class Skipped:
    """A candidate that was not made, and why."""

    reason: str


@dataclass(frozen=True)
class Maker:
    """Makes the candidates of a build.

    Attributes:
        recipe: what was asked for.
        prepared: the model after its preparation.
        bases: form -> what its INT8 candidate is emitted from.
        task: what the model means.
        samples: frames of calibration and gate.
        reference: the prepared model in FP32, ready to run.
        journal: what searches have measured, by this build and earlier ones.

    """

    recipe: Recipe
    prepared: PreparedModel
    bases: Mapping[str, Basis]
    task: Task[Any, Any]
    samples: BuildSamples
    reference: Pipeline
    journal: Journal

    def make(
        self,
        emitter: str,
        kind: str,
        earlier: Sequence[AttemptRecord],
        aim: float,
        searched: Sequence[Basis],
    ) -> Emitted | Skipped:
        """Make a candidate of a form, or say why there is none.

        Args:
            emitter: the form.
            kind: which candidate.
            earlier: what was tried before it.
            aim: for what share of the allowed loss a mixed candidate is searched.
            searched: where earlier searches for the form ended: they share one budget.

        Raises:
            ModelError: what was emitted is not valid.

        """
        if kind == "mixed":
            return self._mixed(emitter, earlier, aim, searched)
        return {"int8": self._int8, "fp16": self._fp16, "fp32": self._fp32}[kind](emitter)

    def _int8(self, emitter: str) -> Emitted | Skipped:
        basis = self._basis(emitter)
        if not narrow_plan(basis.model, basis.plan, emitter).quantised():
            return Skipped("the precision rules let no node be INT8 in this form")
        return self._quantised(emitter, "int8", basis)

    def _basis(self, emitter: str) -> Basis:
        """Return what a form is emitted from, with the migrations that were measured to pay."""
        basis, search = self.bases[emitter], self.recipe.search
        if basis.alternative is None or search is None:
            return basis
        if emitter not in self._measured:
            seen = self._seen
            if isinstance(seen, Skipped):
                # Nothing is seen on the calibration frames that could move.
                return basis
            searcher = Searcher(emitter, basis, search, self.task, seen, self.journal)
            self._measured[emitter] = searcher.measured()
        return self._measured[emitter]

    @cached_property
    def _measured(self) -> dict[str, Basis]:
        """What was measured so far."""
        return {}

    def _mixed(
        self,
        emitter: str,
        earlier: Sequence[AttemptRecord],
        aim: float,
        searched: Sequence[Basis],
    ) -> Emitted | Skipped:
        basis, search = self._basis(emitter), self.recipe.search
        if search is None:
            return Skipped("there is nothing to search by: the recipe has no gate")
        if not narrow_plan(basis.model, basis.plan, emitter).quantised():
            return Skipped("there is nothing to search: no node may be INT8 in this form")
        if earlier and earlier[-1].candidate == "int8" and not lost_accuracy(earlier[-1]):
            return Skipped("int8 keeps its accuracy: a search would spare nothing")
        seen = self._seen
        if isinstance(seen, Skipped):
            return seen
        searcher = Searcher(emitter, basis, search, self.task, seen, self.journal)
        known = {s.quantised for b in searched if b.search is not None for s in b.search.steps}
        found = replace(searcher, basis=searcher.measured()).search(aim, known)
        return self._quantised(emitter, "mixed", found)

    def int8_plan(self, emitter: str) -> PrecisionPlan:
        """Return which nodes of a form the precision rules let be INT8."""
        basis = self._basis(emitter)
        return narrow_plan(basis.model, basis.plan, emitter, basis.calibration.magnitudes)

    def planned(self, emitter: str, plan: PrecisionPlan) -> Emitted:
        """Make a candidate of a plan.

        Args:
            emitter: the form.
            plan: `int8_plan`, or that with nodes spared or other scales of weights.

        """
        basis = self._basis(emitter)
        if plan.weight_scales is WeightScales.TENSOR:
            # One scale for all outputs is rounded to where all of them are as they are written.
            rules = adapt_rules(PrecisionRules.from_config(self.recipe.precision), emitter)
            frames = self.samples.calibration
            basis = rebased(basis, plan, rules, emitter, self.task, frames)
        whole = plan.quantised() == self.int8_plan(emitter).quantised()
        return self._quantised(emitter, "int8" if whole else "mixed", replace(basis, plan=plan))

    def spared(self, emitter: str, searched: Basis, share: float) -> Emitted | Skipped:
        """Make a mixed candidate by the ranking of a search alone.

        Args:
            emitter: the form.
            searched: where the search ended.
            share: of multiply-accumulates, what is left in INT8.

        """
        found, whole = searched.search, self._basis(emitter)
        floor = 0.0 if self.recipe.search is None else self.recipe.search.min_int8_share
        if found is None or share < floor or share >= found.plan.int8_mac_share():
            return Skipped("a search has been as far already, or may not go as far")
        plan = narrow_plan(whole.model, whole.plan, emitter)
        dear = set(affordable(plan, found.ranking, share))
        reasons = {one.node: reason(one) for one in found.ranking if one.node in dear}
        return self._quantised(emitter, "mixed", replace(whole, plan=plan.spared(reasons)))

    def _fp16(self, emitter: str) -> Emitted | Skipped:
        if not FORMS[emitter].half:
            return Skipped(f"the {emitter} form has no FP16 kernels")
        plan = self.bases[emitter].plan
        if plan.base is not Precision.FP16:
            return Skipped("the recipe's precision.base is fp32")
        plan = _without_int8(plan, "the FP16 candidate has nothing in INT8")
        model = quantize(self.prepared.model, plan, {}, self._magnitudes, emitter)
        return self._emitted(emitter, "fp16", plan, model)

    def _fp32(self, emitter: str) -> Emitted | Skipped:
        plan = _without_int8(self.bases[emitter].plan, "the FP32 candidate has nothing in INT8")
        # A form is not FP32's alone by what it quantises: TensorRT 8.6 reads an older opset.
        model = quantize(self.prepared.model, plan.in_fp32(), {}, {}, emitter)
        return self._emitted(emitter, "fp32", plan.in_fp32(), model)

    def _emitted(
        self, emitter: str, kind: str, plan: PrecisionPlan, model: onnx.ModelProto
    ) -> Emitted:
        basis = replace(self.bases[emitter], plan=plan, choices={}, refinements={})
        return self._finished(emitter, kind, basis, plan, model)

    def _quantised(self, emitter: str, kind: str, basis: Basis) -> Emitted:
        emitted = basis.emit(basis.plan, emitter)
        # A form may have to leave in float what the other computes in INT8.
        plan = narrow_plan(basis.model, basis.plan, emitter, basis.calibration.magnitudes)
        return self._finished(emitter, kind, basis, plan, emitted)

    def _finished(
        self, emitter: str, kind: str, basis: Basis, plan: PrecisionPlan, model: onnx.ModelProto
    ) -> Emitted:
        # Judged frame by frame, on the graph of one frame.
        judged, extent = _judged(emitter, model), self.recipe.optimize.max_batch
        if extent > 1:
            try:
                model = proven_open(model, extent, OPEN_TOLERANCE).model
            except ModelError as error:
                raise ModelError(f"the {emitter} form ({kind}): {error}") from error
        return Emitted(emitter, kind, basis, plan, model, judged)

    @cached_property
    def _seen(self) -> Judge | Skipped:
        """The judge of the search, on the calibration frames: the gate's have to stay new."""
        config = self.recipe.gate
        if config is None:
            raise ConfigError("candidates: mixed needs a gate")
        try:
            return make_search_judge(config, self.samples.calibration, self.reference)
        except DataError as error:
            return Skipped(f"there is nothing to search by: {error}")

    @cached_property
    def _magnitudes(self) -> Mapping[str, float]:
        """Largest magnitudes in the prepared model, which is not always the one calibrated."""
        probe = MagnitudeProbe(self.prepared.model)
        for frame in islice(self.samples.calibration.frames("magnitudes"), PROBE_FRAMES):
            probe.observe(self.task.preprocess(frame).tensors)
        return probe.magnitudes


def _judged(emitter: str, model: onnx.ModelProto) -> onnx.ModelProto:
    """Return what is run to judge a form: one for another device as that would compute it."""
    return simulate_half(model) if FORMS[emitter].simulated else model


def lost_accuracy(attempt: AttemptRecord) -> bool:
    """Tell whether a candidate failed for what it sees."""
    failed = {check.gate for check in attempt.checks if check.verdict == "failed"}
    return bool(failed & {"accuracy", "class"})


def _without_int8(plan: PrecisionPlan, reason: str) -> PrecisionPlan:
    return plan.spared(dict.fromkeys(plan.quantised(), reason))
