# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Rounding that makes up for its errors: moments, patches, and outputs that move less."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from helpers_models import Network, prepared, run
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from onnx import helper

from av_compress.compress.emit.holds import scale_fits
from av_compress.compress.emit.insertion import WeightGrid, symmetric_weight
from av_compress.compress.emit.tensorrt import weight_grid
from av_compress.compress.graph import GraphIndex
from av_compress.compress.layers import Layer
from av_compress.compress.plan.precision import Precision, PrecisionPlan, WeightScales
from av_compress.compress.refine import moments as moments_module
from av_compress.compress.refine.moments import Moments, collect_moments
from av_compress.compress.refine.patches import patches
from av_compress.compress.refine.refinement import Refinement
from av_compress.compress.refine.rounding import channel_scales, compensated, round_weight


def conv_layer(model: onnx.ModelProto) -> Layer:
    node = [n for n in model.graph.node if n.op_type == "Conv"][-1]
    layer = Layer.of(GraphIndex(model), node)
    assert layer is not None
    return layer


def correlated(model: onnx.ModelProto, count: int, seed: int = 0) -> list[dict[str, np.ndarray]]:
    """Return inputs whose neighbours and channels are alike, as those of images are."""
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        smooth = rng.normal(size=(1, 2, *shape[2:])).cumsum(axis=2).cumsum(axis=3)
        mixed = np.einsum("bchw,cd->bdhw", smooth, rng.normal(size=(2, shape[1])))
        noise = rng.normal(size=shape)
        found.append({model.graph.input[0].name: (mixed + noise + 1).astype(np.float32)})
    return found


@settings(max_examples=30, deadline=None)
@given(
    groups=st.sampled_from([1, 2, 8]),
    size=st.sampled_from([1, 3]),
    stride=st.sampled_from([1, 2]),
    dilation=st.sampled_from([1, 2]),
    seed=st.integers(0, 2**16),
)
def test_patches_times_weights_are_the_convolution(
    tmp_path_factory, groups, size, stride, dilation, seed
):
    net = Network(seed, channels=8, side=11)
    net.conv("image", 16, size, group=groups, stride=stride)
    net.nodes[-1].attribute.append(onnx.helper.make_attribute("dilations", [dilation] * 2))
    model = net.model()
    del model.graph.output[:]
    model.graph.output.append(onnx.ValueInfoProto(name=net.last))
    layer = conv_layer(model)
    feeds = correlated(model, 1, seed)[0]
    (expected,) = run(model, feeds)
    bias = GraphIndex(model).constant(layer.node.input[2])
    taken = patches(layer, feeds["image"], 10**6, np.random.default_rng(0))
    got = np.einsum("ngk,gok->ngo", taken, layer.matrix()).reshape(len(taken), -1) + bias
    np.testing.assert_allclose(got, expected[0].reshape(16, -1).T, rtol=1e-3, atol=1e-3)


def test_moments_are_those_of_all_patches(tmp_path, monkeypatch):
    net = Network(1, channels=6, side=8)
    net.conv(net.relu(net.conv("image", 8)), 8, group=8)
    model = prepared(net.model(), tmp_path)
    feeds = correlated(model, 3)
    names = [n.name for n in model.graph.node]
    found = {layer.name: m for layer, m in collect_moments(model, names, feeds)}
    # Little memory only makes more runs.
    monkeypatch.setattr(moments_module, "BUDGET_BYTES", 1)
    again = {layer.name: m for layer, m in collect_moments(model, names, feeds)}
    assert found.keys() == again.keys()
    layer = conv_layer(model)
    session_inputs = []
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    watched.graph.output.append(onnx.ValueInfoProto(name=layer.node.input[0]))
    for feed in feeds:
        values = run(watched, feed)[1]
        session_inputs.append(patches(layer, values, 10**6, np.random.default_rng(0)))
    everything = np.concatenate(session_inputs)
    for group in range(8):
        expected = np.cov(everything[:, group].T, bias=True)
        np.testing.assert_allclose(found[layer.name].covariance[group], expected, atol=1e-5)
        np.testing.assert_allclose(again[layer.name].covariance[group], expected, atol=1e-5)
        np.testing.assert_allclose(found[layer.name].mean[group], everything[:, group].mean(0))


