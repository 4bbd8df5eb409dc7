# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What INT8 costs real detectors: four threshold methods, beside ONNX Runtime's quantize_static.

    python benchmarks/fidelity.py [--data ../shared/data] [--models NAME ...]

Calibrated on the train images, judged on the val images: average precision on the labels, and
against the FP32 model's own detections over a score of 0.25 (there also on all images). Every Q/DQ
pair is computed as it stands, so that no kernel's saturation is in the figures; the `cpu` form is
judged in the integer kernels that serve it. The peer gets the prepared model (it writes invalid
graphs from opset 11), the same images, symmetric INT8 and a weight scale a channel.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import yaml
from common import save_results

from av_compress.compress.emit.insertion import Ranges
from av_compress.compress.emit.quantize import narrow_plan, quantize, tensors_to_observe
from av_compress.compress.observe.calibrate import Calibrator, MagnitudeProbe
from av_compress.compress.observe.thresholds import ThresholdMethod, find_range
from av_compress.compress.optimize.prepare import prepare_model
from av_compress.compress.plan.precision import PrecisionRules, make_plan
from av_compress.data.coco import CocoSource
from av_compress.engines.onnxruntime import OnnxRuntimeEngine, OrtOptions
from av_compress.engines.pipeline import Pipeline
from av_compress.metrics.average_precision import (
    average_precision,
    average_precision_against,
    map_labels,
)
from av_compress.tasks.base import Detections2D
from av_compress.tasks.camera_detection import CameraDetection

ROOT = Path(__file__).resolve().parents[1]
MODELS = ("light_person_detector", "nanodet_m_320", "fastestdet_352")
FORMS = ("tensorrt", "cpu")
ALLOWED_LOSS = 1.0
PLACEMENTS = {
    "default": PrecisionRules(),
    "every convolution": PrecisionRules(
        first=True, prediction=True, depthwise=True, gemv=True, min_channels=1
    ),
}


@dataclass(frozen=True)
class Detector:
    """A real detector with its images."""

    task: CameraDetection
    model: onnx.ModelProto
    train: CocoSource
    val: CocoSource

    @staticmethod
    def open(name: str, data: Path) -> Detector:
        config = yaml.safe_load((ROOT / "test/data/tasks" / f"{name}.yaml").read_text())
        camera = data / "camera"
        train, val = (
            CocoSource(camera / f"coco/instances_{split}2017.json", camera / "coco")
            for split in ("train", "val")
        )
        model = prepare_model(camera / f"{name}.onnx").model
        return Detector(CameraDetection.from_config(config), model, train, val)

    def calibration(self) -> Iterator[Mapping[str, np.ndarray]]:
        """Yield the input tensors of the train images."""
        for index in range(len(self.train)):
            yield self.task.preprocess(self.train.read(index)).tensors

    def detect(self, model: onnx.ModelProto, exact: bool = True) -> list[Detections2D]:
        """Run the val images, then the train images."""
        options = OrtOptions(intra_op_threads=1, exact_quantization=exact)
        pipeline = Pipeline(self.task, OnnxRuntimeEngine(model.SerializeToString(), options))
        results = [
            pipeline.process(source.read(index)).result
            for source in (self.val, self.train)
            for index in range(len(source))
        ]
        pipeline.close()
        return results


@dataclass(frozen=True)
class Judge:
    """Measures detections in points: AP times 100."""

    detector: Detector
    reference: list[Detections2D]

    def measure(self, results: list[Detections2D]) -> dict[str, float]:
        names, val = self.detector.task.class_names, self.detector.val
        count = len(val)
        truths = [map_labels(val.labels(i), val.class_names, names) for i in range(count)]
        on_labels = average_precision(results[:count], truths, names)
        agreement = average_precision_against(
            self.reference[:count], results[:count], class_names=names
        )
        everywhere = average_precision_against(self.reference, results, class_names=names)
        found = {
            "ap50": on_labels.ap50,
            "ap": on_labels.ap,
            "agreement_ap50": agreement.ap50,
            "agreement_ap": agreement.ap,
            "agreement_ap50_all_images": everywhere.ap50,
            "agreement_ap_all_images": everywhere.ap,
        }
        return {name: round(100 * value, 2) for name, value in found.items()}


