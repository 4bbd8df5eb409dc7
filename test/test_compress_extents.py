# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Arithmetic is counted with the extents of a frame where the graph does not say them."""

from __future__ import annotations

import onnx
import pytest
from helpers_models import EVERYTHING, Network, prepared, samples

from av_compress.compress.observe.calibrate import MagnitudeProbe
from av_compress.compress.observe.extents import with_extents
from av_compress.compress.plan.precision import make_plan


@pytest.fixture
def model(tmp_path) -> onnx.ModelProto:
    net = Network(0, channels=4, side=8)
    net.conv(net.relu(net.conv("image", 16)), 16, 3, stride=2)
    return prepared(net.model(), tmp_path)


def forgotten(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with no extent known beyond its input's."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    del changed.graph.value_info[:]
    for dim in changed.graph.output[0].type.tensor_type.shape.dim:
        dim.dim_param = "any"
    return changed


def test_macs_are_those_of_the_frame(model):
    feeds = samples(model, 1)[0]
    known = make_plan(model, EVERYTHING)
    unknown = forgotten(model)
    assert [n.macs for n in make_plan(unknown, EVERYTHING).nodes] != [n.macs for n in known.nodes]
    sized = make_plan(with_extents(unknown, feeds), EVERYTHING)
    assert [n.macs for n in sized.nodes] == [n.macs for n in known.nodes]
    assert unknown == forgotten(model)


def test_nothing_is_run_where_all_is_known(model):
    assert with_extents(model, {}) is model


def test_what_is_no_number_fits_nowhere(tmp_path):
    net = Network(0, channels=4, side=8)
    net.conv("image", 16)
    model = prepared(net.model(), tmp_path)
    probe = MagnitudeProbe(model, threads=1)
    feeds = samples(model, 1)[0]
    feeds["image"][0, 0, 0, 0] = float("nan")
    probe.observe(feeds)
    assert probe.magnitudes[model.graph.output[0].name] == float("inf")