def error(weights: np.ndarray, rounded: np.ndarray, covariance: np.ndarray) -> float:
    difference = weights - rounded
    return float(np.einsum("ok,kl,ol->", difference, covariance, difference))


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    outputs=st.integers(1, 6),
    inputs=st.integers(2, 24),
    levels=st.sampled_from([63, 127]),
)
def test_compensation_moves_outputs_less_than_rounding_to_nearest(seed, outputs, inputs, levels):
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(inputs, max(1, inputs // 3)))
    covariance = mixing @ mixing.T + 0.02 * np.eye(inputs)
    weights = rng.normal(size=(outputs, inputs))
    scales = np.abs(weights).max(axis=1) / levels
    rounded = compensated(weights, covariance, scales, levels, np.ones(outputs, bool))
    steps = rounded / scales[:, None]
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-6)
    assert np.abs(steps).max() <= levels + 1e-6
    assert np.abs(steps).max(axis=1) == pytest.approx(levels)
    nearest = np.rint(weights / scales[:, None]) * scales[:, None]
    # Greedy, so single draws may be a little worse; it never loses much, and mostly gains.
    assert error(weights, rounded, covariance) <= 1.3 * error(weights, nearest, covariance)


def test_compensation_gains_decibels_where_inputs_are_alike():
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(64, 6))
    covariance = mixing @ mixing.T + 0.01 * np.eye(64)
    weights = rng.normal(size=(32, 64))
    scales = np.abs(weights).max(axis=1) / 127
    nearest = np.rint(weights / scales[:, None]) * scales[:, None]
    rounded = compensated(weights, covariance, scales, 127, np.ones(32, bool))
    assert error(weights, rounded, covariance) < 0.2 * error(weights, nearest, covariance)


@given(
    arrays(np.float64, (3, 8), elements=st.floats(-1e6, 1e6, allow_subnormal=True)),
    arrays(np.float64, 8, elements=st.floats(0, 1e6, allow_subnormal=True)),
)
def test_scales_are_positive_and_finite_for_any_weights(weights, variances):
    scales = channel_scales(weights, variances, 127)
    assert np.isfinite(scales).all()
    assert (scales.astype(np.float32) > 0).all()


def test_an_outlier_in_weights_is_clipped_where_that_helps():
    weights = np.full((1, 400), 0.1)
    weights[0, 1:200:2] = -0.033
    weights[0, 0] = 0.13
    variances = np.ones(400)
    variances[0] = 1e-9
    assert channel_scales(weights, variances, 7)[0] < 0.13 / 7 * 0.99


@pytest.mark.parametrize("group", [1, 2, 16])
@pytest.mark.parametrize("smallest", [1.0, 1e-2, 3e-6])
def test_what_was_rounded_is_stored_as_it_is(group, smallest):
    """In FP16 as well, whose scales are coarse where they are small, and with a dead channel."""
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(16, 16 // group, 3, 3)) * 1e-3
    weight *= np.geomspace(1, smallest, 16).reshape(16, 1, 1, 1)
    weight[7] = 0
    node = helper.make_node("Conv", ["x", "w"], ["y"], name="c", group=group)
    layer = Layer(node, weight.astype(np.float32), group)
    fan = 9 * 16 // group
    moments = Moments(np.zeros((group, fan)), np.stack([np.eye(fan)] * group))
    grid = weight_grid(PrecisionPlan(Precision.FP16, ()))
    assert grid is not None
    rounded = round_weight(layer, moments, grid).weight
    how = symmetric_weight(rounded, 0, grid.levels)
    scales = grid.snap(how.scale).astype(np.float64).reshape(16, 1, 1, 1)
    steps = rounded.astype(np.float64) / scales
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-4)
    assert np.abs(steps).max() <= 127 + 1e-4


