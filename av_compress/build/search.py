# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The search of a build: sensitivities and plans of one form, judged on the calibration frames."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import onnx

from av_compress.build.basis import Basis
from av_compress.build.checks import loss_by_limits, worst_class_loss
from av_compress.build.gates import Judge, measuring_pipeline
from av_compress.build.recipe import SearchConfig
from av_compress.build.versions import tool_versions
from av_compress.cachefolder import cache_folder
from av_compress.compress.emit.quantize import narrow_plan
from av_compress.compress.plan.precision import PrecisionPlan
from av_compress.compress.search.journal import Journal
from av_compress.compress.search.plan_search import Limits, search_plan
from av_compress.compress.search.sensitivity import (
    NodeSensitivity,
    Outputs,
    Trial,
    measure_sensitivity,
    ranked,
)
from av_compress.data.content import labels_sha256
from av_compress.engines.forms import FORMS
from av_compress.fileio import canonical_json, sha256_bytes
from av_compress.tasks.base import Task


@dataclass(frozen=True)
class Searcher:
    """Measures and searches the plan of one form.

    Plans are evaluated with FP32 around their INT8 part: what is searched is where INT8 hurts, and
    the gate judges the artefact itself.

    Attributes:
        emitter: the form.
        basis: what it is emitted from.
        config: how much to measure.
        task: what the model means.
        judge: metric, limits and frames of the search.
        journal: what was measured earlier.

    """

    emitter: str
    basis: Basis
    config: SearchConfig
    task: Task[Any, Any]
    judge: Judge
    journal: Journal

    def measured(self) -> Basis:
        """Return the basis with every node's sensitivity, and the migrations that pay.

        A migration that was estimated to pay is kept where results move less with it than without,
        the node alone being INT8.
        """
        basis = self.basis
        if basis.ranking is not None:
            return basis
        found = self.sensitivities()
        if basis.alternative is None:
            return replace(basis, ranking=found)
        plain = {s.node: s for s in replace(self, basis=basis.alternative).sensitivities()}
        cheaper = [min(s, plain.get(s.node, s)) for s in found]
        kept = {s.node for s, best in zip(found, cheaper) if best is s}
        return replace(basis.keeping(kept), ranking=ranked(cheaper))

    def sensitivities(self) -> tuple[NodeSensitivity, ...]:
        """Try every node of the plan alone in INT8; see `measure_sensitivity`."""
        plan = narrow_plan(self.basis.model, self.basis.plan, self.emitter)
        task = self.task.for_measuring()
        frames = islice(self.judge.samples.frames("sensitivity frames"), self.config.frames)
        prepared = [task.preprocess(frame) for frame in frames]
        trial = Trial(
            emit=self._emit,
            inputs=[one.tensors for one in prepared],
            shift_of=self._shift(task, [one.context for one in prepared]),
            key=sha256_bytes(f"{self._key} {self.config.frames}".encode()),
        )
        label = f"sensitivity: {self.emitter}"
        return measure_sensitivity(self.basis.model, plan, trial, self.journal, label)

    def search(self, aim: float = 1.0, earlier: Collection[frozenset[str]] = ()) -> Basis:
        """Search a plan along the basis's ranking; return the basis with it.

        Args:
            aim: for what share of the allowed loss.
            earlier: the INT8 nodes of every plan that was evaluated: they cost nothing again, and
                are what the budget has been spent on.

        """
        plan = narrow_plan(self.basis.model, self.basis.plan, self.emitter)
        ranking = [s for s in self.basis.ranking or () if s.node in plan.quantised()]
        config = self.config
        left = max(0, config.evaluations - len(earlier))
        limits = Limits(aim * self.judge.config.max_loss, left, config.min_int8_share)
        found = search_plan(plan, ranking, self.loss, limits, earlier)
        return replace(self.basis, plan=found.plan, search=found)

    def loss(self, plan: PrecisionPlan) -> float:
        """Evaluate a plan by the limit that it is nearest to; see `checks.loss_by_limits`."""
        config = self.judge.config
        classes = "all" if config.max_loss_per_class is None else f"each of {config.min_truths}"
        key = f"{self._key}/loss of {classes}/{','.join(sorted(plan.quantised()))}"
        known = self.journal.find(key)
        if known is None:
            known = self._losses(plan)
            self.journal.keep(key, known)
        overall, worst = known
        return loss_by_limits(config, overall, worst)

    def _losses(self, plan: PrecisionPlan) -> tuple[float, float | None]:
        """Measure what a plan loses in points: over all classes, and in the worst of them."""
        judge = self.judge
        exact = FORMS[self.emitter].computes_pairs(on_gpu=False)
        with closing(measuring_pipeline(self.task, self._emit(plan), exact)) as pipeline:
            observed = judge.observe(pipeline, f"search: {self.emitter}")
        record = judge.gate(observed)
        overall = round(record.reference - record.candidate, 4)
        if judge.config.max_loss_per_class is None:
            return overall, None
        return overall, worst_class_loss(judge.config, judge.class_losses(observed))

    def _emit(self, plan: PrecisionPlan) -> onnx.ModelProto:
        return self.basis.emit(plan.in_fp32(), self.emitter)

    def _shift(self, task: Task[Any, Any], contexts: Sequence[Any]) -> Callable[[Outputs], float]:
        reference = self.judge.reference.results[: len(contexts)]
        names = [value.name for value in self.basis.model.graph.output]

        def shift(outputs: Outputs) -> float:
            results = [
                task.postprocess(dict(zip(names, values)), context)
                for values, context in zip(outputs, contexts)
            ]
            return self.judge.accuracy.shift(reference, results)

        return shift

    @cached_property
    def _key(self) -> str:
        return search_key(self)


def search_key(searcher: Searcher) -> str:
    """Return a hash of all that decides what a search measures: model, frames, task, tools."""
    whole = searcher.basis.emit(searcher.basis.plan.in_fp32(), searcher.emitter)
    parts = {
        "model": sha256_bytes(whole.SerializeToString(deterministic=True)),
        "fp32": sha256_bytes(searcher.basis.model.SerializeToString(deterministic=True)),
        "task": searcher.task.config(),
        "frames": list(searcher.judge.samples.hashes),
        "labels": labels_sha256(searcher.judge.labels),
        "metric": searcher.judge.config.metric,
        "emitter": searcher.emitter,
        "versions": tool_versions(),
    }
    return sha256_bytes(canonical_json(parts).encode())


def journal_path() -> Path:
    """Return where searches write down what they measure.

    Raises:
        UsageError: there is no home folder and no variable that names another.

    """
    return cache_folder() / "search.jsonl"
