# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Every kind of quantisation on real models: size, speed on a CPU, and what it changes.

    python benchmarks/kinds.py [--data ../shared/data] [--rounds 20]

Three detectors, calibrated on the train images and judged on the val images against the FP32
model's own detections over a score of 0.25; and a steering network with matrix products,
calibrated and judged on its three images. Quantised by the default rules, thresholds by MSE. What
a GPU is to run is simulated, FP16 by rounding every tensor, and has no time here; the others are
timed in turn with FP32, on one thread. At the end operators quantised at run time, against FP32.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
from common import interleaved_medians, save_results
from fidelity import MODELS, ROOT, Detector
from onnx import TensorProto, helper, numpy_helper

from av_compress.compress.emit.insertion import symmetric_weight
from av_compress.compress.emit.kinds import KINDS, Kind
from av_compress.compress.emit.quantize import (
    adapt_rules,
    narrow_plan,
    quantize,
    tensors_to_observe,
)
from av_compress.compress.emit.simulate import simulate_half
from av_compress.compress.graph import GraphIndex, is_depthwise
from av_compress.compress.observe.calibrate import Calibrator, MagnitudeProbe
from av_compress.compress.observe.thresholds import ThresholdMethod, find_range
from av_compress.compress.optimize.prepare import prepare_model
from av_compress.compress.plan.precision import PrecisionPlan, PrecisionRules, make_plan
from av_compress.engines.forms import FORMS
from av_compress.engines.onnxruntime import OnnxRuntimeEngine, OrtOptions
from av_compress.engines.pipeline import Pipeline
from av_compress.metrics.average_precision import average_precision_against
from av_compress.tensors import Tensors

FP32 = "FP32"
# What a search finds is measured by mixed_precision.py.
MEASURED = tuple(kind for kind in KINDS if kind.name != "mixed")

Forms = Mapping[str, onnx.ModelProto]


def plan_of(kind: Kind, model: onnx.ModelProto) -> PrecisionPlan:
    rules = PrecisionRules(exclude=("*",) if kind.name == "FP16" else ())
    return make_plan(model, adapt_rules(rules, kind.emitter))


def emit_all(model: onnx.ModelProto, inputs: Iterator[Tensors]) -> dict[str, onnx.ModelProto]:
    """Calibrate once, and return every kind."""
    plans = {kind: plan_of(kind, model) for kind in MEASURED}
    wanted = {t for k, plan in plans.items() for t in tensors_to_observe(model, plan, k.emitter)}
    calibrator, probe = Calibrator(model, sorted(wanted), 1), MagnitudeProbe(model, 1)
    for tensors in inputs:
        calibrator.observe(tensors)
        probe.observe(tensors)
    ranges = {
        name: find_range(seen, ThresholdMethod.MSE) for name, seen in calibrator.observers.items()
    }
    return {
        kind.name: quantize(model, plan, ranges, probe.magnitudes, kind.emitter)
        for kind, plan in plans.items()
    }


def open_engine(kind: Kind | None, model: onnx.ModelProto) -> OnnxRuntimeEngine:
    """Open what runs here: FP32, a form, or the simulation of one."""
    form = None if kind is None else FORMS[kind.emitter]
    simulated = form is not None and form.simulated
    exact = form is not None and form.computes_pairs(on_gpu=False)
    options = OrtOptions(intra_op_threads=1, exact_quantization=exact)
    data = (simulate_half(model) if simulated else model).SerializeToString()
    return OnnxRuntimeEngine(data, options)


def engines(model: onnx.ModelProto, forms: Forms) -> dict[str, OnnxRuntimeEngine]:
    return {
        FP32: open_engine(None, model),
        **{kind.name: open_engine(kind, forms[kind.name]) for kind in MEASURED},
    }


def mac_shares(model: onnx.ModelProto) -> dict[str, float]:
    """Return how much arithmetic of each kind has quantised operands."""
    return {
        kind.name: narrow_plan(model, plan_of(kind, model), kind.emitter).int8_mac_share()
        for kind in MEASURED
    }


