# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The FP16 cast: types, casts, and what has to stay FP32."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers_casts import casts, needless_casts, types
from helpers_models import (
    EVERYTHING,
    Network,
    prepared,
    residual_network,
    run,
    samples,
    sqnr_db,
)
from helpers_real import MODELS, real_inputs, real_magnitudes, real_model, static_batch
from helpers_trt import compile_plan
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from test_compress_quantize import networks

from av_compress.compress.emit.fp16 import fp32_reasons, to_fp16
from av_compress.compress.emit.holds import half_scale, scale_fits
from av_compress.compress.emit.quantize import narrow_plan, quantize, tensors_to_observe
from av_compress.compress.emit.simulate import simulate_half
from av_compress.compress.observe.calibrate import Calibrator, MagnitudeProbe
from av_compress.compress.plan.precision import (
    NodePrecision,
    Precision,
    PrecisionPlan,
    make_plan,
)

HALF, FLOAT = TensorProto.FLOAT16, TensorProto.FLOAT


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> onnx.ModelProto:
    return prepared(residual_network(), tmp_path_factory.mktemp("model"))


def graph(nodes, constants=None, outputs=("y",), opsets=()):
    """Make a model of [2, 4] tensors; a product first and last, which FP16 is worth a cast."""
    constants = {"w": np.eye(4, dtype=np.float32), **(constants or {})}
    made = helper.make_graph(
        [node("MatMul", "in w", "x"), *nodes, node("MatMul", "y w", "out")],
        "graph",
        [helper.make_tensor_value_info("in", FLOAT, [2, 4])],
        [helper.make_tensor_value_info("out", FLOAT, [2, 4])],
        [numpy_helper.from_array(np.asarray(v), n) for n, v in constants.items()],
    )
    opset_imports = [helper.make_opsetid("", 19), *opsets]
    model = helper.make_model(made, opset_imports=opset_imports, ir_version=9)
    return onnx.shape_inference.infer_shapes(model)


def node(op_type: str, inputs: str, outputs: str, **attributes) -> onnx.NodeProto:
    domain = attributes.pop("domain", "")
    name = f"{op_type} {outputs}"
    return helper.make_node(
        op_type, inputs.split(), outputs.split(), name=name, domain=domain, **attributes
    )


def checked(model: onnx.ModelProto, magnitudes=None, kept=()) -> onnx.ModelProto:
    """Cast, and check what holds for every model."""
    half = to_fp16(model, magnitudes or {}, kept)
    onnx.checker.check_model(half, full_check=True)
    assert needless_casts(half, {*fp32_reasons(model, magnitudes or {}), *kept}) == []
    before, after = (
        [(v.name, v.type.tensor_type.elem_type) for v in (*m.graph.input, *m.graph.output)]
        for m in (model, half)
    )
    assert before == after
    return half


X = np.array([[0.5, -2.0, 3.0, 0.0], [1.0, 8.0, -0.25, 100.0]], np.float32)


def same(model: onnx.ModelProto, half: onnx.ModelProto, tolerance: float = 2**-9) -> None:
    """Compare with FP32, every FP16 tensor rounded."""
    want, got = run(model, {"in": X})[0], run(simulate_half(half), {"in": X})[0]
    np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)


def test_inputs_and_outputs_stay_fp32_and_all_between_is_fp16(model):
    half = checked(model)
    kinds = types(half)
    made = {name for n in half.graph.node if n.op_type != "Cast" for name in n.output}
    assert {kinds[name] for name in made} == {HALF}
    # One cast in, one out.
    assert len(casts(half)) == 2


def test_it_computes_the_same_within_half_precision(model):
    half = to_fp16(model, {})
    for sample in samples(model):
        assert sqnr_db(run(model, sample)[0], run(simulate_half(half), sample)[0]) > 50


def test_what_is_too_large_for_fp16_stays_fp32(model):
    large = next(n for n in model.graph.node if n.op_type == "Concat").output[0]
    half = checked(model, {large: 1e5})
    assert types(half)[large] == FLOAT
    # The concatenation and the convolution behind it, with casts around the two alone.
    assert len(casts(half)) <= 5