@pytest.mark.parametrize("base", [Precision.FP16, Precision.FP32])
@pytest.mark.parametrize("group", [1, 4])
def test_with_one_scale_what_was_rounded_is_stored_as_it_is(group, base):
    rng = np.random.default_rng(1)
    weight = rng.normal(size=(16, 16 // group, 3, 3)) * np.geomspace(1, 0.05, 16).reshape(
        16, 1, 1, 1
    )
    node = helper.make_node("Conv", ["x", "w"], ["y"], name="c", group=group)
    fan = 9 * 16 // group
    mixing = rng.normal(size=(fan, fan // 4))
    covariance = mixing @ mixing.T + 0.01 * np.eye(fan)
    moments = Moments(np.zeros((group, fan)), np.stack([covariance] * group))
    layer = Layer(node, weight.astype(np.float32), group)
    grid = weight_grid(PrecisionPlan(base, (), WeightScales.TENSOR))
    assert grid is not None
    rounded = round_weight(layer, moments, grid).weight.astype(np.float64)
    # As the form finds its one scale: by the largest magnitude of the tensor.
    scale = float(grid.snap(symmetric_weight(rounded.astype(np.float32), None, 127).scale))
    steps = rounded / scale
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-4)
    assert np.abs(steps).max() == pytest.approx(127)
    # Only what sets the scale is at the end of the range: small outputs stay small.
    assert (np.abs(steps).reshape(16, -1).max(axis=1) > 126.5).sum() == 1
    nearest = np.clip(np.rint(weight / scale), -127, 127) * scale
    outputs = [values.reshape(16, -1) for values in (weight, rounded, nearest)]
    assert error(outputs[0], outputs[1], covariance) < error(outputs[0], outputs[2], covariance)


def test_a_dead_channel_hides_no_scale_that_fp16_does_not_hold():
    weight = np.full((4, 8), 1e-6, np.float32)
    assert not scale_fits(symmetric_weight(weight, 0, 127).scale)
    weight[2] = 0
    how = symmetric_weight(weight, 0, 127)
    assert how.scale.tolist() == [how.scale[0]] * 4
    assert not scale_fits(how.scale)
    assert symmetric_weight(np.zeros((2, 3), np.float32), 0, 127).scale.tolist() == [1, 1]


@pytest.mark.parametrize("groups", [1, 8])
def test_the_bias_takes_what_rounding_moves_on_average(tmp_path, groups):
    net = Network(2, channels=8, side=16)
    net.conv("image", 8, 3, group=groups)
    pads = next(a for a in net.nodes[-1].attribute if a.name == "pads")
    pads.CopyFrom(onnx.helper.make_attribute("pads", [0] * 4))
    net.sides[net.last] = 14
    model = prepared(net.model(), tmp_path)
    feeds = correlated(model, 4)
    layer = conv_layer(model)
    ((_, moments),) = collect_moments(model, [layer.name], feeds)
    rounded = round_weight(layer, moments, WeightGrid(7, np.float32))
    # Whoever quantises by the largest magnitude finds whole numbers of steps.
    how = symmetric_weight(rounded.weight, 0, 7)
    steps = rounded.weight / how.scale.reshape(-1, 1, 1, 1)
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-5)
    assert (np.abs(np.rint(steps)).reshape(8, -1).max(axis=1) == 7).all()
    refinement = Refinement(weights={layer.name: rounded})
    changed = refinement.apply(model, [layer.name])
    onnx.checker.check_model(changed, full_check=True)
    shifts = np.mean(
        [(run(changed, f)[0] - run(model, f)[0]).mean(axis=(0, 2, 3)) for f in feeds], axis=0
    )
    deviation = np.std([run(model, f)[0] for f in feeds])
    assert np.abs(shifts).max() < 0.005 * deviation
    # A node that is left in float keeps its weights.
    assert refinement.apply(model, []).SerializeToString() == model.SerializeToString()
