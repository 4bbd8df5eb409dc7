# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The FP16 cast: types, casts, and what has to stay FP32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers_casts import casts, needless_casts, types
from helpers_fp16 import FLOAT, HALF, X, branches, graph, node
from helpers_models import (
    Network,
    prepared,
    residual_network,
    run,
    samples,
    sqnr_db,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from test_compress_quantize import networks

from av_compress.compress.emit.fp16 import fp32_reasons, to_fp16
from av_compress.compress.emit.simulate import simulate_half
from av_compress.compress.observe.calibrate import MagnitudeProbe


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> onnx.ModelProto:
    return prepared(residual_network(), tmp_path_factory.mktemp("model"))


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


def same(model: onnx.ModelProto, half: onnx.ModelProto, tolerance: float = 2**-9) -> None:
    """Compare with FP32, every FP16 tensor rounded."""
    want, got = run(model, {"in": X})[0], run(simulate_half(half), {"in": X})[0]
    np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)


def cast(source: str, made: str, to: int) -> onnx.NodeProto:
    return node("Cast", source, made, to=to)


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ([cast("x", "h", HALF), cast("h", "y", FLOAT)], "casts back"),
        ([cast("x", "y", FLOAT)], "changes nothing"),
        (
            [
                cast("x", "a", HALF),
                cast("x", "b", HALF),
                node("Add", "a b", "c"),
                cast("c", "y", 1),
            ],
            "casts x once more",
        ),
        (
            [
                cast("x", "a", HALF),
                node("Neg", "a", "b"),
                cast("b", "c", FLOAT),
                node("Relu", "c", "d"),
                cast("d", "e", HALF),
                node("Neg", "e", "f"),
                cast("f", "y", FLOAT),
            ],
            "Relu d could be FP16",
        ),
    ],
)
def test_the_walker_finds_needless_casts(nodes, words):
    """The check that the other tests rely on."""
    found = needless_casts(graph(nodes), ())
    assert any(words in text for text in found)
    assert not any("could be FP16" in text for text in needless_casts(graph(nodes), ["Relu d"]))


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
