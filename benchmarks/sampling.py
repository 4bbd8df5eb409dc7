# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Which few frames to calibrate on: evenly spaced, spread over what they show, or at random.

    python benchmarks/sampling.py [--data ../shared/data] [--models NAME ...]

Real detectors in the `tensorrt` form, default rules, thresholds by MSE, calibrated on 4, 8 and 16
frames of three pools: the train images, the bag, and a drive that mostly stands: one image with
sensor noise for three quarters of the time, then the other train images. Judged on the val images
against the FP32 model's own detections over a score of 0.25, and by the error of the raw outputs
(squared, relative to the variance). Every frame is observed once; what a choice of frames would
have observed is merged from these, which is exact.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from common import save_results
from fidelity import MODELS, ROOT, Detector

from av_compress.compress.emit.insertion import Ranges
from av_compress.compress.emit.quantize import quantize, tensors_to_observe
from av_compress.compress.observe.statistics import ObserverRun, Statistics, Wanted
from av_compress.compress.observe.thresholds import ThresholdMethod, find_range
from av_compress.compress.plan.precision import Precision, PrecisionPlan, PrecisionRules, make_plan
from av_compress.compress.search.sensitivity import output_error
from av_compress.data.bags import BagImages
from av_compress.data.base import FrameSource
from av_compress.data.sampling import SAMPLINGS, SampleRequest, select
from av_compress.engines.onnxruntime import OnnxRuntimeEngine, OrtOptions
from av_compress.metrics.average_precision import average_precision_against
from av_compress.tasks.base import Detections2D, ImageFrame
from av_compress.tensors import Array

COUNTS = (4, 8, 16)
SEEDS = 5
RULES = PrecisionRules(base=Precision.FP32)
# The drive that mostly stands, in frames.
STANDING, MOVING = 75, 25
NOISE = 3
STEP_NS = 100_000_000


class StandingDrive:
    """One image again and again, each time with other noise, then the rest of a source."""

    def __init__(self, source: FrameSource) -> None:
        self.description = "a drive that mostly stands"
        self._source = source

    def __len__(self) -> int:
        return STANDING + MOVING

    def key(self, index: int) -> str:
        return str(index)

    def read(self, index: int) -> ImageFrame:
        frame = self._source.read(max(0, index - STANDING + 1))
        noise = np.random.default_rng(index).integers(-NOISE, NOISE + 1, frame.pixels.shape)
        pixels = np.clip(frame.pixels + noise, 0, 255).astype(np.uint8)
        return replace(frame, pixels=pixels, stamp_ns=1 + index * STEP_NS, key=str(index))

    def close(self) -> None:
        pass


class OutputJudge:
    """Measures a form on the val images: agreement in points, and error of the raw outputs."""

    def __init__(self, detector: Detector) -> None:
        self._task = detector.task.for_measuring()
        val = detector.val
        self._inputs = [self._task.preprocess(val.read(index)) for index in range(len(val))]
        self._outputs, self._reference = self._run(detector.model)

    def measure(self, model: onnx.ModelProto) -> dict[str, float]:
        outputs, results = self._run(model)
        found = average_precision_against(
            self._reference, results, class_names=self._task.class_names
        )
        return {
            "agreement_ap50": round(100 * found.ap50, 2),
            "agreement_ap": round(100 * found.ap, 2),
            "output_error": float(f"{output_error(self._outputs, outputs):.4g}"),
        }

    def _run(self, model: onnx.ModelProto) -> tuple[list[list[Array]], list[Detections2D]]:
        options = OrtOptions(intra_op_threads=1, exact_quantization=True)
        engine = OnnxRuntimeEngine(model.SerializeToString(), options)
        outputs, results = [], []
        for prepared in self._inputs:
            # The engine's own memory, written anew by the next run.
            run = {name: a.copy() for name, a in engine.run(prepared.tensors).outputs.items()}
            outputs.append(list(run.values()))
            results.append(self._task.postprocess(run, prepared.context))
        engine.close()
        return outputs, results


def observe_each(
    detector: Detector, tensors: Sequence[str], frames: Iterable[ImageFrame]
) -> list[Statistics]:
    """Observe every frame by itself."""
    found = []
    for frame in frames:
        run = ObserverRun(detector.model, Wanted(tuple(tensors)), threads=1)
        run.observe(detector.task.preprocess(frame).tensors, 0)
        found.append(run.statistics)
    return found


def ranges_of(singles: Sequence[Statistics], indices: Iterable[int]) -> Ranges:
    merged = reduce(Statistics.merged, [singles[index] for index in indices])
    return {
        name: find_range(observer, ThresholdMethod.MSE)
        for name, observer in merged.histograms.items()
    }


def pools(detector: Detector, data: Path) -> Mapping[str, FrameSource]:
    return {
        "train images": detector.train,
        "bag": BagImages(data / "bags/coco_ccby_camera_derived"),
        "drive that stands": StandingDrive(detector.train),
    }


def of_pool(
    detector: Detector, judge: OutputJudge, plan: PrecisionPlan, source: FrameSource
) -> dict[str, Any]:
    tensors = tensors_to_observe(detector.model, plan, "tensorrt")
    singles = observe_each(detector, tensors, (source.read(i) for i in range(len(source))))

    def accuracy(indices: Iterable[int]) -> dict[str, float]:
        emitted = quantize(detector.model, plan, ranges_of(singles, indices), {}, "tensorrt")
        return judge.measure(emitted)

    found: dict[str, Any] = {"frames": len(source), "all frames": accuracy(range(len(source)))}
    for count in COUNTS:
        rows: dict[str, Any] = {}
        for sampling in SAMPLINGS:
            chosen = select(SampleRequest(source, count, sampling))
            rows[sampling] = accuracy(frame.index for frame in chosen)
        generator = np.random.default_rng(count)
        draws = [
            accuracy(generator.choice(len(source), count, replace=False)) for _ in range(SEEDS)
        ]
        rows["random"] = {
            name: [
                min(d[name] for d in draws),
                float(np.mean([d[name] for d in draws])),
                max(d[name] for d in draws),
            ]
            for name in draws[0]
        }
        found[str(count)] = rows
    return found


def measure(name: str, data: Path) -> dict[str, Any]:
    detector = Detector.open(name, data)
    judge = OutputJudge(detector)
    plan = make_plan(detector.model, RULES)
    found = {}
    for pool, source in pools(detector, data).items():
        found[pool] = of_pool(detector, judge, plan, source)
        source.close()
        show(name, pool, found[pool])
    return found


def show(name: str, pool: str, found: Mapping[str, Any]) -> None:
    print(f"\n{name}, {pool}: {found['all frames']['agreement_ap']:.2f} with all frames")
    for count in COUNTS:
        rows = found[str(count)]
        low, mean, high = rows["random"]["agreement_ap"]
        cells = [f"{s} {rows[s]['agreement_ap']:6.2f}" for s in SAMPLINGS]
        print(f"  {count:3}: {', '.join(cells)}, random {mean:.2f} ({low:.2f} to {high:.2f})")
    print(end="", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    args = parser.parse_args()
    figures = {name: measure(name, args.data) for name in args.models}
    if tuple(args.models) == MODELS:
        save_results("sampling", {"seeds": SEEDS, "models": figures})


if __name__ == "__main__":
    main()
