# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What real detectors lose against the share of their arithmetic that is INT8.

    python benchmarks/mixed_precision.py [--data ../shared/data] [--models NAME ...]

The `tensorrt` form, thresholds by MSE, scales of depthwise convolutions migrated. Nodes are spared
in the order of their measured sensitivity (output error for each multiply-accumulate) until at
least the wanted share of multiply-accumulates is left in INT8. Calibrated and ranked on the train
images, judged on the val images, every Q/DQ pair computed as it stands, FP32 around them. The
interval is the 95 % bootstrap interval of the AP50 difference over val images.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import save_results
from fidelity import MODELS, ROOT, Detector, Judge

from av_compress.compress.emit.quantize import quantize, tensors_to_observe
from av_compress.compress.observe.calibrate import Calibrator
from av_compress.compress.observe.channels import ChannelProbe
from av_compress.compress.observe.thresholds import ThresholdMethod, find_range
from av_compress.compress.plan.precision import Precision, PrecisionPlan, PrecisionRules, make_plan
from av_compress.compress.refine.migration import migrate
from av_compress.compress.search.sensitivity import NodeSensitivity, measure_sensitivity
from av_compress.metrics.average_precision import average_precision, map_labels
from av_compress.tasks.base import Detections2D

SHARES = (1.0, 0.99, 0.98, 0.97, 0.96, 0.95, 0.90, 0.85)
EVERYTHING = PrecisionRules(
    base=Precision.FP32, first=True, prediction=True, migrate=True, gemv=True, min_channels=1
)
# What is wanted at 95 % INT8: loss of AP50, agreement AP50 and AP50:95, in points.
WANTED_SHARE, WANTED_LOSS = 0.95, 0.25
WANTED_AGREEMENT = {
    "light_person_detector": (98.0, 93.0),
    "nanodet_m_320": (98.0, 92.0),
    "fastestdet_352": (95.0, 82.0),
}
RESAMPLES = 200


def spare(plan: PrecisionPlan, ranking: Sequence[NodeSensitivity], share: float) -> PrecisionPlan:
    """Spare the dearest nodes that fit into what may be left out of INT8."""
    total = sum(node.macs for node in plan.nodes)
    allowed, reasons = (1.0 - share) * total, {}
    for node in ranking:
        if node.macs <= allowed:
            allowed -= node.macs
            reasons[node.node] = "dear"
    return plan.spared(reasons)


def bootstrap(
    detector: Detector, reference: list[Detections2D], results: list[Detections2D]
) -> list[float]:
    """Return the 95 % interval of the loss of AP50 on labels, in points."""
    names, val = detector.task.class_names, detector.val
    truths = [map_labels(val.labels(i), val.class_names, names) for i in range(len(val))]
    generator = np.random.default_rng(0)
    losses = []
    for _ in range(RESAMPLES):
        chosen = generator.integers(0, len(val), len(val))
        labels = [truths[i] for i in chosen]
        pair = [
            average_precision([each[i] for i in chosen], labels, names).ap50
            for each in (reference, results)
        ]
        losses.append(100 * (pair[0] - pair[1]))
    return [round(float(v), 2) for v in np.percentile(losses, [2.5, 97.5])]


def measure(name: str, data: Path) -> dict[str, Any]:
    detector = Detector.open(name, data)
    judge = Judge(detector, detector.detect(detector.model))
    fp32 = judge.measure(judge.reference)
    inputs = list(detector.calibration())
    plan = make_plan(detector.model, EVERYTHING)
    probe = ChannelProbe(detector.model, plan)
    for tensors in inputs:
        probe.observe(tensors)
    model, migrated = migrate(detector.model, probe.factors())
    calibrator = Calibrator(model, tensors_to_observe(model, plan, "tensorrt"))
    for tensors in inputs:
        calibrator.observe(tensors)
    ranges = {n: find_range(o, ThresholdMethod.MSE) for n, o in calibrator.observers.items()}
    started = time.perf_counter()
    ranking = measure_sensitivity(model, plan, ranges, "tensorrt", inputs)
    seconds = time.perf_counter() - started
    curve = []
    for share in SHARES:
        kept = spare(plan, ranking, share)
        results = detector.detect(quantize(model, kept, ranges, {}, "tensorrt"))
        found = judge.measure(results)
        curve.append(
            {
                "int8_mac_share": round(kept.int8_mac_share(), 4),
                "nodes_spared": len(plan.quantised() - kept.quantised()),
                "ap50_loss": round(fp32["ap50"] - found["ap50"], 2),
                "ap50_loss_interval": bootstrap(detector, judge.reference, results),
                **found,
            }
        )
        show(name, curve[-1])
    return {
        "fp32": fp32,
        "migrated": len(migrated),
        "folded": sum(bool(m.folded_into) for m in migrated),
        "sensitivity_seconds": round(seconds, 1),
        "dearest": [
            {"node": s.node, "error": float(f"{s.error:.3g}"), "macs": s.macs}
            for s in ranking[:10]
        ],
        "curve": curve,
    }


def show(name: str, row: dict[str, Any]) -> None:
    low, high = row["ap50_loss_interval"]
    print(
        f"{name:24} {row['int8_mac_share']:7.2%} INT8, {row['nodes_spared']:3} spared: AP50 lost "
        f"{row['ap50_loss']:5.2f} ({low:.2f} to {high:.2f}), agreement "
        f"{row['agreement_ap50']:.2f} / {row['agreement_ap']:.2f}",
        flush=True,
    )


def missed(name: str, found: dict[str, Any]) -> list[str]:
    """Name what is not reached with the wanted share in INT8."""
    rows = [row for row in found["curve"] if row["int8_mac_share"] >= WANTED_SHARE]
    row = min(rows, key=lambda r: r["int8_mac_share"])
    ap50, ap = WANTED_AGREEMENT[name]
    goals = {
        f"AP50 lost {row['ap50_loss']} (at most {WANTED_LOSS})": row["ap50_loss"] > WANTED_LOSS,
        f"agreement AP50 {row['agreement_ap50']} (at least {ap50})": row["agreement_ap50"] < ap50,
        f"agreement AP {row['agreement_ap']} (at least {ap})": row["agreement_ap"] < ap,
    }
    return [f"{name}: {text}" for text, failed in goals.items() if failed]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    args = parser.parse_args()
    figures = {name: measure(name, args.data) for name in args.models}
    if tuple(args.models) == MODELS:
        save_results("mixed_precision", figures)
    wrong = [text for name, found in figures.items() for text in missed(name, found)]
    print("\n".join(f"NOT held: {text}" for text in wrong) or "held")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
