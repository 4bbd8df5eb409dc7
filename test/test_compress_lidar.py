# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What a scatter of voxels asks of passes and of precision rules."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from helpers_lidar_world import TASK, backbone, pillar_encoder, scene
from onnx import numpy_helper

from av_compress.compress.join import join_pillar_model
from av_compress.compress.optimize.empty_planes import MakeEmptyPlanes
from av_compress.compress.optimize.prepare import PrepareOptions, prepare_loaded
from av_compress.compress.optimize.proof import run_model
from av_compress.compress.plan.precision import Precision, PrecisionRules, make_plan
from av_compress.tasks.base import PointCloud
from av_compress.tasks.registry import make_task


@pytest.fixture(scope="module")
def joined() -> onnx.ModelProto:
    return join_pillar_model(pillar_encoder(), backbone(), make_task(TASK).settings.input.grid)


@pytest.fixture(scope="module")
def inputs():
    task = make_task(TASK)
    return [task.preprocess(PointCloud(scene(seed)[0])).tensors for seed in (3, 4)]


@pytest.fixture(scope="module")
def prepared(joined, inputs):
    shapes = {name: array.shape for name, array in inputs[0].items()}
    return prepare_loaded(joined, PrepareOptions(shapes, examples=tuple(inputs)))


def test_empty_planes_are_not_stored(joined, prepared, inputs):
    report = next(r for r in prepared.reports if r.name == "make empty planes")
    assert "1 of 262144 bytes" in report.detail
    model = prepared.model
    assert sum(len(t.raw_data) for t in model.graph.initializer) < 60_000
    for feeds in inputs:
        want, have = (run_model(one, [feeds])[0] for one in (joined, model))
        for name, array in want.items():
            np.testing.assert_allclose(have[name], array, atol=1e-5)


def test_planes_that_others_read_or_that_hold_something_stay(prepared):
    model, _ = MakeEmptyPlanes().run(prepared.model)
    assert model is prepared.model
    scatter = next(n for n in prepared.model.graph.node if n.op_type == "ScatterND")
    plane = np.zeros((4096, 16), np.float32)
    for values in (plane + np.arange(16, dtype=np.float32), plane[:10]):
        stored = onnx.ModelProto()
        stored.CopyFrom(prepared.model)
        kept = [n for n in stored.graph.node if scatter.input[0] not in n.output]
        del stored.graph.node[:]
        stored.graph.node.extend(kept)
        stored.graph.initializer.append(numpy_helper.from_array(values, scatter.input[0]))
        assert MakeEmptyPlanes().run(stored)[0] is stored


def test_indices_are_not_what_a_convolution_reads(prepared):
    """The first convolution reads features; the linear layer in front reads the input."""
    plan = make_plan(prepared.model, PrecisionRules())
    reasons = {n.op_type: n.reason for n in plan.nodes if n.precision is not Precision.INT8}
    assert reasons == {"MatMul": "reads the model's input", "Conv": "makes a prediction"}
    assert len(plan.quantised()) == 3


def test_what_reads_coordinates_is_int8_by_its_name_alone(prepared):
    everything = {"first": True, "prediction": True, "min_channels": 1}
    rules = PrecisionRules(coordinates=frozenset({"voxels"}), **everything)
    spared = [n for n in make_plan(prepared.model, rules).nodes if n.precision.value != "int8"]
    assert [(n.op_type, "coordinates" in n.reason) for n in spared] == [("MatMul", True)]
    named = PrecisionRules.from_config({"nodes": [{"match": "*", "precision": "int8"}]})
    assert make_plan(prepared.model, named).int8_mac_share() == 1
