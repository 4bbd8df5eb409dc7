# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Speed of the `cpu` form under ONNX Runtime, against the FP32 model, on one thread.

    python benchmarks/cpu_emitter.py [--size 640] [--rounds 30]

Both run in turn in one process on a YOLOv8n-like network, quantised by the default rules. The
peers are the FP32 model as exported (which ONNX Runtime optimises too) and the `tensorrt` form,
which is not made for this purpose. Accuracy is no matter here (random weights): see fidelity.py.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from common import interleaved_medians, save_results
from models import yolov8n_like

from av_compress.compress.emit.quantize import quantize, tensors_to_observe
from av_compress.compress.observe.calibrate import Calibrator, MagnitudeProbe
from av_compress.compress.observe.thresholds import ThresholdMethod, find_range
from av_compress.compress.optimize.prepare import prepare_model
from av_compress.compress.plan.precision import Precision, PrecisionRules, make_plan

WANTED_RATIO = 1.4
FORMS = ("tensorrt", "cpu")
CALIBRATION_SAMPLES = 4


def image(size: int, seed: int) -> dict[str, np.ndarray]:
    """Return smooth structure with noise, as photographs have."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0, 1, (1, 3, size // 32, size // 32)).astype(np.float32)
    smooth = coarse.repeat(32, axis=2).repeat(32, axis=3)
    noisy = smooth + rng.normal(0, 0.05, smooth.shape)
    return {"images": np.clip(noisy, 0, 1).astype(np.float32)}


def emit_all(model: onnx.ModelProto, size: int) -> tuple[dict[str, onnx.ModelProto], float]:
    """Return every form, and the share of multiply-accumulates in INT8."""
    plan = make_plan(model, PrecisionRules(base=Precision.FP32))
    wanted = sorted({t for form in FORMS for t in tensors_to_observe(model, plan, form)})
    calibrator, probe = Calibrator(model, wanted), MagnitudeProbe(model)
    for seed in range(1, CALIBRATION_SAMPLES + 1):
        calibrator.observe(image(size, seed))
        probe.observe(image(size, seed))
    ranges = {
        name: find_range(observer, ThresholdMethod.MSE)
        for name, observer in calibrator.observers.items()
    }
    forms = {form: quantize(model, plan, ranges, probe.magnitudes, form) for form in FORMS}
    return forms, plan.int8_mac_share()


def open_session(model: onnx.ModelProto, optimised: Path) -> Any:
    """Open a session of one thread; the graph that it runs is written to `optimised`."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.optimized_model_filepath = str(optimised)
    return ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def timed(session: Any, feeds: dict[str, np.ndarray]) -> Callable[[], float]:
    def run() -> float:
        started = time.perf_counter()
        session.run(None, feeds)
        return (time.perf_counter() - started) * 1e3

    return run


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=640, help="height and width of the input")
    parser.add_argument("--rounds", type=int, default=30, help="runs of each form that count")
    args = parser.parse_args()
    feeds = image(args.size, 0)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source.onnx"
        onnx.save(yolov8n_like(args.size), source)
        forms, share = emit_all(prepare_model(source).model, args.size)
        models = {"fp32": onnx.load(source), **forms}
        sessions = {
            name: open_session(model, Path(folder) / f"{name}.optimised.onnx")
            for name, model in models.items()
        }
        kernels = Counter(
            node.op_type for node in onnx.load(Path(folder) / "cpu.optimised.onnx").graph.node
        )
    medians = interleaved_medians(
        {name: timed(session, feeds) for name, session in sessions.items()}, args.rounds
    )
    ratio = medians["fp32"] / medians["cpu"]
    save_results(
        "cpu_emitter",
        {
            "size": args.size,
            "rounds": args.rounds,
            "threads": 1,
            "int8_mac_share": round(share, 4),
            "median_ms": {name: round(value, 2) for name, value in medians.items()},
            "speed_of_fp32": {
                name: round(medians["fp32"] / value, 3) for name, value in medians.items()
            },
            "cpu_kernels": dict(sorted(kernels.items())),
        },
    )
    held = ratio >= WANTED_RATIO
    print(f"{ratio:.2f} times as fast as FP32, wanted {WANTED_RATIO}: {'held' if held else 'NOT'}")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
