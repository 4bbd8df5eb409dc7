# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What is emitted for TensorRT compiles in a real TensorRT, and runs there in INT8."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers_models import (
    EVERYTHING,
    Network,
    emitted,
    prepared,
    quantised,
    refined,
    residual_network,
)
from helpers_trt import Compiled, compile_plan
from onnx import numpy_helper

from av_compress.compress.emit.quantize import narrow_plan
from av_compress.compress.lint.lint import broken, lint_model
from av_compress.compress.optimize.prepare import prepare_model
from av_compress.compress.plan.precision import (
    PrecisionPlan,
    PrecisionRules,
    WeightScales,
    make_plan,
)

DETECTORS = ("nanodet_m_320", "light_person_detector", "fastestdet_352")


# The second is for TensorRT 8.6; here, strongly typed, it is INT8 and FP32.
FORMS = ("tensorrt", "tensorrt_8")


def check(model: onnx.ModelProto, plan: PrecisionPlan, form: str = "tensorrt") -> Compiled:
    """Compile what a plan makes of a model, and compare the layers with the plan."""
    compiled = compile_plan(emitted(model, plan, form).SerializeToString())
    inside = {n.node for n in plan.nodes if compiled.reads_int8(n.node)}
    missed, uncalled = plan.quantised() - inside, inside - plan.quantised()
    assert not missed, f"planned INT8, compiled to float: {sorted(missed)}"
    assert not uncalled, f"planned float, compiled to INT8: {sorted(uncalled)}"
    return compiled


@cache
def detector(path: Path) -> onnx.ModelProto:
    return prepare_model(path).model


@cache
def whole(path: Path) -> onnx.ModelProto:
    """Return a detector with every INT8 node refined: channels centred, weights rounded."""
    model = detector(path)
    return refined(model, make_plan(model, EVERYTHING), half=True)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("rules", [PrecisionRules(), EVERYTHING], ids=["default", "everything"])
def test_a_small_network_compiles_to_int8(tmp_path: Path, rules: PrecisionRules, form: str):
    model = prepared(residual_network(), tmp_path)
    plan = make_plan(model, rules)
    assert plan.quantised()
    compiled = check(model, plan, form)
    assert compiled.holds("Half") == (form == "tensorrt")


def test_one_scale_for_a_weight_lets_int8_convolutions_write_fp16(tmp_path: Path):
    model = prepared(residual_network(), tmp_path)
    written = {}
    for scales in WeightScales:
        rules = replace(EVERYTHING, weight_scales=scales)
        plan = make_plan(model, rules)
        compiled = check(model, plan)
        written[scales] = {
            layer.outputs[0].dtype
            for layer in compiled.layers
            if layer.kind == "correlation" and layer.inputs[0].dtype == "Int8"
        }
    assert written == {WeightScales.CHANNEL: {"Float"}, WeightScales.TENSOR: {"Half"}}


@pytest.mark.shared_data
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", DETECTORS)
def test_real_detectors_compile_to_int8_by_the_default_rules(
    shared_data: Path, name: str, form: str
):
    model = detector(shared_data / "camera" / f"{name}.onnx")
    check(model, make_plan(model, PrecisionRules()), form)


@pytest.mark.shared_data
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", DETECTORS)
def test_real_detectors_compile_to_int8_whole_refined(shared_data: Path, name: str, form: str):
    model = whole(shared_data / "camera" / f"{name}.onnx")
    plan = make_plan(model, EVERYTHING)
    assert plan.int8_mac_share() == 1.0
    check(model, plan, form)


@pytest.mark.shared_data
@pytest.mark.parametrize("name", DETECTORS)
def test_real_detectors_compile_to_what_a_mixed_plan_says(shared_data: Path, name: str):
    model = whole(shared_data / "camera" / f"{name}.onnx")
    plan = make_plan(model, EVERYTHING)
    spared = {node.node: "spared by the test" for node in plan.nodes[::5]}
    check(model, plan.spared(spared))


@pytest.mark.shared_data
@pytest.mark.parametrize("name", DETECTORS)
def test_real_detectors_compile_to_fp16_alone(shared_data: Path, name: str):
    model = detector(shared_data / "camera" / f"{name}.onnx")
    plan = make_plan(model, PrecisionRules(exclude=("*",)))
    assert not plan.quantised()
    assert check(model, plan).holds("Half")


@pytest.fixture
def loud(tmp_path: Path) -> onnx.ModelProto:
    """Return a network one of whose convolutions makes values that FP16 is not to hold."""
    net = Network(0, channels=16, side=8)
    stem = net.relu(net.conv("image", 16, 1))
    net.conv(stem, 16, 3)
    weight = net.constants[-2]
    value = numpy_helper.to_array(weight) * np.float32(1e4)
    weight.CopyFrom(numpy_helper.from_array(value, weight.name))
    high, low = net.last, net.conv(stem, 16, 1)
    both = net.add("Concat", [high, low], 32, 8, axis=1)
    net.conv(both, 16, 1)
    return prepared(net.model(), tmp_path)


def test_an_fp32_node_between_fp16_nodes_keeps_its_int8(loud: onnx.ModelProto):
    made, _ = quantised(loud, EVERYTHING, "tensorrt")
    by_output = {name: node for node in made.graph.node for name in node.output}
    convolutions = [node for node in made.graph.node if node.op_type == "Conv"]
    sources = {by_output[name].op_type for node in convolutions for name in node.input[:2]}
    assert sources == {"DequantizeLinear"}
    # One tensor, read in both types, is made integers of once.
    readers = [n for n in made.graph.node if n.op_type == "DequantizeLinear"]
    shared = [n for n in readers if [o.input[0] for o in readers].count(n.input[0]) == 2]
    assert len(shared) == 2
    check(loud, make_plan(loud, EVERYTHING))


@pytest.mark.shared_data
def test_transposed_convolutions_of_a_real_lidar_network_stay_float(shared_data: Path):
    model = detector(shared_data / "lidar" / "tiny_rpn.onnx")
    plan = narrow_plan(model, make_plan(model, EVERYTHING), "tensorrt")
    spared = {n.op_type for n in plan.nodes if n.node not in plan.quantised()}
    assert spared == {"ConvTranspose"}
    assert not broken(lint_model(emitted(model, plan, "tensorrt"), "rtx-1.7"))
    check(model, plan)