def test_activations_below_the_normal_numbers_stay_fp32():
    tiny = graph([node("Relu", "x", "a"), node("Neg", "a", "y")])
    assert "few bits" in fp32_reasons(tiny, {"a": 1e-6})["Relu a"]
    assert fp32_reasons(tiny, {"a": 0.0}) == {}


def test_a_squaring_operator_is_held_to_less():
    norm = graph([node("ReduceL2", "x", "n", keepdims=1), node("Add", "x n", "y")])
    assert fp32_reasons(norm, {"x": 300.0}) == {"ReduceL2 n": "x reaches 300, over 128"}
    assert fp32_reasons(norm, {"x": 100.0}) == {}


def test_a_constant_beyond_fp16_keeps_its_node_in_fp32(tmp_path: Path):
    net = Network(0, channels=2, side=4)
    net.add("Mul", [net.conv("image", 2), net.constant(np.full(1, 1e6, np.float32))], 2, 4)
    model = prepared(net.model(), tmp_path)
    half = checked(model)
    sample = samples(model)[0]
    result = run(simulate_half(half), sample)[0]
    assert np.isfinite(result).all()
    assert sqnr_db(run(model, sample)[0], result) > 50


@pytest.mark.parametrize(
    ("op_type", "constant", "reason"),
    [
        ("Add", 1e-12, "too small"),
        ("Mul", 3e-8, "too small"),
        ("Div", np.array([1, 1, 1, 1e-9], np.float32), "becomes zero"),
        ("Mul", np.array([1, 1, 1, 1e-9], np.float32), ""),
        ("Add", 1e-5, ""),
        ("Sub", 65504.0, ""),
        ("Sub", 65536.0, "does not hold"),
        ("Min", 1e30, ""),
    ],
)
def test_constants_that_underflow_where_it_matters(op_type, constant, reason):
    model = graph([node(op_type, "x c", "y")], {"c": np.asarray(constant, np.float32)})
    found = fp32_reasons(model, {})
    assert (f"{op_type} y" in found) == bool(reason)
    assert reason in found.get(f"{op_type} y", "")
    probe = MagnitudeProbe(model)
    probe.observe({"in": X})
    same(model, checked(model, probe.magnitudes))


def test_bounds_beyond_fp16_bound_nothing():
    constants = {"low": np.float32(-1e30), "high": np.float32(3e38)}
    model = graph([node("Clip", "x low high", "a"), node("Neg", "a", "y")], constants)
    half = checked(model)
    assert types(half)["a"] == HALF
    same(model, half)


def test_a_bias_is_held_to_the_sum_it_is_added_to():
    weight = np.eye(4, dtype=np.float32)
    model = graph([node("Gemm", "x w b", "y")], {"w": weight, "b": np.full(4, 1e-7, np.float32)})
    assert "too small" in fp32_reasons(model, {})["Gemm y"]
    assert fp32_reasons(model, {"y": 100.0}) == {}


def test_operators_that_know_no_fp16_and_inputs_that_stay_fp32():
    model = graph(
        [
            node("Relu", "x", "a"),
            node("Celu", "a", "b"),
            node("Resize", "b roi scales", "c", mode="nearest"),
            node("Neg", "c", "y"),
        ],
        {"roi": np.zeros(0, np.float32), "scales": np.array([1, 1], np.float32)},
    )
    half = checked(model)
    kinds = types(half)
    assert (kinds["b"], kinds["x"]) == (FLOAT, HALF)
    assert kinds["scales"] == FLOAT
    same(model, half)


def test_a_foreign_operator_stays_fp32_and_so_does_what_reads_it():
    quick = node("QuickGelu", "a", "b", domain="com.microsoft", alpha=1.702)
    model = graph(
        [node("Relu", "x", "a"), quick, node("Sigmoid", "b", "c"), node("Relu", "c", "y")],
        opsets=[helper.make_opsetid("com.microsoft", 1)],
    )
    reasons = fp32_reasons(model, {})
    assert "com.microsoft.QuickGelu" in reasons["QuickGelu b"]
    half = to_fp16(model, {})
    by_name = {n.name: n for n in half.graph.node}
    # Nobody knows what it makes; its readers are left alone, as their types follow from it.
    assert list(by_name["Sigmoid c"].input) == ["b"]
    np.testing.assert_allclose(
        run(half, {"in": X})[0], run(model, {"in": X})[0], rtol=1e-2, atol=1e-2
    )


