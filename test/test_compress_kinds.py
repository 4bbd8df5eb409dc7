# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Every kind of quantisation: what it writes, what that computes, and where it runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import ml_dtypes
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
from helpers_real import DETECTORS, real_inputs, real_magnitudes, real_model
from helpers_trt import compile_plan
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from av_compress.compress.emit.kinds import KINDS
from av_compress.compress.emit.quantize import (
    EMITTERS,
    adapt_rules,
    narrow_plan,
    quantize,
    tensors_to_observe,
)
from av_compress.compress.emit.simulate import simulate_half
from av_compress.compress.plan.precision import Precision, PrecisionRules, make_plan
from av_compress.engines.forms import FORMS, ON_CPU, ON_GPU
from av_compress.engines.onnxruntime import OnnxRuntimeEngine, OrtOptions

FP32_RULES = replace(EVERYTHING, base=Precision.FP32)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> onnx.ModelProto:
    return prepared(residual_network(), tmp_path_factory.mktemp("model"))


def constants(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def perceptron(seed: int = 0, rows: int = 3) -> onnx.ModelProto:
    """Make products of every sort: Gemm with all attributes, MatMul, one tensor read twice."""
    rng = np.random.default_rng(seed)

    def values(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    weights = {"a": values(24, 32), "a_bias": values(24), "b": values(24, 16), "c": values(24, 16)}
    nodes = [
        helper.make_node(
            "Gemm", ["x", "a", "a_bias"], ["h"], "one", transB=1, alpha=0.5, beta=2.0
        ),
        helper.make_node("Relu", ["h"], ["r"], "relu"),
        helper.make_node("MatMul", ["r", "b"], ["s"], "two"),
        helper.make_node("Gemm", ["r", "c"], ["t"], "three"),
        helper.make_node("Add", ["s", "t"], ["y"], "sum"),
    ]
    graph = helper.make_graph(
        nodes,
        "perceptron",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [rows, 32])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [rows, 16])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    opsets = [helper.make_opsetid("", 19)]
    made = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    return onnx.shape_inference.infer_shapes(made)


def rules_of(kind, base: PrecisionRules = EVERYTHING) -> PrecisionRules:
    """Return rules that give a kind everything that it can quantise."""
    nothing = kind.name == "FP16"
    return adapt_rules(replace(base, exclude=("*",) if nothing else ()), kind.emitter)


def dynamically(x: np.ndarray) -> np.ndarray:
    """Quantise and restore as the standard says of DynamicQuantizeLinear, in double precision."""
    low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
    scale = np.float32((high - low) / 255)
    point = np.clip(np.rint(-low / scale), 0, 255)
    return (np.clip(np.rint(x / scale) + point, 0, 255) - point) * np.float64(scale)


def columns_of_7_bits(w: np.ndarray) -> np.ndarray:
    scale = np.abs(w).max(axis=0).astype(np.float64) / 63
    return np.rint(w / scale) * scale


def test_the_tables_name_the_same_forms():
    assert set(EMITTERS) == set(FORMS) == {kind.emitter for kind in KINDS}
    assert set(ON_CPU) == set(ON_GPU) == set(FORMS)
    assert len({kind.name for kind in KINDS}) == len(KINDS)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("network", ["convolutions", "products"])
def test_what_is_written_is_what_the_table_says(kind, network, model):
    source = model if network == "convolutions" else perceptron()
    rules = rules_of(kind)
    emitted, plan = quantised(source, rules, kind.emitter)
    added = {node.op_type for node in emitted.graph.node} - {n.op_type for n in source.graph.node}
    assert added <= kind.operators
    assert emitted.opset_import[0].version == kind.opset
    inferred = onnx.shape_inference.infer_shapes(emitted, strict_mode=True)
    types = {value.type.tensor_type.elem_type for value in inferred.graph.value_info}
    types |= {tensor.data_type for tensor in emitted.graph.initializer}
    known = {tensor.data_type for tensor in source.graph.initializer} | {TensorProto.FLOAT}
    assert types <= kind.types | known
    if narrow_plan(source, plan, kind.emitter).quantised():
        assert bool(tensors_to_observe(source, plan, kind.emitter)) == kind.calibration
        assert {"QuantizeLinear", "DequantizeLinear", "MatMulInteger"} & added


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_equal_inputs_give_equal_bytes(kind):
    first, second = (quantised(perceptron(), rules_of(kind), kind.emitter)[0] for _ in range(2))
    assert first.SerializeToString(deterministic=True) == second.SerializeToString(
        deterministic=True
    )


# 8 bits of an activation, and 7 to 8 of a weight, leave some 40 dB a layer; E4M3 rounds by up to a
# 16th, which is 30 dB below a signal, and there are seven layers.
FLOORS_DB = {"FP16": 50, "FP8": 18, "INT8 weights": 35}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_network_computes_nearly_the_same(kind, model):
    emitted, _ = quantised(model, rules_of(kind), kind.emitter)
    form = FORMS[kind.emitter]
    judged = simulate_half(emitted) if form.simulated else emitted
    for sample in samples(model, 2):
        got = run(judged, sample, exact=form.computes_pairs(on_gpu=False))[0]
        assert sqnr_db(run(model, sample)[0], got) > FLOORS_DB.get(kind.name, 22)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_the_engine_runs_every_form_and_the_reference_agrees(kind):
    source = perceptron()
    rules = replace(rules_of(kind), base=Precision.FP32)
    emitted, _ = quantised(source, rules, kind.emitter)
    sample = samples(source)[0]
    exact = FORMS[kind.emitter].computes_pairs(on_gpu=False)
    options = OrtOptions(intra_op_threads=1, exact_quantization=exact)
    engine = OnnxRuntimeEngine(emitted.SerializeToString(), options)
    got = engine.run(sample).outputs["y"].copy()
    engine.close()
    # The reference knows pairs from opset 19 on; these operators mean the same in 17.
    emitted.opset_import[0].version = 19
    want = ReferenceEvaluator(emitted).run(None, sample)[0]
    assert sqnr_db(want, got) > 45


def test_weights_alone_by_hand():
    source = perceptron()
    emitted, plan = quantised(source, rules_of(KINDS[5]), "weight_only")
    values, original = constants(emitted), constants(source)
    assert values["one_a_quantized"].dtype == np.int8
    restored = {}
    for node, name, axis in (("one", "a", 1), ("two", "b", 0), ("three", "c", 0)):
        scale = np.abs(original[name]).max(axis=axis, keepdims=True).astype(np.float64) / 127
        restored[name] = np.rint(original[name] / scale) * scale
        step = values[f"{node}_{name}_scale"]
        np.testing.assert_allclose(step, scale.ravel(), rtol=1e-6)
    x = samples(source)[0]["x"].astype(np.float64)
    hidden = np.maximum(0.5 * x @ restored["a"].T + 2.0 * original["a_bias"], 0)
    want = hidden @ restored["b"] + hidden @ restored["c"]
    np.testing.assert_allclose(
        run(emitted, {"x": x.astype(np.float32)}, exact=True)[0], want, atol=2e-5
    )
    assert {n.precision for n in narrow_plan(source, plan, "weight_only").nodes} == {
        Precision.INT8
    }


def test_weights_alone_of_every_operator_but_the_excluded(model):
    net = Network(1, channels=4, side=6)
    first = net.conv("image", 8)
    kernel = net.constant(net.rng.normal(size=(8, 4, 2, 2)).astype(np.float32))
    net.add("ConvTranspose", [first, kernel], 4, 12, strides=[2, 2])
    source = onnx.shape_inference.infer_shapes(net.model(19))
    # Channels, the model's border and its predictions are no reason to keep weights large.
    plan = make_plan(source, adapt_rules(PrecisionRules(), "weight_only"))
    assert len(plan.quantised()) == 2
    excluded = make_plan(source, adapt_rules(PrecisionRules(exclude=("n_t0",)), "weight_only"))
    assert excluded.quantised() == {"n_t1"}
    emitted = quantize(source, plan, {}, {}, "weight_only")
    assert sqnr_db(*(run(m, samples(source)[0])[0] for m in (source, emitted))) > 38


def test_weights_alone_are_made_float_when_the_model_is_loaded(model, tmp_path: Path):
    emitted, _ = quantised(model, rules_of(KINDS[5]), "weight_only")
    kept = tmp_path / "optimised.onnx"

    def keep(options) -> None:
        options.optimized_model_filepath = str(kept)

    assert FORMS["weight_only"].computes_pairs(on_gpu=True)
    run(emitted, samples(model)[0], exact=True, configure=keep)
    assert not any(node.op_type == "DequantizeLinear" for node in onnx.load(kept).graph.node)


@given(seed=st.integers(0, 1000), scale=st.sampled_from([1e-3, 1.0, 50.0]))
@settings(max_examples=20, deadline=None)
def test_dynamic_products_by_hand(seed, scale):
    source = perceptron(seed)
    emitted = quantize(source, make_plan(source, rules_of(KINDS[4])), {}, {}, "cpu_dynamic")
    w = {name: value.astype(np.float64) for name, value in constants(source).items()}
    x = (np.random.default_rng(seed).normal(size=(3, 32)) * scale).astype(np.float32)
    hidden = dynamically(x) @ columns_of_7_bits(0.5 * w["a"].T) + 2.0 * w["a_bias"]
    hidden = np.maximum(hidden, 0)
    want = dynamically(hidden) @ (columns_of_7_bits(w["b"]) + columns_of_7_bits(w["c"]))
    # A value on the edge between two steps may fall to either side.
    assert sqnr_db(want, run(emitted, {"x": x})[0]) > 45


def test_onnx_runtime_fuses_dynamic_products(tmp_path: Path):
    source = perceptron()
    emitted, plan = quantised(source, rules_of(KINDS[4]), "cpu_dynamic")
    kept = tmp_path / "optimised.onnx"

    def keep(options) -> None:
        options.optimized_model_filepath = str(kept)

    run(emitted, samples(source)[0], configure=keep)
    found = [node.op_type for node in onnx.load(kept).graph.node]
    # Two products share one quantised activation.
    assert sorted(found) == [
        *("Add", "DynamicQuantizeLinear", "DynamicQuantizeMatMul"),
        *("MatMulIntegerToFloat", "MatMulIntegerToFloat", "Relu"),
    ]
    assert plan.quantised() == {"one", "two", "three"}
    assert {n.name for n in emitted.graph.node} >= plan.quantised()
    assert np.abs(constants(emitted)["one_weight"]).max() == 63


def test_dynamic_leaves_convolutions_and_says_so(model):
    plan = make_plan(model, rules_of(KINDS[4]))
    narrowed = narrow_plan(model, plan, "cpu_dynamic")
    assert not narrowed.quantised()
    assert {node.reason for node in narrowed.nodes} == {
        "quantised while the model runs, it would be slower than in FP32"
    }
    emitted = quantize(model, plan, {}, {}, "cpu_dynamic")
    assert list(emitted.graph.node) == list(model.graph.node)


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"transA": 1}, "its input is transposed"), ({"beta": 2.0}, "its bias is scaled")],
)
def test_products_that_dynamic_leaves(change, reason):
    weight = numpy_helper.from_array(np.ones((3, 5), np.float32), "w")
    nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["y"], "gemm", **change)]
    borders = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", [3, 3]), ("b", [3, 5]), ("y", [3, 5]))
    ]
    graph = helper.make_graph(nodes, "graph", borders[:2], borders[2:], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    plan = make_plan(model, rules_of(KINDS[4]))
    reasons = [node.reason for node in narrow_plan(model, plan, "cpu_dynamic").nodes]
    assert reasons[0].startswith(reason)


def in_e4m3(x: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Round as a device would: to the nearest E4M3 number, the largest ones saturating."""
    clipped = np.clip(x / scale, -448, 448)
    return clipped.astype(ml_dtypes.float8_e4m3fn).astype(np.float64) * scale


def test_fp8_by_hand():
    source = perceptron()
    rules = replace(EVERYTHING, base=Precision.FP32)
    plan = make_plan(source, rules)
    x = samples(source)[0]["x"]
    original = {name: value.astype(np.float64) for name, value in constants(source).items()}
    hidden = np.maximum(0.5 * x @ original["a"].T + 2 * original["a_bias"], 0)
    # The range was clipped in calibration; FP8 gains nothing by that.
    ranges = {"x": (-0.5, 0.5), "r": (0.0, float(hidden.max()))}
    emitted = quantize(source, plan, ranges, {"x": float(np.abs(x).max())}, "tensorrt_fp8")
    values = constants(emitted)
    assert values["x_zero_point"].dtype == ml_dtypes.float8_e4m3fn
    assert values["a_zero_point"].shape == values["a_scale"].shape == (24,)
    np.testing.assert_allclose(values["x_scale"], np.abs(x).max() / 448, rtol=1e-6)
    np.testing.assert_allclose(
        values["a_scale"], np.abs(original["a"]).max(axis=1) / 448, rtol=1e-6
    )
    weights = {
        name: in_e4m3(original[name], values[f"{name}_scale"].astype(np.float64).reshape(shape))
        for name, shape in (("a", (-1, 1)), ("b", (1, -1)), ("c", (1, -1)))
    }
    first = in_e4m3(x, np.float64(values["x_scale"])) @ (0.5 * weights["a"].T)
    restored = in_e4m3(
        np.maximum(first + 2 * original["a_bias"], 0), np.float64(values["r_scale"])
    )
    want = restored @ (weights["b"] + weights["c"])
    # Where a sum lies between two steps, it may fall to either side.
    assert sqnr_db(want, ReferenceEvaluator(emitted).run(None, {"x": x})[0]) > 40
    assert sqnr_db(want, run(emitted, {"x": x}, exact=True)[0]) > 40


def test_an_activation_in_front_of_fp8_is_not_dropped(tmp_path: Path):
    """ONNX Runtime mistakes FP8's zero for the lowest integer, below which Relu has no effect."""
    net = Network(0, channels=4, side=6)
    net.conv(net.relu(net.add("Neg", ["image"], 4, 6)), 4)
    source = prepared(net.model(), tmp_path)
    emitted, _ = quantised(source, replace(EVERYTHING, base=Precision.FP32), "tensorrt_fp8")
    feeds = {"image": np.ones((1, 4, 6, 6), np.float32)}
    options = OrtOptions(exact_quantization=FORMS["tensorrt_fp8"].computes_pairs(on_gpu=True))
    engine = OnnxRuntimeEngine(emitted.SerializeToString(), options)
    got = next(iter(engine.run(feeds).outputs.values()))
    np.testing.assert_allclose(got, run(source, feeds)[0], atol=1e-6)


def fp8_layers(model: onnx.ModelProto) -> set[str]:
    layers = compile_plan(model.SerializeToString()).layers
    return {
        layer.name.partition("_myl")[0]
        for layer in layers
        if any(tensor.dtype == "FP8" for tensor in layer.inputs)
    }


def test_fp8_compiles_where_there_is_such_hardware_alone(model):
    emitted, plan = quantised(model, EVERYTHING, "tensorrt_fp8")
    assert fp8_layers(emitted) >= plan.quantised()
    trt = pytest.importorskip("tensorrt_rtx")
    builder = trt.Builder(trt.Logger(trt.Logger.INTERNAL_ERROR))
    network = builder.create_network()
    parser = trt.OnnxParser(network, builder.logger)
    assert parser.parse(emitted.SerializeToString())
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM86, 0)
    assert builder.build_serialized_network(network, config) is None


@pytest.mark.parametrize("network", ["convolutions", "products"])
def test_weights_alone_compile(network, model):
    source = model if network == "convolutions" else perceptron()
    emitted, _ = quantised(source, rules_of(KINDS[5]), "weight_only")
    compiled = compile_plan(emitted.SerializeToString())
    # INT8 is dequantised, and nothing computes with it.
    assert not any(compiled.reads_int8(node.name) for node in source.graph.node)


# Signal over noise at the outputs, as measured on each detector less some decibels: INT8 of all
# convolutions but the default exceptions, and FP8 of the same.
@pytest.mark.shared_data
@pytest.mark.parametrize("name", DETECTORS)
@pytest.mark.parametrize(
    ("emitter", "floor"),
    [("weight_only", 20), ("tensorrt_fp8", 5), ("tensorrt_8", 15), ("cpu_dynamic", 100)],
)
def test_real_detectors_agree_with_fp32(shared_data: Path, name, emitter, floor):
    model, magnitudes = real_model(shared_data, name), real_magnitudes(shared_data, name)
    plan = make_plan(model, adapt_rules(PrecisionRules(), emitter))
    wanted = tensors_to_observe(model, plan, emitter)
    ranges = {tensor: (-magnitudes[tensor], magnitudes[tensor]) for tensor in wanted}
    emitted = quantize(model, plan, ranges, magnitudes, emitter)
    judged = simulate_half(emitted) if FORMS[emitter].simulated else emitted
    feeds = real_inputs(shared_data, name)[0]
    got = run(judged, feeds, exact=FORMS[emitter].computes_pairs(on_gpu=False))
    for want, one in zip(run(model, feeds), got):
        assert sqnr_db(want, one) > floor
    if emitter == "weight_only":
        assert emitted.ByteSize() < 0.35 * model.ByteSize()
    if emitter == "tensorrt_fp8":
        assert fp8_layers(emitted) >= plan.quantised()