def costs(
    model: onnx.ModelProto,
    forms: Forms,
    opened: Mapping[str, OnnxRuntimeEngine],
    tensors: Tensors,
    rounds: int,
) -> dict[str, dict[str, Any]]:
    """Measure sizes, and the time of what is not simulated."""
    served = [kind.name for kind in MEASURED if not FORMS[kind.emitter].simulated]
    medians = interleaved_medians({n: timed(opened[n], tensors) for n in (FP32, *served)}, rounds)
    found: dict[str, dict[str, Any]] = {}
    shares = mac_shares(model)
    for name, one in {FP32: model, **forms}.items():
        found[name] = {
            "place": len(found),
            "mac_share": round(shares.get(name, 0.0), 4),
            "bytes": one.ByteSize(),
            "size_of_fp32": round(one.ByteSize() / model.ByteSize(), 3),
        }
        if name in medians:
            found[name]["median_ms"] = round(medians[name], 3)
            found[name]["speed_of_fp32"] = round(medians[FP32] / medians[name], 2)
    return found


def measure_detector(name: str, data: Path, rounds: int) -> dict[str, Any]:
    detector = Detector.open(name, data)
    forms = emit_all(detector.model, detector.calibration())
    opened = engines(detector.model, forms)
    frames = [detector.val.read(index) for index in range(len(detector.val))]
    tensors = detector.task.preprocess(frames[0]).tensors
    found = costs(detector.model, forms, opened, tensors, rounds)
    results = {}
    for kind, engine in opened.items():
        pipeline = Pipeline(detector.task.for_measuring(), engine)
        results[kind] = [pipeline.process(frame).result for frame in frames]
        against = average_precision_against(
            results[FP32], results[kind], class_names=detector.task.class_names
        )
        found[kind]["agreement_ap50"] = round(100 * against.ap50, 2)
        found[kind]["agreement_ap"] = round(100 * against.ap, 2)
    return found


def steering_inputs(data: Path) -> Iterator[Tensors]:
    for path in sorted((data / "control/pilotnet_images").glob("*.png")):
        rows = cv2.resize(cv2.imread(str(path))[60:-25], (200, 66))
        yield {"image": cv2.cvtColor(rows, cv2.COLOR_BGR2YUV).astype(np.float32)[None]}


def measure_steering(data: Path, rounds: int) -> dict[str, Any]:
    """Measure the steering network; its result is an angle."""
    model = prepare_model(data / "control/pilotnet.onnx").model
    forms = emit_all(model, steering_inputs(data))
    opened = engines(model, forms)
    found = costs(model, forms, opened, next(steering_inputs(data)), rounds)
    angles = {
        kind: [
            float(next(iter(engine.run(t).outputs.values())).item()) for t in steering_inputs(data)
        ]
        for kind, engine in opened.items()
    }
    for kind, values in angles.items():
        difference = np.abs(np.subtract(values, angles[FP32])).max()
        found[kind]["largest_difference"] = round(float(difference), 5)
    return found


def convolutions_at_run_time(model: onnx.ModelProto) -> onnx.ModelProto:
    """Quantise all convolutions but depthwise ones through ConvInteger.

    Weights are unsigned: the kernel for signed ones is several times slower.
    """
    index, made = GraphIndex(model), onnx.ModelProto()
    made.CopyFrom(model)
    del made.graph.node[:]
    quantised: set[str] = set()
    for node in model.graph.node:
        weight = index.weight(node)
        if node.op_type != "Conv" or weight is None or is_depthwise(node, weight):
            made.graph.node.append(node)
            continue
        source, name = node.input[0], node.name
        if source not in quantised:
            quantised.add(source)
            parts = [f"{source}_q", f"{source}_s", f"{source}_z"]
            made.graph.node.append(helper.make_node("DynamicQuantizeLinear", [source], parts))
        how = symmetric_weight(weight, 0, 63)
        constants = {
            "q": (how.integers(weight, -63, 63).astype(np.int16) + 128).astype(np.uint8),
            "z": np.asarray(128, np.uint8),
            "s": how.scale.reshape(1, -1, 1, 1),
            "b": np.zeros(1, np.float32)
            if len(node.input) < 3
            else numpy_helper.to_array(index.constants[node.input[2]]).reshape(1, -1, 1, 1),
        }
        made.graph.initializer.extend(
            numpy_helper.from_array(value, f"{name}_{key}") for key, value in constants.items()
        )
        inputs = [f"{source}_q", f"{name}_q", f"{source}_z", f"{name}_z"]
        product = helper.make_node("ConvInteger", inputs, [f"{name}_sum"])
        product.attribute.extend(node.attribute)
        made.graph.node.extend(
            [
                product,
                helper.make_node("Cast", [f"{name}_sum"], [f"{name}_f"], to=TensorProto.FLOAT),
                helper.make_node("Mul", [f"{source}_s", f"{name}_s"], [f"{name}_scale"]),
                helper.make_node("Mul", [f"{name}_f", f"{name}_scale"], [f"{name}_scaled"]),
                helper.make_node("Add", [f"{name}_scaled", f"{name}_b"], [node.output[0]]),
            ]
        )
    return made


