# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The search of a build: sensitivities and plans of one form, judged on the calibration frames."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from itertools import islice
from typing import Any

from av_compress.build.basis import Basis
from av_compress.build.gates import Judge, measuring_pipeline
from av_compress.build.recipe import SearchConfig
from av_compress.compress.emit.quantize import narrow_plan, quantize
from av_compress.compress.plan.precision import PrecisionPlan
from av_compress.compress.search.plan_search import search_plan
from av_compress.compress.search.sensitivity import measure_sensitivity
from av_compress.engines.forms import FORMS
from av_compress.tasks.base import Task


def search_basis(
    emitter: str, basis: Basis, config: SearchConfig, task: Task[Any, Any], judge: Judge
) -> Basis:
    """Search the plan of one form.

    Plans are evaluated with FP32 around their INT8 part: what is searched is where INT8 hurts, and
    the gate judges the artefact itself.

    Args:
        emitter: the form.
        basis: what it is emitted from.
        config: how much to measure.
        task: what the model means.
        judge: metric, limit and frames of the search.

    """
    model, ranges = basis.model, basis.calibration.ranges
    plan = narrow_plan(model, basis.plan, emitter)
    frames = islice(judge.samples.frames("sensitivity frames"), config.frames)
    inputs = [task.preprocess(frame).tensors for frame in frames]
    ranking = measure_sensitivity(model, plan, ranges, emitter, inputs)
    metric = judge.config.metric
    reference = judge.figures(judge.reference)[metric]

    def loss_of(candidate: PrecisionPlan) -> float:
        emitted = quantize(model, candidate.in_fp32(), ranges, {}, emitter)
        exact = FORMS[emitter].computes_pairs(on_gpu=False)
        with closing(measuring_pipeline(task, emitted, exact)) as pipeline:
            return reference - judge.figures(judge.observe(pipeline, f"search: {emitter}"))[metric]

    found = search_plan(plan, ranking, loss_of, judge.config.max_loss, config.evaluations)
    return replace(basis, plan=found.plan, search=found)