def observe(detector: Detector) -> tuple[dict[ThresholdMethod, Ranges], Mapping[str, float]]:
    """Calibrate once; return every method's ranges, and the magnitudes."""
    model = detector.model
    plans = [make_plan(model, rules) for rules in PLACEMENTS.values()]
    wanted = {t for plan in plans for form in FORMS for t in tensors_to_observe(model, plan, form)}
    calibrator, probe = Calibrator(model, sorted(wanted), 1), MagnitudeProbe(model, 1)
    for tensors in detector.calibration():
        calibrator.observe(tensors)
        probe.observe(tensors)
    ranges = {
        method: {name: find_range(seen, method) for name, seen in calibrator.observers.items()}
        for method in ThresholdMethod
    }
    return ranges, probe.magnitudes


def ours(detector: Detector, judge: Judge) -> dict[str, Any]:
    ranges, magnitudes = observe(detector)
    found: dict[str, Any] = {}
    for placement, rules in PLACEMENTS.items():
        plan = make_plan(detector.model, rules)
        shares = {
            form: round(narrow_plan(detector.model, plan, form).int8_mac_share(), 4)
            for form in FORMS
        }
        found[placement] = {"int8_mac_share": shares}
        for form in FORMS:
            found[placement][form] = {}
            for method in ThresholdMethod:
                emitted = quantize(detector.model, plan, ranges[method], magnitudes, form)
                results = detector.detect(emitted, exact=form == "tensorrt")
                found[placement][form][method.value] = judge.measure(results)
    return found


def peer(detector: Detector, judge: Judge) -> dict[str, Any]:
    """Quantise with ONNX Runtime, by each of its methods."""
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.tensors = detector.calibration()

        def get_next(self) -> dict[str, np.ndarray] | None:
            tensors = next(self.tensors, None)
            return None if tensors is None else dict(tensors)

    found = {}
    for name in ("MinMax", "Entropy", "Percentile"):
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            source, target = Path(folder) / "source.onnx", Path(folder) / "target.onnx"
            onnx.save(detector.model, source)
            quantize_static(
                source,
                target,
                Reader(),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod[name],
                extra_options={"ActivationSymmetric": True, "WeightSymmetric": True},
            )
            emitted = onnx.load(target)
        found[name.lower()] = judge.measure(detector.detect(emitted))
    return found


def measure(name: str, data: Path) -> dict[str, Any]:
    detector = Detector.open(name, data)
    judge = Judge(detector, detector.detect(detector.model))
    fp32 = judge.measure(judge.reference)
    mine = ours(detector, judge)
    losses = {
        form: {
            method: round(fp32["ap50"] - figures["ap50"], 2)
            for method, figures in mine["default"][form].items()
        }
        for form in FORMS
    }
    return {
        "fp32": fp32,
        "av_compress": mine,
        "onnxruntime quantize_static": peer(detector, judge),
        "ap50_loss": losses,
        "least_ap50_loss": {form: min(values.values()) for form, values in losses.items()},
    }


def show(name: str, found: Mapping[str, Any]) -> None:
    rows = {"FP32": found["fp32"]}
    for placement, forms in found["av_compress"].items():
        for form in FORMS:
            for method, figures in forms[form].items():
                share = forms["int8_mac_share"][form]
                rows[f"{placement} ({share:.0%} INT8), {form}, {method}"] = figures
    for method, figures in found["onnxruntime quantize_static"].items():
        rows[f"ONNX Runtime, {method}"] = figures
    print(f"\n{name:52} AP50    AP   agreement AP50    AP")
    for label, row in rows.items():
        print(
            f"{label:50} {row['ap50']:6.2f} {row['ap']:6.2f} "
            f"{row['agreement_ap50']:15.2f} {row['agreement_ap']:6.2f}",
            flush=True,
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    args = parser.parse_args()
    figures = {}
    for name in args.models:
        figures[name] = measure(name, args.data)
        show(name, figures[name])
    if tuple(args.models) == MODELS:
        save_results("fidelity", figures)
    missed = [
        name for name in figures if max(figures[name]["least_ap50_loss"].values()) > ALLOWED_LOSS
    ]
    print(
        f"AP50 lost: at most {ALLOWED_LOSS}: {'NOT on ' + ', '.join(missed) if missed else 'held'}"
    )
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
