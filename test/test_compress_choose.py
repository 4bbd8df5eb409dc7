# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Thresholds chosen by what the model says, against ONNX's own reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.utils
import pytest
from helpers_models import Network, prepared, residual_network
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from av_compress.compress.observe.calibrate import Calibrator
from av_compress.compress.observe.choose import MOST, choose_ranges
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


def rounded(values: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    step = np.float32(max(-limits[0], limits[1]) / 127)
    return (np.clip(np.rint(values / step), -128, 127) * step).astype(np.float32)


def relative_error(exact: list[list[np.ndarray]], got: list[list[np.ndarray]]) -> float:
    """Squared error over variance around each frame's mean, the mean over the outputs."""
    shares = []
    for pairs in zip(zip(*exact), zip(*got)):
        left, right = (np.asarray(side, np.float64) for side in pairs)
        spread = left - left.mean(axis=tuple(range(1, left.ndim)), keepdims=True)
        shares.append(((left - right) ** 2).sum() / (spread**2).sum())
    return float(np.mean(shares))


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
    evaluator = ReferenceEvaluator(model)
    exact = [evaluator.run(None, tensors) for tensors in inputs]
    outputs = [value.name for value in model.graph.output]
    extractor = onnx.utils.Extractor(model)
    for name, choice in found.items():
        # What comes before the tensor, and what comes behind it.
        values = [tensors["image"] for tensors in inputs]
        behind = evaluator
        if name != "image":
            before = ReferenceEvaluator(extractor.extract_model(["image"], [name]))
            values = [before.run(None, {"image": value})[0] for value in values]
            behind = ReferenceEvaluator(extractor.extract_model([name], outputs))
        for method, error in choice.errors.items():
            kind, _, percentile = method.partition(" ")
            limits = find_range(observers[name], ThresholdMethod(kind), float(percentile or 99.99))
            got = [behind.run(None, {name: rounded(value, limits)}) for value in values]
            assert error == pytest.approx(relative_error(exact, got), rel=1e-3), (name, method)
        assert choice.errors[choice.method] == min(choice.errors.values())
    assert sum(len(choice.errors) > 1 for choice in found.values()) == 1


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
    # Other methods are tried where the outputs move most.
    tried = [choice for choice in found.values() if len(choice.errors) > 1]
    left = [choice.errors["mse"] for choice in found.values() if len(choice.errors) == 1]
    assert 0 < len(tried) <= MOST * len(names)
    assert min(choice.errors["mse"] for choice in tried) >= max(left)
    assert all(choice.method == "mse" for choice in found.values() if choice not in tried)


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


def test_outputs_whose_shape_depends_on_values(tmp_path: Path):
    net = Network(0, channels=4, side=4)
    net.conv("image", 4)
    found = net.add("NonZero", [net.relu(net.last)], 4, 4)
    model = net.model()
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info(found, TensorProto.INT64, [4, "n"]))
    model = prepared(model, tmp_path)
    inputs = heavy_tailed(2, (1, 4, 4, 4))
    choice = choose_ranges(model, observed(model, ["image"], inputs), inputs)["image"]
    assert choice.errors["mse"] == np.inf
    assert choice.errors[choice.method] == min(choice.errors.values())


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
