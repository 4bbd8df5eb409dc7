# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The form for TensorRT 8.6: what is written, what its rules say of it, and how it is judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from helpers_models import (
    EVERYTHING,
    Network,
    emitted,
    prepared,
    quantised,
    residual_network,
    run,
    samples,
)
from helpers_real import DETECTORS, MODELS, real_inputs, real_magnitudes, real_model
from helpers_task import real_task
from onnx import TensorProto, numpy_helper

from av_compress.compress.emit.builder_half import FP32_NODES, allow_half, fp32_nodes
from av_compress.compress.emit.quantize import narrow_plan, quantize, tensors_to_observe
from av_compress.compress.emit.simulate import simulate_half
from av_compress.compress.emit.strip import strip
from av_compress.compress.lint.lint import FORM_TARGETS, broken, lint_model, refuse_broken_form
from av_compress.compress.lint.targets import TARGETS
from av_compress.compress.plan.precision import Precision, PrecisionRules, make_plan
from av_compress.engines.onnxruntime import OnnxRuntimeEngine, OrtOptions
from av_compress.engines.pipeline import Pipeline
from av_compress.errors import ModelError
from av_compress.metrics.average_precision import average_precision_against
from av_compress.tasks.base import Detections2D, ImageFrame

FORM, TARGET = "tensorrt_8", "tensorrt-8.6"
PAIR = ("QuantizeLinear", "DequantizeLinear")
FP16_ALONE = replace(EVERYTHING, exclude=("*",))


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> onnx.ModelProto:
    return prepared(residual_network(), tmp_path_factory.mktemp("model"))


def constants(made: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in made.graph.initializer}


def test_the_form_is_held_to_the_rules_of_its_target(model):
    assert FORM_TARGETS[FORM] == TARGET
    made, _ = quantised(model, EVERYTHING, FORM)
    assert not lint_model(made, TARGET)
    refuse_broken_form(made, FORM)
    other, _ = quantised(model, EVERYTHING, "tensorrt")
    refuse_broken_form(other, "tensorrt")
    with pytest.raises(ModelError, match=f"the {FORM} form breaks rules of {TARGET}: .*half-sc"):
        refuse_broken_form(other, FORM)


@pytest.mark.parametrize("base", [Precision.FP16, Precision.FP32])
def test_pairs_are_those_of_the_tensorrt_form_in_fp32(model, base):
    rules = replace(EVERYTHING, base=base)
    made, plan = quantised(model, rules, FORM)
    other, _ = quantised(model, replace(EVERYTHING, base=Precision.FP32), "tensorrt")
    assert made.opset_import[0].version == TARGETS[TARGET].opset_max == 17
    pairs = [
        [n for n in one.graph.node if n.op_type in PAIR and "fp32" not in n.name]
        for one in (made, other)
    ]
    assert pairs[0] == pairs[1]
    values, others = constants(made), constants(other)
    assert plan.quantised()
    assert {value.dtype for value in values.values()} <= {np.dtype(t) for t in ("f4", "i1", "i8")}
    for node in pairs[0]:
        scale, point = values[node.input[1]], values[node.input[2]]
        np.testing.assert_array_equal(scale, others[node.input[1]])
        assert point.dtype == np.int8
        assert point.shape == scale.shape
        assert not point.any()
        # One scale for an activation; for a weight, one for each output channel.
        weight = values.get(node.input[0].removesuffix("_quantized"))
        assert scale.shape == (() if weight is None else weight.shape[:1])


def test_taking_the_pairs_out_gives_the_source_back(model):
    made, _ = quantised(model, EVERYTHING, FORM)
    for sample in samples(model, 2):
        for want, got in zip(run(model, sample), run(strip(made), sample)):
            np.testing.assert_allclose(got, want, rtol=0, atol=1e-4)


def loud_network(folder: Path) -> onnx.ModelProto:
    """Make a network whose second convolution makes values beyond what FP16 is to hold."""
    net = Network(0, channels=8, side=8)
    loud = net.conv(net.relu(net.conv("image", 8)), 8, 1)
    weight = net.constants[-2]
    weight.CopyFrom(
        numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(1e4), weight.name)
    )
    net.conv(net.add("Sigmoid", [loud], 8, 8), 8, 1)
    return prepared(net.model(), folder)


def test_the_note_names_what_fp16_does_not_hold(tmp_path: Path):
    source = loud_network(tmp_path)
    first, loud, last = [n.name for n in source.graph.node if n.op_type == "Conv"]
    sigmoid = next(n.name for n in source.graph.node if n.op_type == "Sigmoid")
    made, _ = quantised(source, FP16_ALONE, FORM)
    assert fp32_nodes(made) == {loud, sigmoid}
    assert fp32_nodes(onnx.load_from_string(made.SerializeToString())) == {loud, sigmoid}
    plan = make_plan(source, FP16_ALONE)
    planned = replace(
        plan,
        nodes=tuple(
            replace(n, precision=Precision.FP32) if n.node == last else n for n in plan.nodes
        ),
    )
    assert fp32_nodes(emitted(source, planned, FORM)) == {loud, sigmoid, last}
    by_node = {n.node: n.precision for n in narrow_plan(source, planned, FORM).nodes}
    assert by_node[first] is Precision.FP16


