# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Calibration of a YOLOv8n-like network: time and memory, against ONNX Runtime's Entropy.

    python benchmarks/observers.py [--samples 64] [--size 640]

Each contestant observes the same samples in a process of its own, every tensor that its own
builder wants, and turns them into thresholds; what counts is wall time and peak resident memory.
Ours runs twice: for the tensorrt form alone, and for both forms at once (the cpu form's pairs
stand behind operators too, as ONNX Runtime's do).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
from common import peak_memory_mib, save_results
from models import yolov8n_like

from av_compress.compress.emit.quantize import tensors_to_observe
from av_compress.compress.optimize.prepare import prepare_model
from av_compress.compress.plan.precision import PrecisionRules, make_plan

FORMS = ("tensorrt", "cpu")


def samples(size: int, count: int) -> Iterator[np.ndarray]:
    """Yield images: smooth structure and noise, as photographs have."""
    for seed in range(count):
        rng = np.random.default_rng(seed)
        coarse = rng.uniform(0, 1, (1, 3, size // 32, size // 32)).astype(np.float32)
        image = coarse.repeat(32, axis=2).repeat(32, axis=3)
        yield np.clip(image + rng.normal(0, 0.05, image.shape), 0, 1).astype(np.float32)


def ours(model: Path, tensors: list[str], size: int, count: int) -> dict[str, float]:
    from av_compress.compress.observe.calibrate import Calibrator
    from av_compress.compress.observe.thresholds import ThresholdMethod, find_threshold

    calibrator = Calibrator(onnx.load(model), tensors)
    for image in samples(size, count):
        calibrator.observe({"images": image})
    return {
        name: find_threshold(observer, ThresholdMethod.ENTROPY)
        for name, observer in calibrator.observers.items()
    }


def onnxruntime_entropy(
    model: Path, tensors: list[str], size: int, count: int
) -> dict[str, float]:
    from onnxruntime.quantization.calibrate import (
        CalibrationDataReader,
        CalibrationMethod,
        create_calibrator,
    )
    from onnxruntime.quantization.registry import QDQRegistry

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.images = samples(size, count)

        def get_next(self) -> dict[str, np.ndarray] | None:
            image = next(self.images, None)
            return None if image is None else {"images": image}

    # As quantize_static calls it: every tensor around an operator that it can quantise.
    calibrator = create_calibrator(
        model,
        list(QDQRegistry),
        augmented_model_path=f"{model}.augmented",
        calibrate_method=CalibrationMethod.Entropy,
    )
    calibrator.collect_data(Reader())
    found = calibrator.compute_data()
    return {
        name: float(max(abs(data.range_value[0]), abs(data.range_value[1])))
        for name, data in found.items()
    }


CONTESTANTS: dict[str, Callable[..., dict[str, float]]] = {
    "av_compress_tensorrt_form": ours,
    "av_compress_both_forms": ours,
    "onnxruntime_entropy": onnxruntime_entropy,
}


def child(name: str, model: Path, size: int, count: int) -> None:
    tensors = json.loads(model.with_suffix(".json").read_text())[name]
    loaded = peak_memory_mib()
    started = time.perf_counter()
    thresholds = CONTESTANTS[name](model, tensors, size, count)
    print(
        json.dumps(
            {
                "seconds": time.perf_counter() - started,
                "peak_mib": peak_memory_mib(),
                "peak_after_imports_mib": loaded,
                "tensors": len(thresholds),
            }
        )
    )


def measure(name: str, model: Path, size: int, count: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--child", name, "--model", str(model)]
    command += ["--size", str(size), "--samples", str(count)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    print(f"{name}: {figures}", flush=True)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--size", type=int, default=640)
    parser.add_argument("--child", choices=CONTESTANTS)
    parser.add_argument("--model", type=Path)
    args = parser.parse_args()
    if args.child:
        child(args.child, args.model, args.size, args.samples)
        return
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source.onnx"
        onnx.save(yolov8n_like(args.size), source)
        model = prepare_model(source).model
        plan = make_plan(model, PrecisionRules(first=True, prediction=True, depthwise=True))
        path = Path(folder) / "prepared.onnx"
        onnx.save(model, path)
        forms = {form: tensors_to_observe(model, plan, form) for form in FORMS}
        wanted = {
            "av_compress_tensorrt_form": sorted(forms["tensorrt"]),
            "av_compress_both_forms": sorted({*forms["tensorrt"], *forms["cpu"]}),
            "onnxruntime_entropy": [],
        }
        path.with_suffix(".json").write_text(json.dumps(wanted))
        found = {name: measure(name, path, args.size, args.samples) for name in CONTESTANTS}
    peer = found["onnxruntime_entropy"]
    ratios = {
        name: {
            "speed": peer["seconds"] / mine["seconds"],
            "memory": peer["peak_mib"] / mine["peak_mib"],
        }
        for name, mine in found.items()
        if mine is not peer
    }
    figures = {**found, "ratios": ratios, "samples": args.samples, "size": args.size}
    save_results("observers", figures)


if __name__ == "__main__":
    main()
