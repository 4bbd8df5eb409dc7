# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Thresholds chosen by consumers, against their results computed by the reference evaluator."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers_models import Network, prepared, residual_network
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from av_compress.compress.observe.calibrate import Calibrator
from av_compress.compress.observe.choose import choose_ranges
from av_compress.compress.observe.observers import HistogramObserver
from av_compress.compress.observe.thresholds import ThresholdMethod, find_range
from av_compress.compress.optimize.prepare import prepare_model


def observed(model: onnx.ModelProto, names: list[str], inputs: list[dict]) -> dict:
    calibrator = Calibrator(model, names, threads=1)
    for tensors in inputs:
        calibrator.observe(tensors)
    return dict(calibrator.observers)


def heavy_tailed(count: int, shape: tuple[int, ...], seed: int = 0) -> list[dict]:
    """Return inputs whose few large values make the methods disagree."""
    rng = np.random.default_rng(seed)
    return [{"image": rng.standard_t(2.5, shape).astype(np.float32)} for _ in range(count)]


def error_of(
    node: onnx.NodeProto, constants: dict, values: dict, name: str, limits: tuple[float, float]
) -> tuple[float, float]:
    """Return a node's squared error and its squares, in float64 by ONNX's own reference."""
    feeds = {key: np.asarray(array, np.float64) for key, array in values.items()}
    wide = [numpy_helper.from_array(a.astype(np.float64), key) for key, a in constants.items()]
    border = [helper.make_tensor_value_info(key, TensorProto.DOUBLE, None) for key in feeds]
    result = [helper.make_tensor_value_info(node.output[0], TensorProto.DOUBLE, None)]
    graph = helper.make_graph([node], "g", border, result, wide)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    evaluator = ReferenceEvaluator(model)
    step = max(-limits[0], limits[1]) / 127
    rounded = np.clip(np.rint(feeds[name] / step), -128, 127) * step
    (exact,), (got,) = evaluator.run(None, feeds), evaluator.run(None, {**feeds, name: rounded})
    return float(((got - exact) ** 2).sum()), float((exact**2).sum())


def test_errors_are_those_of_the_reference(tmp_path: Path):
    net = Network(3, channels=4, side=6)
    first = net.relu(net.conv("image", 6))
    second = net.conv(first, 5)
    third = net.conv(first, 3, 1, group=3)
    net.add("Concat", [second, third], 8, 6, axis=1)
    model = prepared(net.model(), tmp_path)
    inputs = heavy_tailed(3, (1, 4, 6, 6))
    observers = observed(model, ["image", first], inputs)
    found = choose_ranges(model, observers, inputs, threads=1)
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    activations = {"image": [tensors["image"] for tensors in inputs]}
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    watched.graph.output.append(onnx.ValueInfoProto(name=first))
    evaluator = ReferenceEvaluator(watched)
    activations[first] = [evaluator.run([first], tensors)[0] for tensors in inputs]
    for name, choice in found.items():
        consumers = [n for n in model.graph.node if n.op_type == "Conv" and n.input[0] == name]
        assert consumers
        for method, error in choice.errors.items():
            kind, _, percentile = method.partition(" ")
            limits = find_range(observers[name], ThresholdMethod(kind), float(percentile or 99.99))
            shares = []
            for node in consumers:
                held = {key: constants[key] for key in node.input if key in constants}
                pairs = [
                    error_of(node, held, {name: array}, name, limits)
                    for array in activations[name]
                ]
                errors, squares = np.sum(pairs, axis=0)
                shares.append(errors / squares)
            assert error == pytest.approx(np.mean(shares), rel=1e-3), (name, method)
        assert choice.errors[choice.method] == min(choice.errors.values())


def test_a_consumer_that_ignores_small_values_gets_the_whole_range(tmp_path: Path):
    """One channel is small, one has large values: the weights decide which of them counts."""
    chosen = {}
    for counted in (0, 1):
        weight = np.zeros((1, 2, 1, 1), np.float32)
        weight[0, counted] = 1
        nodes = [helper.make_node("Conv", ["image", "w"], ["out"], name="conv")]
        border = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, channels, 32, 32])
            for name, channels in (("image", 2), ("out", 1))
        ]
        graph = helper.make_graph(
            nodes, "g", border[:1], border[1:], [numpy_helper.from_array(weight, "w")]
        )
        path = tmp_path / f"{counted}.onnx"
        opsets = [helper.make_opsetid("", 19)]
        onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
        model = prepare_model(path).model
        rng = np.random.default_rng(0)
        image = rng.normal(0, 0.05, (1, 2, 32, 32)).astype(np.float32)
        image[0, 1, ::8, ::8] = 30
        inputs = [{"image": image}]
        chosen[counted] = choose_ranges(model, observed(model, ["image"], inputs), inputs)["image"]
    assert chosen[0].range[1] < 5
    assert chosen[1].range[1] == 30


def test_every_tensor_of_a_network_gets_one_of_the_methods_ranges(tmp_path: Path):
    model = prepared(residual_network(), tmp_path)
    names = ["image", *(node.output[0] for node in model.graph.node)]
    inputs = heavy_tailed(2, (1, 16, 16, 16))
    observers = observed(model, names, inputs)
    found = choose_ranges(model, observers, inputs)
    assert list(found) == names
    for name, choice in found.items():
        low, high = find_range(observers[name], ThresholdMethod.MINMAX)
        assert low <= choice.range[0] <= choice.range[1] <= high
        assert choice.method in choice.errors
        assert np.isfinite(list(choice.errors.values())).all()


def test_tensors_without_consumers_or_values(tmp_path: Path):
    net = Network(0, channels=4, side=4)
    net.relu(net.conv("image", 4))
    model = prepared(net.model(), tmp_path)
    zeros = [{"image": np.zeros((1, 4, 4, 4), np.float32)}]
    last = model.graph.output[0].name
    observers = observed(model, ["image", last], zeros)
    found = choose_ranges(model, observers, zeros)
    # Nothing to lose: all methods agree on a range that is not empty.
    assert found["image"].range[1] > 0
    assert found[last].method == "mse"
    unseen = choose_ranges(model, {"image": HistogramObserver()}, [])
    assert unseen["image"].range[1] > 0


@pytest.mark.shared_data
@pytest.mark.parametrize(
    "name",
    [
        "control/pilotnet",
        "recognition/vww_96_float",
        "lidar/tiny_e2e",
        "voice/kws_ref_model_float32",
    ],
)
def test_models_that_are_no_detectors(shared_data: Path, name: str):
    from av_compress.compress.emit.quantize import tensors_to_observe
    from av_compress.compress.plan.precision import PrecisionRules, make_plan

    model = prepare_model(shared_data / f"{name}.onnx").model
    plan = make_plan(model, PrecisionRules(first=True, prediction=True, gemv=True, min_channels=1))
    inputs = [random_inputs(model)]
    names = [*tensors_to_observe(model, plan, "tensorrt")]
    assert names
    found = choose_ranges(model, observed(model, names, inputs), inputs, threads=1)
    assert set(found) == set(names)


def random_inputs(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    feeds = {}
    for value in model.graph.input:
        kind = value.type.tensor_type
        shape = [dim.dim_value or 3 for dim in kind.shape.dim]
        dtype = helper.tensor_dtype_to_np_dtype(kind.elem_type)
        whole = np.issubdtype(dtype, np.integer)
        feeds[value.name] = (
            (np.arange(np.prod(shape)) if whole else rng.normal(size=shape))
            .astype(dtype)
            .reshape(shape)
        )
    return feeds
