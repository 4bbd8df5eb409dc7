# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The FP16 cast: types, casts, and what has to stay FP32."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers_models import Network, prepared, residual_network, run, samples, sqnr_db
from onnx import TensorProto

from av_compress.compress.emit.fp16 import to_fp16
from av_compress.compress.emit.holds import half_scale
from av_compress.compress.observe.calibrate import MagnitudeProbe
from av_compress.compress.optimize.prepare import prepare_model


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> onnx.ModelProto:
    return prepared(residual_network(), tmp_path_factory.mktemp("model"))


def kinds(model: onnx.ModelProto) -> dict[str, int]:
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    values = [*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output]
    return {value.name: value.type.tensor_type.elem_type for value in values}


def casts(model: onnx.ModelProto) -> int:
    return Counter(node.op_type for node in model.graph.node)["Cast"]


def test_inputs_and_outputs_stay_fp32_and_all_between_is_fp16(model):
    half = to_fp16(model, {})
    onnx.checker.check_model(half, full_check=True)
    types = kinds(half)
    border = {v.name for v in (*half.graph.input, *half.graph.output)}
    assert all(types[name] == TensorProto.FLOAT for name in border)
    inner = {kind for name, kind in types.items() if name not in border}
    assert inner == {TensorProto.FLOAT16}
    # One cast in, one out.
    assert casts(half) == 2


def test_it_computes_the_same_within_half_precision(model):
    half = to_fp16(model, {})
    for sample in samples(model):
        assert sqnr_db(run(model, sample)[0], run(half, sample)[0]) > 50


def test_what_is_too_large_for_fp16_stays_fp32(model):
    large = next(n for n in model.graph.node if n.op_type == "Concat").output[0]
    half = to_fp16(model, {large: 1e5})
    types = kinds(half)
    assert types[large] == TensorProto.FLOAT
    # The concatenation and the convolution behind it, with casts around the two alone.
    assert casts(half) <= 5
    onnx.checker.check_model(half, full_check=True)


def test_a_constant_beyond_fp16_keeps_its_node_in_fp32(tmp_path: Path):
    net = Network(0, channels=2, side=4)
    net.add("Mul", [net.conv("image", 2), net.constant(np.full(1, 1e6, np.float32))], 2, 4)
    model = prepared(net.model(), tmp_path)
    half = to_fp16(model, {})
    sample = samples(model)[0]
    result = run(half, sample)[0]
    assert np.isfinite(result).all()
    assert sqnr_db(run(model, sample)[0], result) > 50


def test_scales_round_up_and_never_to_zero():
    scales = np.array([1.0, 0.1, 3.3e-5, 1e-7, 1e-12], np.float32)
    rounded = half_scale(scales)
    assert rounded.dtype == np.float32
    assert np.array_equal(rounded.astype(np.float16).astype(np.float32), rounded)
    assert (rounded >= scales).all()
    assert rounded[0] == 1.0
    np.testing.assert_allclose(rounded[:2], scales[:2], rtol=1e-3)


@pytest.mark.shared_data
@pytest.mark.parametrize("name", ["nanodet_m_320", "light_person_detector", "fastestdet_352"])
def test_real_detectors_neither_overflow_nor_change(shared_data: Path, name: str):
    model = prepare_model(shared_data / "camera" / f"{name}.onnx").model
    value = model.graph.input[0]
    shape = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
    scale = {"fastestdet_352": 1.0, "light_person_detector": 255.0}.get(name, 4.0)
    sample = {value.name: np.random.default_rng(0).uniform(0, scale, shape).astype(np.float32)}
    probe = MagnitudeProbe(model)
    probe.observe(sample)
    half = to_fp16(model, probe.magnitudes)
    for want, got in zip(run(model, sample), run(half, sample)):
        assert np.isfinite(got).all()
        assert sqnr_db(want, got) > 35
