# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Affine migration: the same function with channels centred and alike, and what it gains."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from helpers_models import EVERYTHING, Network, prepared, run, samples, sqnr_db
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from av_compress.compress.graph import GraphIndex
from av_compress.compress.layers import Layer
from av_compress.compress.observe.channels import ChannelObserver, Reservoir
from av_compress.compress.plan.precision import make_plan
from av_compress.compress.refine.affine import Affine, can_shift
from av_compress.compress.refine.choose_affine import Choice, choose_affine
from av_compress.compress.refine.insert import insert_affines
from av_compress.compress.refine.refine import choose_affines, layer_inputs
from av_compress.errors import ModelError


def convolution(model: onnx.ModelProto) -> onnx.NodeProto:
    return [n for n in model.graph.node if n.op_type == "Conv"][-1]


def layer_of(model: onnx.ModelProto) -> Layer:
    layer = Layer.of(GraphIndex(model), convolution(model))
    assert layer is not None
    return layer


def network(groups: int, size: int, bias: bool, seed: int) -> onnx.ModelProto:
    """Conv -> ReLU -> the convolution that is to be changed."""
    net = Network(seed, channels=4, side=9)
    source = net.relu(net.conv("image", 12))
    net.conv(source, 12, size, group=groups, stride=2)
    if not bias:
        del net.nodes[-1].input[2]
    return net.model()