def branches() -> onnx.ModelProto:
    """Make a model whose branches read tensors, and a constant, of the graph around them."""

    def branch(op_type: str, name: str) -> onnx.GraphProto:
        value = helper.make_tensor_value_info(name, FLOAT, None)
        return helper.make_graph([node(op_type, "a c", name)], name, [], [value])

    choice = {"then_branch": branch("Add", "t"), "else_branch": branch("Mul", "e")}
    return graph(
        [
            node("Mul", "x c", "a"),
            node("ReduceSum", "a", "total", keepdims=0),
            node("Greater", "total zero", "positive"),
            node("If", "positive", "b", **choice),
            node("Relu", "b", "d"),
            node("Add", "d a", "y"),
        ],
        {"c": np.array([2, 3, 4, 5], np.float32), "zero": np.float32(0)},
    )


@pytest.mark.parametrize("sign", [1, -1])
def test_branches_stay_fp32_and_the_rest_does_not(sign):
    model = branches()
    half = checked(model)
    assert fp32_reasons(model, {}) == {"If b": "If: its subgraphs stay FP32"}
    kinds = types(half)
    assert (kinds["a"], kinds["b"]) == (HALF, FLOAT)
    feeds = {"in": np.float32(sign) * X}
    np.testing.assert_allclose(
        run(simulate_half(half), feeds)[0], run(model, feeds)[0], rtol=2e-3, atol=2e-3
    )


def test_a_loop_stays_fp32():
    body = helper.make_graph(
        [node("Add", "carried c", "next"), node("Identity", "going", "on")],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("carried", FLOAT, [2, 4]),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", FLOAT, [2, 4]),
        ],
    )
    model = graph(
        [node("Relu", "x", "a"), node("Loop", "n yes a", "b", body=body), node("Neg", "b", "y")],
        {"n": np.int64(3), "yes": np.bool_(True), "c": np.float32(0.5)},
    )
    half = checked(model)
    assert list(fp32_reasons(model, {})) == ["Loop b"]
    same(model, half)


def test_a_cast_of_the_source_makes_fp16_at_once_or_disappears():
    model = graph(
        [
            node("Relu", "x", "a"),
            node("Cast", "a", "i", to=TensorProto.INT32),
            node("Cast", "i", "f", to=FLOAT),
            node("Cast", "f", "h", to=HALF),
            node("Neg", "h", "g"),
            node("Cast", "g", "b", to=FLOAT),
            node("Add", "b a", "y"),
        ]
    )
    half = checked(model)
    kinds = types(half)
    assert kinds["f"] == HALF
    # In, to integers, back from them, and out.
    assert len(casts(half)) == 4
    assert not {"Cast h", "Cast b"} & {n.name for n in casts(half)}
    same(model, half)


def test_nodes_that_a_plan_says_stay_fp32_do(model):
    name = [n.name for n in model.graph.node if n.op_type == "Conv"][2]
    whole = make_plan(model, replace(EVERYTHING, exclude=("*",)))
    nodes = [replace(n, precision=Precision.FP32) if n.node == name else n for n in whole.nodes]
    emitted = quantize(model, PrecisionPlan(Precision.FP16, tuple(nodes)), {}, {}, "tensorrt")
    assert needless_casts(emitted, {name}) == []
    kinds = types(emitted)
    for other in emitted.graph.node:
        if other.op_type == "Conv":
            wanted = FLOAT if other.name == name else HALF
            assert {kinds[n] for n in (*other.input, *other.output)} == {wanted}


def test_a_plan_says_fp32_where_fp16_does_not_hold(model):
    plan = make_plan(model, replace(EVERYTHING, exclude=("*",)))
    large = next(n for n in model.graph.node if n.op_type == "Conv")
    magnitudes = {large.output[0]: 1e4}
    narrowed = narrow_plan(model, plan, "tensorrt", magnitudes)
    entry: NodePrecision = next(n for n in narrowed.nodes if n.node == large.name)
    assert entry.precision is Precision.FP32
    assert entry.reason.endswith(f"not FP16: {large.output[0]} reaches 1e+04, over 512")
    assert sum(n.precision is Precision.FP32 for n in narrowed.nodes) == 1


