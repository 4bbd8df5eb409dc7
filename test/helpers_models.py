# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Small random networks, and what it takes to quantise one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from av_compress.compress.emit.quantize import quantize, tensors_to_observe, weight_grid
from av_compress.compress.observe.calibrate import Calibrator, MagnitudeProbe
from av_compress.compress.observe.channels import ChannelObserver
from av_compress.compress.optimize.prepare import prepare_model
from av_compress.compress.plan.precision import Precision, PrecisionPlan, PrecisionRules, make_plan
from av_compress.compress.refine.refine import (
    affines_of,
    choose_affines,
    layer_inputs,
    round_weights,
)
from av_compress.compress.refine.refinement import Refinement
from av_compress.engines.onnxruntime import UNSOUND_REWRITES

EVERYTHING = PrecisionRules(first=True, prediction=True, depthwise=True, min_channels=1)


class Network:
    """Builds a graph operator by operator; tensors are [1, channels, side, side]."""

    def __init__(self, seed: int, channels: int = 8, side: int = 12) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.channels = {"image": channels}
        self.sides = {"image": side}
        self.last = "image"

    def add(self, op_type: str, inputs: list[str], channels: int, side: int, **attributes) -> str:
        name = f"t{len(self.nodes)}"
        self.nodes.append(
            helper.make_node(op_type, inputs, [name], name=f"n_{name}", **attributes)
        )
        self.channels[name], self.sides[name] = channels, side
        self.last = name
        return name

    def constant(self, value: np.ndarray) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def conv(
        self, source: str, channels: int, size: int = 3, group: int = 1, stride: int = 1
    ) -> str:
        inside = self.channels[source]
        fan = inside // group * size * size
        weight = self.rng.normal(0, 1 / np.sqrt(fan), (channels, inside // group, size, size))
        names = [
            self.constant(weight.astype(np.float32)),
            self.constant(self.rng.normal(0, 0.1, channels).astype(np.float32)),
        ]
        pad = size // 2
        side = (self.sides[source] + 2 * pad - size) // stride + 1
        return self.add(
            "Conv",
            [source, *names],
            channels,
            side,
            pads=[pad] * 4,
            group=group,
            strides=[stride, stride],
        )

    def relu(self, source: str) -> str:
        return self.add("Relu", [source], self.channels[source], self.sides[source])

    def silu(self, source: str) -> str:
        gate = self.add("Sigmoid", [source], self.channels[source], self.sides[source])
        return self.add("Mul", [source, gate], self.channels[source], self.sides[source])

    def model(self, opset: int = 13) -> onnx.ModelProto:
        first, last = self.channels["image"], self.channels[self.last]
        graph = helper.make_graph(
            self.nodes,
            "network",
            [_value("image", [1, first, self.sides["image"], self.sides["image"]])],
            [_value(self.last, [1, last, self.sides[self.last], self.sides[self.last]])],
            self.constants,
        )
        opsets = [helper.make_opsetid("", opset)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=7)


def _value(name: str, shape: list[int]) -> Any:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def residual_network(seed: int = 0) -> onnx.ModelProto:
    """Conv, residual block, depthwise, concat, pooling, upsampling: what detectors are made of."""
    net = Network(seed, channels=16, side=16)
    stem = net.relu(net.conv("image", 16))
    inner = net.conv(net.relu(net.conv(stem, 16, 1)), 16)
    joined = net.relu(net.add("Add", [stem, inner], 16, 16))
    mixed = net.silu(net.conv(net.conv(joined, 16, group=16), 24, 1))
    small = net.silu(net.conv(mixed, 24, stride=2))
    pooled = net.add("MaxPool", [small], 24, 8, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    scales = net.constant(np.array([1, 1, 2, 2], np.float32))
    large = net.add(
        "Resize",
        [pooled, "", scales],
        24,
        16,
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )
    both = net.add("Concat", [large, mixed], 48, 16, axis=1)
    net.conv(net.relu(net.conv(both, 16, 1)), 20, 1)
    return net.model()


def prepared(model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """Save a model and prepare it."""
    path = folder / "model.onnx"
    onnx.save(model, path)
    return prepare_model(path).model


def samples(model: onnx.ModelProto, count: int = 4) -> list[dict[str, np.ndarray]]:
    """Return random inputs."""
    value = model.graph.input[0]
    shape = [dim.dim_value or 1 for dim in value.type.tensor_type.shape.dim]
    dtype = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
    rng = np.random.default_rng(5)
    return [{value.name: rng.normal(size=shape).astype(dtype)} for _ in range(count)]


def quantised(
    model: onnx.ModelProto, rules: PrecisionRules, emitter: str
) -> tuple[onnx.ModelProto, PrecisionPlan]:
    """Plan by the rules, calibrate by minimum and maximum over random samples, and emit."""
    plan = make_plan(model, rules)
    return emitted(model, plan, emitter), plan


def emitted(model: onnx.ModelProto, plan: PrecisionPlan, emitter: str) -> onnx.ModelProto:
    """Calibrate by minimum and maximum over random samples, and emit."""
    calibrator = Calibrator(model, tensors_to_observe(model, plan, emitter))
    probe = MagnitudeProbe(model)
    for sample in samples(model):
        calibrator.observe(sample)
        probe.observe(sample)
    ranges = {name: (o.min, o.max) for name, o in calibrator.observers.items()}
    return quantize(model, plan, ranges, probe.magnitudes, emitter)


def refined(model: onnx.ModelProto, plan: PrecisionPlan, half: bool = False) -> onnx.ModelProto:
    """Migrate and round all INT8 nodes of a plan by random samples, as the tensorrt form wants."""
    read = layer_inputs(model, plan.quantised())
    observer = ChannelObserver(model, sorted(set(read.values())), threads=1)
    for feeds in samples(model, 2):
        observer.observe(feeds)
    affines = affines_of(choose_affines(model, plan.quantised(), observer.reservoirs))
    grid = weight_grid(replace(plan, base=Precision.FP16 if half else Precision.FP32), "tensorrt")
    assert grid is not None
    inside = plan.quantised()
    weights = round_weights(model, affines, inside, samples(model, 2), {"tensorrt": grid})
    return Refinement(affines, weights["tensorrt"]).apply(model, plan.quantised())


def run(
    model: onnx.ModelProto,
    feeds: dict[str, np.ndarray],
    exact: bool = False,
    configure: Callable[[Any], None] | None = None,
) -> list[np.ndarray]:
    """Run under ONNX Runtime; `exact` computes every Q/DQ pair as it stands."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    if exact:
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    if configure is not None:
        configure(options)
    session = ort.InferenceSession(
        model.SerializeToString(),
        options,
        providers=["CPUExecutionProvider"],
        disabled_optimizers=UNSOUND_REWRITES if exact else None,
    )
    return session.run(None, feeds)


def sqnr_db(signal: np.ndarray, approximation: np.ndarray) -> float:
    """Return the signal-to-quantisation-noise ratio in decibels."""
    noise = float(((signal.astype(np.float64) - approximation) ** 2).sum())
    return 10 * float(np.log10((signal.astype(np.float64) ** 2).sum() / max(noise, 1e-30)))