@settings(max_examples=40, deadline=None)
@given(
    groups=st.sampled_from([1, 3, 12]),
    size=st.sampled_from([1, 3, 5]),
    bias=st.booleans(),
    shifted=st.booleans(),
    scaled=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_an_affine_map_changes_nothing(
    tmp_path_factory, groups, size, bias, shifted, scaled, seed
):
    model = prepared(network(groups, size, bias, seed), tmp_path_factory.mktemp("m"))
    rng = np.random.default_rng(seed)
    affine = Affine(
        np.exp(rng.uniform(-3, 3, 12)) if scaled else np.ones(12),
        rng.normal(size=12) if shifted else np.zeros(12),
    )
    before = model.SerializeToString()
    changed = insert_affines(model, {convolution(model).name: affine})
    assert model.SerializeToString() == before
    onnx.checker.check_model(changed, full_check=True)
    feeds = samples(model, 1)[0]
    (expected,) = ReferenceEvaluator(model).run(None, feeds)
    assert sqnr_db(expected, run(changed, feeds)[0]) > 80
    assert sqnr_db(expected, ReferenceEvaluator(changed).run(None, feeds)[0]) > 80
    added = len(changed.graph.node) - len(model.graph.node)
    # Factors go through ReLU into the first convolution, shifts stay.
    assert added == shifted + (shifted and size > 1)
    # Names that were there are there still.
    assert {n.name for n in model.graph.node} <= {n.name for n in changed.graph.node}


@pytest.mark.parametrize("transposed", [0, 1])
def test_a_matrix_product_is_mapped_along_its_rows(transposed):
    rng = np.random.default_rng(1)
    weight = rng.normal(size=(5, 7) if transposed else (7, 5)).astype(np.float32)
    node = helper.make_node("Gemm", ["x", "w", "b"], ["y"], name="fc", transB=transposed)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [3, 7])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [3, 5])],
        [
            numpy_helper.from_array(weight, "w"),
            numpy_helper.from_array(rng.normal(size=5).astype(np.float32), "b"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    affine = Affine(rng.uniform(0.1, 3, 7), rng.normal(size=7))
    feeds = {"x": rng.normal(size=(3, 7)).astype(np.float32)}
    (expected,) = ReferenceEvaluator(model).run(None, feeds)
    (got,) = ReferenceEvaluator(insert_affines(model, {"fc": affine})).run(None, feeds)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_a_bias_that_is_no_constant_rules_shifts_out():
    node = helper.make_node("Conv", ["x", "w", "b"], ["y"], name="conv")
    graph = helper.make_graph(
        [node],
        "g",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 4, 4]),
            helper.make_tensor_value_info("b", TensorProto.FLOAT, [3]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3, 4, 4])],
        [numpy_helper.from_array(np.ones((3, 2, 1, 1), np.float32), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    assert not can_shift(GraphIndex(model), layer_of(model))
    with pytest.raises(ModelError, match="no constant bias"):
        insert_affines(model, {"conv": Affine(np.ones(2), np.ones(2))})
    node.attribute.append(helper.make_attribute("auto_pad", "SAME_UPPER"))
    assert not can_shift(GraphIndex(model), layer_of(model))


@pytest.mark.parametrize(
    ("name", "factors", "shifts", "words"),
    [
        ("absent", np.ones(12), np.zeros(12), "absent"),
        (None, np.full(11, 2.0), np.zeros(12), "one positive factor and one shift"),
        (None, np.zeros(12), np.zeros(12), "one positive factor"),
        (None, np.full(12, np.nan), np.zeros(12), "one positive factor"),
        (None, np.ones(12), np.full(12, np.inf), "one positive factor"),
    ],
)
def test_maps_that_do_not_fit_are_refused(tmp_path, name, factors, shifts, words):
    model = prepared(network(1, 3, True, 0), tmp_path)
    with pytest.raises(ModelError, match=words):
        insert_affines(model, {name or convolution(model).name: Affine(factors, shifts)})


def rectified(rng: np.random.Generator, spread: float) -> np.ndarray:
    scale = np.exp(rng.uniform(-spread, spread, 12))
    return (np.maximum(rng.normal(size=(3000, 12)), 0) * scale).astype(np.float32)


def places_of(rows: np.ndarray, samples: int = 8) -> Reservoir:
    """Observe rows [places, channels] as so many samples, one of each group."""
    reservoir = Reservoir("x")
    for number, part in enumerate(np.array_split(rows, samples)):
        reservoir.observe(part, channel_axis=-1, sample=number)
    return reservoir


def int8_error(layer: Layer, rows: np.ndarray, affine: Affine) -> float:
    """Quantise for real, tap by tap, with the best of many thresholds, and measure."""
    mapped = (rows.astype(np.float64) - affine.shifts) / affine.factors
    matrix = layer.matrix().reshape(layer.groups, -1, layer.channels // layer.groups, layer.taps)
    factors = affine.factors.reshape(layer.groups, 1, -1, 1)
    grouped = mapped.reshape(len(rows), layer.groups, -1)
    exact = np.einsum("ngc,goct->ngot", grouped, matrix * factors)
    errors = []
    for share in np.geomspace(0.2, 1, 30):
        step = np.abs(mapped).max() * share / 127
        rounded = np.clip(np.rint(grouped / step), -128, 127) * step
        errors.append(
            ((np.einsum("ngc,goct->ngot", rounded, matrix * factors) - exact) ** 2).sum()
        )
    return float(min(errors))


@pytest.mark.parametrize("groups", [1, 12])
def test_what_is_chosen_pays_as_estimated(tmp_path, groups):
    model = prepared(network(groups, 1, True, 3), tmp_path)
    layer = layer_of(model)
    rows = rectified(np.random.default_rng(4), spread=2.0)
    choice = choose_affine(layer, places_of(rows), shiftable=True)
    assert choice is not None
    assert choice.affine.shifted
    plain = Affine(np.ones(12), np.zeros(12))
    gain = 10 * np.log10(int8_error(layer, rows, plain) / int8_error(layer, rows, choice.affine))
    # The estimate sees fewer places, and counts what the weights' rounding takes back.
    assert gain > 0.7 * choice.gain_db
    assert choice.gain_db > 3.0


def test_nothing_is_chosen_where_channels_are_centred_and_alike(tmp_path):
    layer = layer_of(prepared(network(1, 3, True, 5), tmp_path))
    rows = np.random.default_rng(6).uniform(-1, 1, (3000, 12)).astype(np.float32)
    assert choose_affine(layer, places_of(rows), shiftable=True) is None
    for nothing in (np.zeros((100, 12), np.float32), np.zeros((0, 12), np.float32)):
        assert choose_affine(layer, places_of(nothing), shiftable=True) is None


def test_no_shift_is_chosen_where_none_can_be_made_up_for(tmp_path):
    layer = layer_of(prepared(network(1, 3, True, 7), tmp_path))
    rows = rectified(np.random.default_rng(8), 3.0)
    choice = choose_affine(layer, places_of(rows), shiftable=False)
    assert choice is None or not choice.affine.shifted


@pytest.mark.parametrize("groups", [1, 12])
def test_padded_zeros_are_inside_of_what_is_mapped(tmp_path, groups):
    """A channel that hardly moves, far from zero, is not blown up until padding rules steps."""
    layer = layer_of(prepared(network(groups, 3, True, 9), tmp_path))
    assert layer.padded
    rows = rectified(np.random.default_rng(10), 1.0)
    rows[:, 3] = -0.27 + np.random.default_rng(11).uniform(-1e-4, 1e-4, len(rows))
    choice = choose_affine(layer, places_of(rows), shiftable=True)
    assert choice is not None
    mapped = np.abs((rows - choice.affine.shifts) / choice.affine.factors).max()
    padding = np.abs(choice.affine.shifts / choice.affine.factors).max()
    assert padding < 1.01 * mapped


@pytest.mark.parametrize("groups", [1, 12])
def test_frames_that_go_further_than_those_seen_do_not_clip_everywhere(tmp_path, groups):
    """Every sample has other channels at work: what is new in the next is not cut off."""
    layer = layer_of(prepared(network(groups, 1, True, 12), tmp_path))
    rng = np.random.default_rng(13)
    scale = np.exp(rng.uniform(-2, 2, 12))

    def frames(count: int) -> np.ndarray:
        gains = scale * np.where(rng.random((count, 1, 12)) < 0.05, 5.0, 1.0)
        return (np.maximum(rng.normal(size=(count, 100, 12)), 0) * gains).astype(np.float32)

    seen, unseen = frames(24).reshape(-1, 12), frames(200).reshape(-1, 12)
    choice = choose_affine(layer, places_of(seen, 24), shiftable=True)
    assert choice is not None
    low, high = seen.min(axis=0), seen.max(axis=0)
    fitted = Choice(Affine((high - low) / 2.0, (high + low) / 2.0), 1.0, 0.0)
    assert held_error(layer, unseen, choice) < 0.5 * held_error(layer, unseen, fitted)
    # What was seen alone would have spoken for the tight fit.
    assert held_error(layer, seen, fitted) < held_error(layer, seen, choice)


def held_error(layer: Layer, rows: np.ndarray, choice: Choice) -> float:
    """Quantise for real with the chosen threshold, and measure."""
    mapped = (rows - choice.affine.shifts) / choice.affine.factors
    step = choice.threshold / 127
    rounded = np.clip(np.rint(mapped / step), -128, 127) * step
    matrix = layer.matrix() * np.repeat(choice.affine.factors, layer.taps).reshape(
        layer.groups, 1, -1
    )
    error = np.repeat(rounded - mapped, layer.taps, axis=1).reshape(len(rows), layer.groups, -1)
    return float((np.einsum("ngk,gok->ngo", error, matrix) ** 2).sum())


def test_one_sample_is_enough_to_choose(tmp_path):
    layer = layer_of(prepared(network(12, 1, True, 14), tmp_path))
    choice = choose_affine(layer, places_of(rectified(np.random.default_rng(15), 2.0), 1), True)
    assert choice is not None
    assert choice.gain_db > 3.0


@pytest.mark.parametrize("shape", [(1, 16, 20, 16), (1, 20, 16), (2, 8, 20, 16)])
def test_a_product_reads_its_channels_from_the_last_axis(tmp_path, shape):
    """Whatever stands on the second axis of four, as large as the last or not."""
    rng = np.random.default_rng(16)
    weight = rng.normal(size=(16, 32)).astype(np.float32)
    spread = np.exp(rng.uniform(-3, 3, 16)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "weight"], ["y"], name="product")],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (*shape[:-1], 32))],
        [numpy_helper.from_array(weight, "weight")],
    )
    opset = [helper.make_opsetid("", 19)]
    model = prepared(helper.make_model(graph, opset_imports=opset, ir_version=9), tmp_path)
    plan = make_plan(model, EVERYTHING)
    assert plan.quantised() == {"product"}
    read = layer_inputs(model, plan.quantised())
    assert read == {"product": ("x", -1)}
    observer = ChannelObserver(model, sorted(read.values()), threads=1)
    for _ in range(4):
        observer.observe({"x": rng.normal(size=shape).astype(np.float32) * spread})
    choice = choose_affines(model, plan.quantised(), observer.reservoirs)["product"]
    assert choice.gain_db > 3.0
    assert np.corrcoef(np.log(choice.affine.factors), np.log(spread))[0, 1] > 0.9
