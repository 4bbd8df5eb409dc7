# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Random graphs survive preparation and quantisation, and quantisation can be taken out again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers_models import EVERYTHING, prepared, quantised, run, sqnr_db
from helpers_random_graphs import BLOCKS, feeds, graphs, random_graph
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from onnx import numpy_helper

from av_compress.compress.emit.insertion import (
    affine_activation,
    symmetric_activation,
    symmetric_weight,
)
from av_compress.compress.emit.strip import strip
from av_compress.compress.optimize.prepare import prepare_model
from av_compress.compress.plan.precision import Precision
from av_compress.errors import ModelError

FP32_BASE = replace(EVERYTHING, base=Precision.FP32)
FORMS = ("tensorrt", "cpu")
ADDED = ("QuantizeLinear", "DequantizeLinear", "Cast")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("random")


def kept(model: onnx.ModelProto) -> list[tuple[str, str, int]]:
    return [
        (node.name, node.op_type, len(node.input))
        for node in model.graph.node
        if node.op_type not in ADDED
    ]


@pytest.mark.parametrize("kind", BLOCKS)
def test_every_block_is_valid_onnx_and_finite(kind: str):
    for opset in (13, 17):
        model = random_graph(3, [kind, kind], opset)
        onnx.checker.check_model(model, full_check=True)
        assert all(np.isfinite(value).all() for value in run(model, feeds(model)[0]))


def test_equal_seeds_give_equal_graphs():
    first, second = (random_graph(7, list(BLOCKS)).SerializeToString() for _ in range(2))
    assert first == second
    assert random_graph(8, list(BLOCKS)).SerializeToString() != first


@settings(max_examples=20)
@given(graph=graphs())
def test_random_graphs_are_optimised_and_compute_the_same(folder: Path, graph):
    onnx.save(graph, folder / "model.onnx")
    result = prepare_model(folder / "model.onnx")
    said = [report.detail for report in result.reports]
    assert not [detail for detail in said if detail.startswith(("dropped", "not tried"))]
    # Before that not all shapes are known, and it makes three nodes of MatMul and Add over tokens.
    simplified = next(report for report in result.reports if report.name == "simplify")
    assert result.reports[-1].nodes_after <= simplified.nodes_after
    assert result.reports[-1].macs_after <= simplified.macs_after
    onnx.checker.check_model(result.model, full_check=True)
    for sample in feeds(graph, 2, seed=11):
        for want, got in zip(run(graph, sample), run(result.model, sample)):
            np.testing.assert_allclose(got, want, atol=1e-4 * max(np.abs(want).max(), 1e-3))
    # There is nothing left to do.
    onnx.save(result.model, folder / "again.onnx")
    again = prepare_model(folder / "again.onnx")
    assert len(again.model.graph.node) == len(result.model.graph.node)


@settings(max_examples=15)
@given(graph=graphs(), form=st.sampled_from(FORMS))
def test_random_graphs_are_prepared_and_quantised(folder: Path, graph, form: str):
    model = prepared(graph, folder)
    emitted, plan = quantised(model, EVERYTHING, form)
    onnx.checker.check_model(emitted, full_check=True)
    assert plan.quantised()
    # Everything that was there is there, by its name, in its order.
    assert kept(emitted) == kept(model)
    assert emitted.graph.input == model.graph.input
    assert emitted.graph.output == model.graph.output
    samples = feeds(graph)
    wanted = zip(*(run(graph, sample) for sample in samples))
    made = zip(*(run(emitted, sample, exact=True) for sample in samples))
    for want, got in zip(wanted, made):
        assert np.isfinite(got).all()
        # The least of 600 graphs was 19 dB.
        assert sqnr_db(np.stack(want), np.stack(got)) > 12


@settings(max_examples=6)
@given(graph=graphs(), form=st.sampled_from(FORMS))
def test_a_quantised_graph_is_not_quantised_again(folder: Path, graph, form: str):
    emitted, _ = quantised(prepared(graph, folder), FP32_BASE, form)
    with pytest.raises(ModelError, match="quantised already"):
        prepared(emitted, folder)


@settings(max_examples=10)
@given(graph=graphs())
def test_stripping_gives_back_the_graph_to_the_byte(folder: Path, graph):
    model = prepared(graph, folder)
    emitted, _ = quantised(model, FP32_BASE, "tensorrt")
    assert strip(emitted).SerializeToString(deterministic=True) == model.SerializeToString(
        deterministic=True
    )


@settings(max_examples=10)
@given(graph=graphs())
def test_stripping_the_cpu_form_leaves_weights_within_half_a_step(folder: Path, graph):
    model = prepared(graph, folder)
    emitted, _ = quantised(model, FP32_BASE, "cpu")
    stripped = strip(emitted)
    onnx.checker.check_model(stripped, full_check=True)
    assert kept(stripped) == kept(model)
    before = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    for tensor in stripped.graph.initializer:
        want, got = before.get(tensor.name, np.zeros(0)), numpy_helper.to_array(tensor)
        if want.ndim > 1:
            # 63 steps from zero to the largest.
            assert np.abs(got - want).max(initial=0) <= 0.501 / 63 * np.abs(want).max(initial=0)


def test_what_is_not_quantised_is_not_changed_by_stripping():
    model = random_graph(1, ["residual", "attention"])
    assert strip(model) == model


FINITE = npst.arrays(
    np.float32,
    st.tuples(st.integers(1, 5), st.integers(1, 6)),
    elements=st.one_of(
        st.floats(width=32, allow_nan=False, allow_infinity=False),
        st.sampled_from([0.0, 1e-45, -1e-45, 1e-38, 3.4e38, -3.4e38, 1.0]),
    ),
)


@given(value=FINITE, axis=st.sampled_from([0, 1, None]), levels=st.sampled_from([63, 127]))
def test_weight_scales_are_positive_and_finite(value: np.ndarray, axis: int | None, levels: int):
    how = symmetric_weight(value, axis, levels)
    assert np.isfinite(how.scale).all()
    assert (how.scale > 0).all()
    assert np.abs(how.integers(value, -levels, levels).astype(int)).max() <= levels


@given(value=FINITE)
def test_activation_scales_are_positive_and_finite(value: np.ndarray):
    low, high = float(value.min()), float(value.max())
    for how in (symmetric_activation(low, high), affine_activation(low, high)):
        assert np.isfinite(how.scale)
        assert how.scale > 0
        # Zero is a whole number of steps, and both ends are represented within a step.
        lowest, highest = (-128, 127) if how.zero_point.dtype == np.int8 else (0, 255)
        assert lowest <= int(how.zero_point) <= highest
        for end in (min(low, 0.0), max(high, 0.0)):
            steps = end / float(how.scale) + int(how.zero_point)
            assert lowest - 1 < steps < highest + 1