def test_without_fp16_there_is_no_note(model):
    source = onnx.ModelProto()
    source.CopyFrom(model)
    allow_half(source, ["an older build's"])
    made, _ = quantised(source, replace(EVERYTHING, base=Precision.FP32), FORM)
    assert fp32_nodes(made) is None
    assert list(simulate_half(made).graph.node) == list(made.graph.node)
    made, _ = quantised(source, EVERYTHING, FORM)
    assert [entry.value for entry in made.metadata_props if entry.key == FP32_NODES] == ["[]"]


def test_the_simulation_rounds_where_fp16_in_the_graph_would(model):
    made, _ = quantised(model, FP16_ALONE, FORM)
    typed, _ = quantised(model, FP16_ALONE, "tensorrt")
    judged, same = simulate_half(made), simulate_half(typed)
    onnx.checker.check_model(judged, full_check=True)
    assert [v.name for v in judged.graph.output] == [v.name for v in made.graph.output]
    for sample in samples(model, 2):
        got = run(judged, sample, exact=True)[0]
        np.testing.assert_array_equal(got, run(same, sample, exact=True)[0])
        assert not np.array_equal(got, run(made, sample, exact=True)[0])


def test_what_stays_fp32_is_not_rounded(tmp_path: Path):
    source = loud_network(tmp_path)
    made, _ = quantised(source, FP16_ALONE, FORM)
    judged = simulate_half(made)
    # Casts in pairs: behind the first convolution's side of the border, and before its last.
    rounded = {n.input[0] for n in judged.graph.node if n.op_type == "Cast"}
    by_output = {name: node for node in judged.graph.node for name in node.output}
    loud = next(n for n in judged.graph.node if n.name in fp32_nodes(made) and "Conv" in n.op_type)
    assert loud.output[0] not in rounded
    np.testing.assert_array_equal(
        constants(judged)[loud.input[1]], constants(source)[loud.input[1]]
    )
    last = next(n for n in reversed(judged.graph.node) if n.op_type == "Conv")
    assert by_output[last.input[0]].op_type == "Cast"
    weight = constants(judged)[last.input[1]]
    np.testing.assert_array_equal(weight, weight.astype(np.float16).astype(np.float32))
    everything, _ = quantised(source, replace(FP16_ALONE, base=Precision.FP32), FORM)
    allow_half(everything, [n.name for n in everything.graph.node])
    assert not any(n.op_type == "Cast" for n in simulate_half(everything).graph.node)


def test_newer_operators_are_written_by_older_ones(tmp_path: Path):
    net = Network(0, channels=8, side=8)
    net.conv(net.add("Mish", [net.conv("image", 8)], 8, 8), 8)
    source = prepared(net.model(19), tmp_path)
    made, plan = quantised(source, EVERYTHING, FORM)
    assert "Mish" not in {n.op_type for n in made.graph.node}
    assert all(n.name for n in made.graph.node)
    assert len(plan.quantised()) == 2
    assert not lint_model(made, TARGET)


def calibrated(data: Path, name: str, emitter: str) -> onnx.ModelProto:
    """Emit a real model by the default rules and the largest magnitudes."""
    source, magnitudes = real_model(data, name), real_magnitudes(data, name)
    plan = make_plan(source, PrecisionRules())
    wanted = tensors_to_observe(source, plan, emitter)
    ranges = {tensor: (-magnitudes[tensor], magnitudes[tensor]) for tensor in wanted}
    return quantize(source, plan, ranges, magnitudes, emitter)


@pytest.mark.shared_data
@pytest.mark.parametrize("name", MODELS)
def test_real_models_keep_the_rules_of_tensorrt_8(shared_data: Path, name: str):
    made = calibrated(shared_data, name, FORM)
    found = lint_model(made, TARGET)
    assert not broken(found)
    # Some come with dynamic extents, and stay so.
    assert {one.rule.id for one in found} <= {"dynamic-shape"}
    onnx.checker.check_model(made, full_check=True)
    assert made.opset_import[0].version == 17
    kinds = {tensor.data_type for tensor in made.graph.initializer}
    assert TensorProto.FLOAT16 not in kinds
    feeds = real_inputs(shared_data, name)[0]
    assert all(np.isfinite(value).all() for value in run(made, feeds, exact=True))


@cache
def pictures(data: Path) -> Sequence[np.ndarray]:
    paths = sorted((data / "camera/coco/images").rglob("*.jpg"))[:12]
    return [cv2.imread(str(path)) for path in paths]


def detect(data: Path, name: str, made: onnx.ModelProto) -> list[Detections2D]:
    options = OrtOptions(intra_op_threads=1, exact_quantization=True)
    engine = OnnxRuntimeEngine(made.SerializeToString(), options)
    pipeline = Pipeline(real_task(name), engine)
    found = [pipeline.process(ImageFrame(picture)).result for picture in pictures(data)]
    pipeline.close()
    return found


@pytest.mark.shared_data
@pytest.mark.parametrize("name", DETECTORS)
def test_real_detectors_see_what_the_tensorrt_form_sees(shared_data: Path, name: str):
    reference = detect(shared_data, name, real_model(shared_data, name))
    found = {
        form: detect(shared_data, name, simulate_half(calibrated(shared_data, name, form)))
        for form in ("tensorrt", FORM)
    }
    names = real_task(name).class_names

    def agreement(one: list[Detections2D], other: list[Detections2D]) -> float:
        return average_precision_against(one, other, class_names=names).ap50

    kept = {form: agreement(reference, seen) for form, seen in found.items()}
    assert kept[FORM] > kept["tensorrt"] - 0.03
    assert agreement(found["tensorrt"], found[FORM]) > 0.9
