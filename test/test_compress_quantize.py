# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Q/DQ models: where pairs stand, what they hold, and that the result computes the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers_models import (
    EVERYTHING,
    Network,
    prepared,
    quantised,
    residual_network,
    run,
    samples,
    sqnr_db,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from av_compress.compress.emit.quantize import adapt_rules, narrow_plan, quantize
from av_compress.compress.emit.simulate import simulate_half
from av_compress.compress.plan.precision import (
    NodeRule,
    Precision,
    PrecisionRules,
    WeightScales,
    make_plan,
)
from av_compress.errors import ConfigError, ModelError


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> onnx.ModelProto:
    return prepared(residual_network(), tmp_path_factory.mktemp("model"))


def constants(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def producers(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    return {name: node for node in model.graph.node for name in node.output}


FP32_RULES = replace(EVERYTHING, base=Precision.FP32)


def test_every_planned_node_reads_activation_and_weight_through_a_pair_and_its_bias_raw(model):
    emitted, plan = quantised(model, FP32_RULES, "tensorrt")
    made = producers(emitted)
    by_name = {node.name: node for node in emitted.graph.node}
    assert plan.quantised() == {n.name for n in model.graph.node if n.op_type == "Conv"}
    for name in plan.quantised():
        node = by_name[name]
        assert made[node.input[0]].op_type == "DequantizeLinear"
        assert made[node.input[1]].op_type == "DequantizeLinear"
        assert node.input[2] in constants(emitted)
        # No pair behind it: convolution and activation stay one kernel.
        consumers = [n for n in emitted.graph.node if node.output[0] in n.input]
        if consumers and consumers[0].op_type in {"Relu", "Sigmoid"}:
            assert all(n.op_type != "QuantizeLinear" for n in consumers)


def test_scales_and_zero_points_are_those_of_symmetric_int8(model):
    emitted, _ = quantised(model, FP32_RULES, "tensorrt")
    values = constants(emitted)
    for node in emitted.graph.node:
        if node.op_type not in {"QuantizeLinear", "DequantizeLinear"}:
            continue
        scale, zero_point = values[node.input[1]], values[node.input[2]]
        assert zero_point.dtype == np.int8
        assert not zero_point.any()
        assert np.isfinite(scale).all()
        assert (scale > 0).all()
        assert scale.shape == zero_point.shape
        # One scale an activation; one a channel for weights, whose axis is said.
        assert (scale.ndim == 1) == (node.input[0].split("_")[0] in values)


def test_weights_by_hand():
    net = Network(0, channels=1, side=3)
    net.conv("image", 2, 1)
    weight = np.array([[[[0.5]]], [[[-2.0]]]], np.float32)
    net.constants[0].CopyFrom(numpy_helper.from_array(weight, net.constants[0].name))
    model = onnx.shape_inference.infer_shapes(net.model(19))
    plan = make_plan(model, FP32_RULES)
    emitted = quantize(model, plan, {"image": (-1.0, 3.0)}, {}, "tensorrt")
    values = constants(emitted)
    np.testing.assert_allclose(values["c0_scale"], [0.5 / 127, 2.0 / 127], rtol=1e-6)
    np.testing.assert_allclose(values["image_scale"], 3.0 / 127, rtol=1e-6)


def test_one_scale_for_a_weight_by_hand():
    net = Network(0, channels=1, side=3)
    net.conv("image", 2, 1)
    weight = np.array([[[[0.5]]], [[[-2.0]]]], np.float32)
    net.constants[0].CopyFrom(numpy_helper.from_array(weight, net.constants[0].name))
    model = onnx.shape_inference.infer_shapes(net.model(19))
    plan = make_plan(model, replace(FP32_RULES, weight_scales=WeightScales.TENSOR))
    emitted = quantize(model, plan, {"image": (-1.0, 3.0)}, {}, "tensorrt")
    values = constants(emitted)
    assert values["c0_scale"].shape == values["c0_zero_point"].shape == ()
    np.testing.assert_allclose(values["c0_scale"], 2.0 / 127, rtol=1e-6)
    (pair,) = (n for n in emitted.graph.node if n.output[0] == "c0_quantized")
    assert not pair.attribute


@pytest.mark.parametrize("emitter", ["cpu", "cpu_dynamic", "weight_only"])
def test_forms_that_lose_nothing_by_many_scales_keep_them(emitter):
    wanted = replace(EVERYTHING, weight_scales=WeightScales.TENSOR)
    assert adapt_rules(wanted, emitter).weight_scales is WeightScales.CHANNEL
    assert adapt_rules(wanted, "tensorrt").weight_scales is WeightScales.TENSOR


@pytest.mark.parametrize("emitter", ["tensorrt", "tensorrt_8", "tensorrt_fp8"])
def test_a_plan_keeps_its_weight_scales_whatever_is_done_to_it(model, emitter):
    wanted = replace(EVERYTHING, weight_scales=WeightScales.TENSOR)
    plan = make_plan(model, wanted)
    some = min(plan.quantised())
    for one in (plan, plan.in_fp32(), plan.spared({some: ""}), plan.with_notes({some: "note"})):
        assert narrow_plan(model, one, emitter).weight_scales is WeightScales.TENSOR
    emitted, _ = quantised(model, wanted, emitter)
    values, made = constants(emitted), producers(emitted)
    weights = [made[n.input[1]] for n in emitted.graph.node if n.op_type == "Conv"]
    assert {values[pair.input[1]].shape for pair in weights} == {()}
    judged = simulate_half(emitted)
    limit = 15 if emitter == "tensorrt_fp8" else 20
    for sample in samples(model):
        assert sqnr_db(run(model, sample)[0], run(judged, sample, exact=True)[0]) > limit


@pytest.mark.parametrize("emitter", ["tensorrt", "cpu"])
def test_the_quantised_model_computes_nearly_the_same(model, emitter):
    emitted, _ = quantised(model, EVERYTHING, emitter)
    judged = simulate_half(emitted)
    for sample in samples(model):
        want = run(model, sample)[0]
        assert sqnr_db(want, run(judged, sample, exact=True)[0]) > 22


def test_what_onnx_runtime_simulates_is_what_the_standard_says(model):
    emitted, _ = quantised(model, FP32_RULES, "tensorrt")
    sample = samples(model)[0]
    want = ReferenceEvaluator(emitted).run(None, sample)[0]
    # Values that lie on the edge between two steps may fall to either side.
    assert sqnr_db(want, run(emitted, sample, exact=True)[0]) > 45


def test_names_and_order_of_the_original_nodes_stay(model):
    for emitter in ("tensorrt", "cpu"):
        emitted, _ = quantised(model, EVERYTHING, emitter)
        kept = [n.name for n in emitted.graph.node if n.name in {m.name for m in model.graph.node}]
        assert kept == [node.name for node in model.graph.node]
        assert [o.name for o in emitted.graph.output] == [o.name for o in model.graph.output]
        assert [i.name for i in emitted.graph.input] == [i.name for i in model.graph.input]


def test_a_tensor_with_several_readers_has_one_pair(model):
    emitted, _ = quantised(model, EVERYTHING, "tensorrt")
    sources = [n.input[0] for n in emitted.graph.node if n.op_type == "QuantizeLinear"]
    assert len(sources) == len(set(sources))


def test_equal_inputs_give_equal_bytes(model):
    first, second = (quantised(model, EVERYTHING, "tensorrt")[0] for _ in range(2))
    assert first.SerializeToString(deterministic=True) == second.SerializeToString(
        deterministic=True
    )


def test_a_quantised_model_is_not_quantised_again(model, tmp_path: Path):
    emitted, _ = quantised(model, EVERYTHING, "tensorrt")
    with pytest.raises(ModelError, match="quantised already"):
        prepared(emitted, tmp_path)


def test_onnx_runtime_runs_the_cpu_form_in_integers(model, tmp_path: Path):
    emitted, plan = quantised(model, EVERYTHING, "cpu")
    path = tmp_path / "optimised.onnx"

    def keep(options) -> None:
        options.optimized_model_filepath = str(path)

    run(emitted, samples(model)[0], configure=keep)
    kinds = [node.op_type for node in onnx.load(path).graph.node]
    # All but the last: its result is the graph's output and stays float.
    assert kinds.count("QLinearConv") == len(plan.quantised()) - 1


def test_a_channel_of_zeros_and_a_constant_activation(tmp_path: Path):
    net = Network(0, channels=2, side=4)
    dead = net.conv("image", 3, 1)
    net.constants[0].CopyFrom(
        numpy_helper.from_array(np.zeros((3, 2, 1, 1), np.float32), net.constants[0].name)
    )
    net.constants[1].CopyFrom(
        numpy_helper.from_array(np.zeros(3, np.float32), net.constants[1].name)
    )
    net.conv(dead, 2, 1)
    model = onnx.shape_inference.infer_shapes(net.model(19))
    for emitter in ("tensorrt", "cpu"):
        emitted, _ = quantised(model, EVERYTHING, emitter)
        got = run(emitted, samples(model)[0], exact=True)[0]
        np.testing.assert_allclose(got, run(model, samples(model)[0])[0], atol=0.02)


def test_a_missing_range_names_the_tensor(model):
    plan = make_plan(model, EVERYTHING)
    with pytest.raises(ModelError, match="no range was observed for tensor image"):
        quantize(model, plan, {}, {}, "tensorrt")


def test_an_unknown_emitter(model):
    plan = make_plan(model, EVERYTHING)
    with pytest.raises(ConfigError, match="allowed: tensorrt, cpu"):
        quantize(model, plan, {}, {}, "openvino")


def test_the_default_rules_spare_what_small_detectors_need(model):
    plan = make_plan(model, PrecisionRules())
    reasons = {node.node: node.reason for node in plan.nodes if node.precision is Precision.FP16}
    assert sorted(reasons.values()) == [
        "depthwise: channels differ too much for one scale",
        "makes a prediction",
        "reads the model's input",
    ]
    assert 0.3 < plan.int8_mac_share() < 1.0


def test_excluded_nodes_stay_and_a_pattern_must_match(model):
    name = next(n.name for n in model.graph.node if n.op_type == "Conv")
    plan = make_plan(model, replace(EVERYTHING, exclude=(name[:-1] + "?",)))
    assert name not in plan.quantised()
    with pytest.raises(ConfigError, match=r"'backbone\.\*' matches no weighted"):
        make_plan(model, replace(EVERYTHING, exclude=("backbone.*",)))


def test_a_node_that_is_named_is_not_excluded(model):
    """`nodes` come before all rules, `exclude` among them; the first entry that matches counts."""
    first, second = [n.node for n in make_plan(model, EVERYTHING).nodes][:2]
    nodes = (NodeRule(first, Precision.INT8), NodeRule("*", Precision.FP32))
    plan = make_plan(model, replace(EVERYTHING, exclude=(first, second), nodes=nodes))
    found = {node.node: (node.precision, node.reason) for node in plan.nodes}
    assert found[first] == (Precision.INT8, f"named by the recipe ({first})")
    assert found[second][0] is Precision.FP32
    nodes = (NodeRule(first, Precision.INT8),)
    plan = make_plan(model, replace(EVERYTHING, exclude=(first, second), nodes=nodes))
    assert plan.nodes[1].reason == f"excluded by the recipe ({second})"


def test_macs_by_hand():
    net = Network(0, channels=4, side=10)
    net.conv(net.conv("image", 8, 3, stride=2), 8, 3, group=8)
    plan = make_plan(onnx.shape_inference.infer_shapes(net.model()), EVERYTHING)
    assert [node.macs for node in plan.nodes] == [8 * 5 * 5 * 4 * 9, 8 * 5 * 5 * 9]


@st.composite
def networks(draw) -> onnx.ModelProto:
    net = Network(draw(st.integers(0, 1000)), channels=4, side=8)
    tensors = ["image"]
    for _ in range(draw(st.integers(2, 8))):
        source = draw(st.sampled_from(tensors))
        channels, side = net.channels[source], net.sides[source]
        alike = [t for t in tensors if net.sides[t] == side and net.channels[t] == channels]
        level = [t for t in tensors if net.sides[t] == side]
        kind = draw(
            st.sampled_from(["conv", "depthwise", "relu", "silu", "add", "concat", "pool"])
        )
        if kind == "conv":
            tensors.append(
                net.conv(source, draw(st.sampled_from([3, 4, 6])), draw(st.sampled_from([1, 3])))
            )
        elif kind == "depthwise":
            tensors.append(net.conv(source, channels, group=channels))
        elif kind == "relu":
            tensors.append(net.relu(source))
        elif kind == "silu":
            tensors.append(net.silu(source))
        elif kind == "add":
            tensors.append(net.add("Add", [source, draw(st.sampled_from(alike))], channels, side))
        elif kind == "concat":
            other = draw(st.sampled_from(level))
            both = channels + net.channels[other]
            tensors.append(net.add("Concat", [source, other], both, side, axis=1))
        else:
            attributes = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
            tensors.append(net.add("MaxPool", [source], channels, side, **attributes))
    net.conv(net.last, 4, 1)
    return net.model()


@settings(max_examples=40, deadline=None)
@given(network=networks(), emitter=st.sampled_from(["tensorrt", "cpu"]))
def test_random_networks_survive(tmp_path_factory, network, emitter):
    model = prepared(network, tmp_path_factory.mktemp("random"))
    emitted, _ = quantised(model, EVERYTHING, emitter)
    onnx.checker.check_model(emitted, full_check=True)
    sample = samples(model)[0]
    assert sqnr_db(run(model, sample)[0], run(emitted, sample, exact=True)[0]) > 12
