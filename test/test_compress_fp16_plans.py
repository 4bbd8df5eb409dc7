# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Plans in FP16: nodes that stay FP32, and pairs that are read in either type."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from helpers_casts import needless_casts, types
from helpers_fp16 import FLOAT, HALF, X, branches
from helpers_models import EVERYTHING, Network, prepared, residual_network, run, samples, sqnr_db
from helpers_trt import compile_plan
from onnx import numpy_helper

from av_compress.compress.emit.fp16 import fp32_reasons
from av_compress.compress.emit.holds import half_scale, scale_fits
from av_compress.compress.emit.quantize import narrow_plan, quantize, tensors_to_observe
from av_compress.compress.emit.simulate import simulate_half
from av_compress.compress.observe.calibrate import Calibrator
from av_compress.compress.plan.precision import NodePrecision, Precision, PrecisionPlan, make_plan


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> onnx.ModelProto:
    return prepared(residual_network(), tmp_path_factory.mktemp("model"))


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
