# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Scale migration: the same function, channels alike, and INT8 that keeps small channels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from helpers_models import EVERYTHING, Network, prepared, quantised, run, samples, sqnr_db
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from av_compress.compress.graph import GraphIndex
from av_compress.compress.observe.channels import ChannelProbe, channel_thresholds
from av_compress.compress.plan.precision import Precision, PrecisionRules, make_plan
from av_compress.compress.refine.migration import folding_target, migrate
from av_compress.errors import DataError, ModelError

RULES = replace(EVERYTHING, base=Precision.FP32)


def uneven_network(activation: str, seed: int = 0, spread: float = 3.0) -> Network:
    """Conv -> activation -> depthwise -> 1x1, with channels of very different size in between."""
    net = Network(seed, channels=8, side=10)
    first = net.conv("image", 16)
    factors = np.exp(net.rng.uniform(-spread, spread, 16)).astype(np.float32)
    weight, bias = net.constants[-2:]
    for tensor, shape in ((weight, (16, 1, 1, 1)), (bias, (16,))):
        value = numpy_helper.to_array(tensor) * factors.reshape(shape)
        tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    if activation == "silu":
        made = net.silu(first)
    elif activation == "pooled":
        pooled = net.relu(first)
        made = net.add("MaxPool", [pooled], 16, 10, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    else:
        made = net.relu(first)
    deep = net.conv(made, 16, group=16)
    # Undoes the spread, so that every channel counts the same in the end.
    weight = net.constants[-2]
    value = numpy_helper.to_array(weight) / factors.reshape(-1, 1, 1, 1)
    weight.CopyFrom(numpy_helper.from_array(value, weight.name))
    if activation == "relu_twice":
        deep = net.add("Add", [deep, made], 16, 10)
    net.conv(net.relu(deep), 8, 1)
    return net


def depthwise(model: onnx.ModelProto) -> onnx.NodeProto:
    index = GraphIndex(model)
    return next(
        n for n in model.graph.node if n.op_type == "Conv" and index.weight(n).shape[1] == 1
    )


@pytest.mark.parametrize(
    ("activation", "folds"),
    [("relu", True), ("pooled", True), ("silu", False), ("relu_twice", False)],
)
def test_a_migrated_model_computes_the_same(tmp_path, activation, folds):
    model = prepared(uneven_network(activation).model(), tmp_path)
    node = depthwise(model)
    factors = np.geomspace(1e-3, 1.0, 16)
    migrated, (made,) = migrate(model, {node.name: factors})
    onnx.checker.check_model(migrated, full_check=True)
    for feeds in samples(model):
        (expected,), (got,) = run(model, feeds), run(migrated, feeds)
        assert sqnr_db(expected, got) > 100
    assert bool(made.folded_into) is folds
    assert bool(made.added) is not folds
    assert made.spread == pytest.approx(1000)
    added = len(migrated.graph.node) - len(model.graph.node)
    assert added == (0 if folds else 1)
    # The source stays as it is.
    assert depthwise(model).SerializeToString() == node.SerializeToString()


def test_nothing_is_folded_through_an_output_of_the_graph(tmp_path):
    model = prepared(uneven_network("relu").model(), tmp_path)
    node = depthwise(model)
    assert folding_target(GraphIndex(model), node) is not None
    index = GraphIndex(model)
    seen = onnx.ModelProto()
    seen.CopyFrom(model)
    seen.graph.output.add().CopyFrom(
        next(v for v in index.graph.value_info if v.name == node.input[0])
    )
    assert folding_target(GraphIndex(seen), depthwise(seen)) is None


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    spread=st.floats(0.0, 5.0),
    activation=st.sampled_from(["relu", "silu", "pooled", "relu_twice"]),
    op_type=st.sampled_from(["depthwise", "grouped", "dense"]),
)
def test_any_convolution_can_be_migrated(tmp_path_factory, seed, spread, activation, op_type):
    net = uneven_network(activation, seed)
    groups = {"depthwise": 16, "grouped": 4, "dense": 1}[op_type]
    if groups != 16:
        net.conv(net.silu(net.conv(net.last, 16)), 8, group=groups)
    model = prepared(net.model(), tmp_path_factory.mktemp("m"))
    node = [n for n in model.graph.node if n.op_type == "Conv"][-1]
    if groups == 16:
        node = depthwise(model)
    factors = np.exp(np.random.default_rng(seed).uniform(-spread, spread, 16))
    migrated, _ = migrate(model, {node.name: factors})
    feeds = samples(model, 1)[0]
    assert sqnr_db(run(model, feeds)[0], run(migrated, feeds)[0]) > 80


def test_int8_keeps_what_one_scale_for_all_channels_loses(tmp_path):
    model = prepared(uneven_network("relu").model(), tmp_path)
    probe = ChannelProbe(model, make_plan(model, RULES))
    for feeds in samples(model):
        probe.observe(feeds)
    migrated, made = migrate(model, probe.factors())
    assert [m.node for m in made] == [depthwise(model).name]
    feeds = samples(model, 5)[-1]
    (expected,) = run(model, feeds)
    decibels = [
        sqnr_db(expected, run(quantised(m, RULES, "tensorrt")[0], feeds, exact=True)[0])
        for m in (model, migrated)
    ]
    assert decibels[0] < 20
    assert decibels[1] > decibels[0] + 12


def test_the_rule_spares_depthwise_convolutions_until_it_is_asked(tmp_path):
    model = prepared(uneven_network("relu").model(), tmp_path)
    name = depthwise(model).name
    spared = PrecisionRules(first=True, prediction=True, min_channels=1)
    assert name not in make_plan(model, spared).quantised()
    assert name in make_plan(model, replace(spared, migrate=True)).quantised()


@pytest.mark.parametrize(
    ("name", "factors", "words"),
    [
        ("absent", np.ones(16), "absent"),
        (None, np.ones(15), "one positive factor"),
        (None, np.zeros(16), "one positive factor"),
        (None, np.full(16, np.nan), "one positive factor"),
    ],
)
def test_factors_that_do_not_fit_are_refused(tmp_path, name, factors, words):
    model = prepared(uneven_network("relu").model(), tmp_path)
    with pytest.raises(ModelError, match=words):
        migrate(model, {name or depthwise(model).name: factors})


def test_channels_that_are_not_finite_are_named(tmp_path):
    model = prepared(uneven_network("relu").model(), tmp_path)
    probe = ChannelProbe(model, make_plan(model, RULES))
    feeds = samples(model, 1)[0]
    feeds["image"][0, 0, 0, 0] = np.inf
    with pytest.raises(DataError, match="NaN or infinity"):
        probe.observe(feeds)


def test_thresholds_of_channels_are_their_own():
    values = np.random.default_rng(0).uniform(-1, 1, (2000, 3)).astype(np.float32)
    thresholds = channel_thresholds(values * np.float32([1, 10, 0]))
    # A uniform distribution has nothing to gain from clipping.
    assert thresholds[:2] == pytest.approx([1, 10], rel=0.02)
    # A channel that is always zero gets a threshold too.
    assert 0 < thresholds[2] <= 1e-3
