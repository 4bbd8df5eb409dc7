# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Bias correction in topological order: means as in FP32, whatever rounding does to them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from helpers_models import EVERYTHING, prepared, residual_network, run, samples

from av_compress.compress.emit.quantize import quantize, tensors_to_observe
from av_compress.compress.graph import GraphIndex
from av_compress.compress.layers import Layer
from av_compress.compress.observe.calibrate import Calibrator
from av_compress.compress.plan.precision import Precision, make_plan
from av_compress.compress.refine.affine import Affine
from av_compress.compress.refine.bias import Shifts, correct_biases
from av_compress.compress.refine.insert import folds, insert_affines
from av_compress.compress.refine.refinement import Refinement

RULES = replace(EVERYTHING, base=Precision.FP32)
# Only a third of every range is represented: clipping moves means far.
CLIPPED = 3.0


def means(model: onnx.ModelProto, nodes: list[str], frames) -> dict[str, np.ndarray]:
    made = {node.name: node.output[0] for node in model.graph.node}
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    del watched.graph.output[:]
    watched.graph.output.extend(onnx.ValueInfoProto(name=made[name]) for name in nodes)
    runs = [run(watched, feeds, exact=True) for feeds in frames]
    return {
        name: np.mean([values[i].mean(axis=(0, 2, 3)) for values in runs], axis=0)
        for i, name in enumerate(nodes)
    }


@pytest.fixture
def corrected(tmp_path):
    model = prepared(residual_network(), tmp_path)
    plan = make_plan(model, RULES)
    calibrator = Calibrator(model, tensors_to_observe(model, plan, "tensorrt"))
    frames = samples(model)
    for feeds in frames:
        calibrator.observe(feeds)
    seen = calibrator.observers.items()
    ranges = {name: (o.min / CLIPPED, o.max / CLIPPED) for name, o in seen}

    def emit(shifts: Shifts) -> onnx.ModelProto:
        refined = Refinement(biases=shifts).apply(model, plan.quantised())
        return quantize(refined, plan, ranges, {}, "tensorrt")

    found = correct_biases(model, {}, emit, plan.quantised(), frames, "correct biases")
    return model, frames, emit, found


def test_every_mean_is_that_of_fp32(corrected):
    model, frames, emit, found = corrected
    names = [n.name for n in model.graph.node if n.op_type == "Conv"]
    assert sorted(found) == sorted(names)
    wanted = means(model, names, frames)
    before, after = means(emit({}), names, frames), means(emit(found), names, frames)
    for name in names:
        np.testing.assert_allclose(after[name], wanted[name], atol=2e-3)
    moved = [np.abs(before[name] - wanted[name]).max() for name in names]
    assert max(moved) > 0.05


def test_biases_in_front_of_folded_migrations_are_those_of_the_model(corrected):
    model, frames, _, _ = corrected
    plan = make_plan(model, RULES)
    rng = np.random.default_rng(0)
    index = GraphIndex(model)
    layers = [Layer.of(index, n) for n in model.graph.node if n.name in plan.quantised()]
    affines = {
        x.name: Affine(np.exp(rng.uniform(-1, 1, x.channels)), rng.normal(0, 0.1, x.channels))
        for x in layers
        if x is not None
    }
    migrated = insert_affines(model, affines)
    assert folds(model, affines)
    calibrator = Calibrator(migrated, tensors_to_observe(migrated, plan, "tensorrt"))
    for feeds in frames:
        calibrator.observe(feeds)
    ranges = {name: (o.min / CLIPPED, o.max / CLIPPED) for name, o in calibrator.observers.items()}

    def emit(shifts: Shifts) -> onnx.ModelProto:
        refined = Refinement(affines, biases=shifts).apply(model, plan.quantised())
        return quantize(refined, plan, ranges, {}, "tensorrt")

    found = correct_biases(model, affines, emit, plan.quantised(), frames, "correct biases")
    wanted, after = means(migrated, list(found), frames), means(emit(found), list(found), frames)
    for name in found:
        np.testing.assert_allclose(after[name], wanted[name], atol=5e-3)


def test_measured_all_at_once_the_same_shifts_are_made_up_for_twice(corrected):
    model, frames, emit, found = corrected
    names = [n.name for n in model.graph.node if n.op_type == "Conv"]
    wanted, before = means(model, names, frames), means(emit({}), names, frames)
    at_once = {name: wanted[name] - before[name] for name in names}
    last = names[-1]
    errors = [
        np.abs(means(emit(shifts), names, frames)[last] - wanted[last]).max()
        for shifts in (found, at_once)
    ]
    assert errors[0] < errors[1]


def test_nothing_is_corrected_without_samples_or_nodes(corrected):
    model, frames, emit, _ = corrected
    assert correct_biases(model, {}, emit, [], frames, "x") == {}
    assert correct_biases(model, {}, emit, ["n_t0"], [], "x") == {}
