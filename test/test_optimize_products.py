# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Products of matrices: with factors of their own, and with a vector."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers_graphs import Graph
from helpers_models import EVERYTHING, prepared, quantised, refined, run, samples, sqnr_db
from hypothesis import given, settings
from hypothesis import strategies as st
from test_optimize_passes import changed, untouched

from av_compress.compress.graph import GraphIndex
from av_compress.compress.layers import Layer
from av_compress.compress.optimize.gemm import PlainGemm
from av_compress.compress.optimize.passes import cost
from av_compress.compress.plan.precision import make_plan


@settings(max_examples=40)
@given(
    alpha=st.sampled_from([1.0, 0.5, -3.0, 0.0]),
    beta=st.sampled_from([0.25, 2.0, 0.0]),
    transposed=st.booleans(),
    shape=st.sampled_from([None, (5,), (1,), (3, 5), ()]),
)
def test_factors_go_into_weights_and_biases(alpha, beta, transposed, shape):
    g = Graph()
    weight = g.normal(5, 4) if transposed else g.normal(4, 5)
    bias = [] if shape is None else [g.normal(*shape)]
    factors = {"alpha": alpha, "beta": beta, "transB": int(transposed)}
    # Another node reads the constants too.
    outputs = [g.op("Gemm", "x", weight, *bias, **more) for more in (factors, {**factors})]
    outputs.append(g.op("Gemm", "x", weight, *bias, transB=int(transposed)))
    result = changed(PlainGemm(), g.model(outputs, {"x": [3, 4]}))
    index = GraphIndex(result)
    assert all(Layer.of(index, node) is not None for node in result.graph.node)


def test_what_is_not_constant_stays_and_is_no_layer():
    g = Graph()
    by_input = g.op("Gemm", "x", "w", alpha=0.5)
    biased = g.op("Gemm", "x", g.normal(4, 5), "b", beta=0.5)
    model = g.model([by_input, biased], {"x": [3, 4], "w": [4, 5], "b": [5]})
    untouched(PlainGemm(), model)
    index = GraphIndex(model)
    assert [Layer.of(index, node) for node in model.graph.node] == [None, None]


@pytest.mark.parametrize("dynamic", [False, True])
def test_refinements_of_a_gemm_with_factors(tmp_path: Path, dynamic: bool):
    g = Graph()
    bias = g.op("ReduceMean", "x", keepdims=1) if dynamic else g.normal(32)
    inputs = [g.op("Relu", "x"), g.normal(16, 32), bias]
    hidden = g.op("Sigmoid", g.op("Gemm", *inputs, alpha=0.5, beta=2.0))
    model = g.model(g.op("Gemm", hidden, g.normal(32, 8), alpha=-0.5), {"x": [4, 16]})
    model = prepared(model, tmp_path)
    changed_model = refined(model, make_plan(model, EVERYTHING))
    feeds = samples(model, 1)[0]
    want = run(model, feeds)[0]
    assert sqnr_db(want, run(changed_model, feeds)[0]) > 30
    for emitter in ("tensorrt", "cpu", "cpu_dynamic"):
        emitted, plan = quantised(model, EVERYTHING, emitter)
        assert plan.quantised()
        assert sqnr_db(want, run(emitted, feeds, exact=True)[0]) > 25


def test_a_product_with_a_vector(tmp_path: Path):
    g = Graph()
    product = g.op("MatMul", g.op("Mul", "x", g.const(2.0)), g.normal(16))
    model = g.model(g.op("Add", product, g.const(1.0)), {"x": [2, 4, 16]})
    ready = prepared(model, tmp_path)
    assert cost(ready).macs == 2 * 4 * 16
    emitted, plan = quantised(ready, EVERYTHING, "tensorrt")
    assert not plan.quantised()
    feeds = samples(model, 1)[0]
    np.testing.assert_allclose(run(ready, feeds)[0], run(model, feeds)[0], rtol=1e-4, atol=1e-4)
    assert sqnr_db(run(model, feeds)[0], run(emitted, feeds)[0]) > 50