def test_a_plan_of_all_three_precisions_compiles_to_them(model):
    whole = make_plan(model, EVERYTHING)
    turns = [Precision.INT8, Precision.FP16, Precision.FP32]
    nodes = [replace(n, precision=turns[i % 3]) for i, n in enumerate(whole.nodes)]
    plan = PrecisionPlan(Precision.FP16, tuple(nodes))
    emitted = emitted_by(model, plan)
    fp32 = {n.node for n in nodes if n.precision is Precision.FP32}
    assert needless_casts(emitted, fp32) == []
    kinds = types(emitted)
    by_name = {n.name: n for n in emitted.graph.node}
    for entry in nodes:
        wanted = FLOAT if entry.precision is Precision.FP32 else HALF
        assert kinds[by_name[entry.node].output[0]] == wanted
    compiled = compile_plan(emitted.SerializeToString())
    assert {n.node for n in nodes if compiled.reads_int8(n.node)} == plan.quantised()
    sample = samples(model)[0]
    got = run(simulate_half(emitted), sample, exact=True)[0]
    assert sqnr_db(run(model, sample)[0], got) > 25


def emitted_by(model: onnx.ModelProto, plan: PrecisionPlan) -> onnx.ModelProto:
    """Calibrate by minimum and maximum, and emit a plan."""
    calibrator = Calibrator(model, tensors_to_observe(model, plan, "tensorrt"))
    for sample in samples(model):
        calibrator.observe(sample)
    ranges = {name: (seen.min, seen.max) for name, seen in calibrator.observers.items()}
    return quantize(model, plan, ranges, {}, "tensorrt")


def test_models_with_branches_are_quantised_around_them():
    model = branches()
    plan = make_plan(model, EVERYTHING)
    assert plan.quantised() == {"MatMul x", "MatMul out"}
    ranges = {"in": (-2.0, 100.0), "y": (-20.0, 1000.0)}
    emitted = quantize(model, plan, ranges, {}, "tensorrt")
    assert types(emitted)["b"] == FLOAT
    got = run(simulate_half(emitted), {"in": X}, exact=True)[0]
    assert sqnr_db(run(model, {"in": X})[0], got) > 30


def two_readers() -> onnx.ModelProto:
    """Make two convolutions that read one tensor; the first makes large values."""
    net = Network(3, channels=16, side=8)
    stem = net.relu(net.conv("image", 16))
    large = net.conv(stem, 16)
    small = net.conv(stem, 16)
    net.add("Concat", [large, small], 32, 8, axis=1)
    return onnx.shape_inference.infer_shapes(net.model(19))


def test_a_pair_is_read_in_either_type_without_a_cast():
    model = two_readers()
    large = [n for n in model.graph.node if n.op_type == "Conv"][1]
    plan = make_plan(model, EVERYTHING)
    ranges = {"image": (-3.0, 3.0), large.input[0]: (0.0, 4.0)}
    magnitudes = {large.output[0]: 1e4}
    emitted = quantize(model, plan, ranges, magnitudes, "tensorrt")
    assert needless_casts(emitted, fp32_reasons(model, magnitudes)) == []
    kinds = types(emitted)
    pairs = [n for n in emitted.graph.node if n.input[0] == f"{large.input[0]}_quantized"]
    assert sorted(kinds[n.output[0]] for n in pairs) == [FLOAT, HALF]
    quantising = [n for n in emitted.graph.node if n.op_type == "QuantizeLinear"]
    assert sum(n.input[0] == large.input[0] for n in quantising) == 1
    compiled = compile_plan(emitted.SerializeToString())
    assert all(compiled.reads_int8(name) for name in plan.quantised())