def product(rows: int, inner: int, columns: int) -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    value = (rng.normal(size=(inner, columns)) / np.sqrt(inner)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], "product")],
        "operator",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [rows, inner])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [rows, columns])],
        [numpy_helper.from_array(value, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)


def products_at_run_time(model: onnx.ModelProto) -> onnx.ModelProto:
    rules = adapt_rules(PrecisionRules(first=True, prediction=True), "cpu_dynamic")
    return quantize(model, make_plan(model, rules), {}, {}, "cpu_dynamic")


def measure_run_time(data: Path, rounds: int) -> dict[str, float]:
    """Return how many times as fast as FP32 operators are, quantised at run time."""
    pairs = {}
    for rows, inner, columns in ((128, 256, 1024), (1, 4096, 4096)):
        model = product(rows, inner, columns)
        label = f"matrix product, {rows}x{inner} by {inner}x{columns}"
        pairs[label] = (model, products_at_run_time(model))
    for name in MODELS:
        model = prepare_model(data / "camera" / f"{name}.onnx").model
        label = f"convolutions of {name}, all but depthwise"
        pairs[label] = (model, convolutions_at_run_time(model))
    return {label: speed(*pair, rounds) for label, pair in pairs.items()}


def speed(model: onnx.ModelProto, quantised: onnx.ModelProto, rounds: int) -> float:
    opened = {FP32: open_engine(None, model), "quantised": open_engine(None, quantised)}
    (spec,) = opened[FP32].inputs
    tensors = {spec.name: np.random.default_rng(1).normal(size=spec.shape).astype(np.float32)}
    medians = interleaved_medians({n: timed(e, tensors) for n, e in opened.items()}, rounds)
    return round(medians[FP32] / medians["quantised"], 2)


def timed(engine: OnnxRuntimeEngine, tensors: Tensors) -> Callable[[], float]:
    """Return what runs once and says how much processor time that took, in milliseconds.

    A model on one thread runs on the thread that asks for it. Unlike the clock, its processor time
    does not grow with what else the machine does.
    """

    def run() -> float:
        started = time.thread_time_ns()
        engine.run(tensors)
        return (time.thread_time_ns() - started) / 1e6

    return run


def show(name: str, found: Mapping[str, Mapping[str, Any]]) -> None:
    print(f"\n{name}")
    for kind, figures in found.items():
        shown = "  ".join(f"{key} {value}" for key, value in figures.items())
        print(f"  {kind:22} {shown}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--rounds", type=int, default=20, help="runs of each model that count")
    args = parser.parse_args()
    started = time.monotonic()
    models = {name: measure_detector(name, args.data, args.rounds) for name in MODELS}
    models["pilotnet"] = measure_steering(args.data, args.rounds)
    for name, found in models.items():
        show(name, found)
    run_time = measure_run_time(args.data, args.rounds)
    show("quantised at run time", {name: {"speed": value} for name, value in run_time.items()})
    figures = {"rounds": args.rounds, "threads": 1, "models": models, "run_time": run_time}
    save_results("kinds", figures, ["ml_dtypes"])
    print(f"{time.monotonic() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