def test_scales_that_fp16_does_not_hold_keep_their_node_in_fp32():
    model = two_readers()
    convs = [n for n in model.graph.node if n.op_type == "Conv"]
    plan = make_plan(model, EVERYTHING)
    ranges = {"image": (-3.0, 3.0), convs[1].input[0]: (0.0, 1e-6)}
    emitted = quantize(model, plan, ranges, {}, "tensorrt")
    kinds = types(emitted)
    by_name = {n.name: n for n in emitted.graph.node}
    values = {t.name: numpy_helper.to_array(t) for t in emitted.graph.initializer}
    assert kinds[by_name[convs[0].name].output[0]] == HALF
    for conv in convs[1:]:
        assert {kinds[n] for n in by_name[conv.name].input} == {FLOAT}
    scale = values[f"{convs[1].input[0]}_scale"]
    assert scale.dtype == np.float32
    np.testing.assert_allclose(scale, 1e-6 / 127, rtol=1e-6)


def test_scales_round_up_and_never_to_zero():
    scales = np.array([1.0, 0.1, 3.3e-5, 1e-7, 1e-12], np.float32)
    rounded = half_scale(scales)
    assert rounded.dtype == np.float32
    assert np.array_equal(rounded.astype(np.float16).astype(np.float32), rounded)
    assert (rounded >= scales).all()
    assert rounded[0] == 1.0
    np.testing.assert_allclose(rounded[:2], scales[:2], rtol=1e-3)
    assert [scale_fits(s) for s in scales] == [True, True, True, False, False]
    # Channels that are nearly dead weigh nothing beside the others.
    assert scale_fits(scales)


def test_equal_inputs_give_equal_bytes(model):
    first, second = (to_fp16(model, {"image": 600.0}) for _ in range(2))
    assert first.SerializeToString(deterministic=True) == second.SerializeToString(
        deterministic=True
    )


def test_a_source_in_fp16_stays_as_it_is(model):
    half = to_fp16(model, {})
    again = to_fp16(half, {})
    assert list(again.graph.node) == list(half.graph.node)
    assert list(again.graph.initializer) == list(half.graph.initializer)


@settings(max_examples=40, deadline=None)
@given(network=networks(), seed=st.integers(0, 100), share=st.sampled_from([0.0, 0.2, 0.5]))
def test_random_networks_with_random_limits(tmp_path_factory, network, seed, share):
    model = prepared(network, tmp_path_factory.mktemp("random"))
    rng = np.random.default_rng(seed)
    made = [name for n in model.graph.node for name in n.output]
    half = checked(model, {name: 1e4 for name in made if rng.random() < share})
    sample = samples(model)[0]
    assert sqnr_db(run(model, sample)[0], run(simulate_half(half), sample)[0]) > 40


# Each rounding to FP16 is off by 2^-11 at most, which is noise 71 dB below the signal. A
# hundred in a row add 20 dB, differences of large numbers the rest.
TOLERANCE_DB = 35


@pytest.mark.shared_data
@pytest.mark.parametrize("name", MODELS)
def test_real_models_neither_overflow_nor_change(shared_data: Path, name: str):
    model, magnitudes = real_model(shared_data, name), real_magnitudes(shared_data, name)
    half = checked(model, magnitudes)
    if not fp32_reasons(model, magnitudes):
        border = (*model.graph.input, *model.graph.output)
        assert len(casts(half)) == sum(v.type.tensor_type.elem_type == FLOAT for v in border)
    simulated = simulate_half(half)
    # Every tensor, not the outputs alone: what overflows may be clipped behind.
    probe = MagnitudeProbe(simulated, threads=1)
    feeds = real_inputs(shared_data, name)[0]
    probe.observe(feeds)
    assert max(probe.magnitudes.values()) < np.finfo(np.float16).max
    for want, got in zip(run(model, feeds), run(simulated, feeds)):
        assert sqnr_db(want, got) > TOLERANCE_DB


@pytest.mark.shared_data
@pytest.mark.parametrize("name", MODELS)
def test_real_models_compile(shared_data: Path, name: str):
    model, magnitudes = real_model(shared_data, name), real_magnitudes(shared_data, name)
    # As if every third tensor were too large: some nodes stay FP32, others between them may.
    half = checked(model, dict.fromkeys(sorted(magnitudes)[::3], 1e4))
    feeds = real_inputs(shared_data, name)[0]
    for cast in (half, to_fp16(model, magnitudes)):
        compile_plan(static_batch(cast, feeds).SerializeToString())
    for want, got in zip(run(model, feeds), run(simulate_half(half), feeds)):
        assert sqnr_db(want, got) > TOLERANCE_DB
