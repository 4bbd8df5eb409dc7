# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What real detectors lose against the share of their arithmetic that is INT8.

    python benchmarks/mixed_precision.py [--data ../shared/data] [--models NAME ...]

The recipe has no list of layers: every node may be INT8, its channels are centred and aligned
where that pays, its weights rounded so that they make up for each other's errors, thresholds are
chosen by MSE. Nodes are spared in the order of their measured sensitivity (how far detections
move when the node alone is INT8, for each multiply-accumulate) until at least the wanted share
of multiply-accumulates is left in INT8. All of it on the train images; judged on the val images
is the artefact itself, every Q/DQ pair computed as it stands and every FP16 tensor rounded. The
interval is the 95 % bootstrap interval of the AP50 difference over val images.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from common import save_results
from fidelity import MODELS, ROOT, Detector, Judge

from av_compress.build.basis import Basis
from av_compress.build.recipe import Recipe, load_recipe
from av_compress.build.sensitivity import open_searcher
from av_compress.compress.emit.simulate import simulate_half
from av_compress.compress.plan.precision import PrecisionPlan
from av_compress.compress.refine.refine import affines_of
from av_compress.compress.refine.refinement import Refinement
from av_compress.compress.search.journal import Journal
from av_compress.compress.search.plan_search import affordable
from av_compress.metrics.average_precision import average_precision, map_labels
from av_compress.tasks.base import Detections2D

SHARES = (1.0, 0.99, 0.98, 0.97, 0.96, 0.95, 0.90, 0.85)
# What is wanted at 95 % INT8: loss of AP50, agreement AP50 and AP50:95, in points.
WANTED_SHARE, WANTED_LOSS = 0.95, 0.25
WANTED_AGREEMENT = {
    "light_person_detector": (98.0, 93.0),
    "nanodet_m_320": (98.0, 92.0),
    "fastestdet_352": (95.0, 82.0),
}
RESAMPLES = 200


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


def recipe_of(name: str, data: Path, folder: Path) -> Recipe:
    """Write and read the recipe that leaves everything to measurement."""
    coco = data / "camera" / "coco"

    def source(split: str) -> dict[str, Any]:
        annotations = coco / f"instances_{split}2017.json"
        return {"type": "coco", "path": str(coco), "annotations": str(annotations)}

    task = yaml.safe_load((ROOT / "test/data/tasks" / f"{name}.yaml").read_text())
    content = {
        "model": str(data / "camera" / f"{name}.onnx"),
        "task": task,
        "calibration": {"source": source("train"), "samples": 26},
        "gate": {"source": source("val"), "samples": 27, "metric": "agreement_ap"},
        "search": {"frames": 26},
        "emitters": ["tensorrt"],
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(content))
    return load_recipe(path)


@dataclass(frozen=True)
class Contest:
    """A detector, and what judges its forms."""

    detector: Detector
    judge: Judge

    def figures(self, basis: Basis, plan: PrecisionPlan) -> dict[str, Any]:
        """Judge the artefact itself: FP16 around INT8, every tensor rounded as it stands."""
        emitted = basis.emit(plan, "tensorrt")
        results = self.detector.detect(simulate_half(emitted))
        found = self.judge.measure(results)
        fp32 = self.judge.measure(self.judge.reference)
        return {
            "int8_mac_share": round(plan.int8_mac_share(), 4),
            "nodes_spared": len(basis.plan.quantised() - plan.quantised()),
            "ap50_loss": round(fp32["ap50"] - found["ap50"], 2),
            "ap50_loss_interval": bootstrap(self.detector, self.judge.reference, results),
            **found,
        }


def measure(name: str, data: Path) -> dict[str, Any]:
    detector = Detector.open(name, data)
    judge = Judge(detector, detector.detect(detector.model))
    started = time.perf_counter()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        recipe = recipe_of(name, data, folder)
        searcher = open_searcher(recipe, "tensorrt", Journal(), stack)
        prepared = time.perf_counter()
        basis = searcher.measured()
    ranked = time.perf_counter()
    contest, ranking = Contest(detector, judge), basis.ranking or ()
    curve = []
    for share in SHARES:
        names = affordable(basis.plan, ranking, share)
        kept = basis.plan.spared(dict.fromkeys(names, "dear"))
        curve.append(contest.figures(basis, kept))
        show(name, curve[-1])
    nearest = replace(basis, refinements={"tensorrt": Refinement(affines_of(basis.choices))})
    rounding = contest.figures(nearest, basis.plan)
    show(f"{name}, nearest", rounding)
    return {
        "fp32": judge.measure(judge.reference),
        "migrated": len(basis.choices),
        "centred": sum(choice.affine.shifted for choice in basis.choices.values()),
        "refinement_seconds": round(prepared - started, 1),
        "sensitivity_seconds": round(ranked - prepared, 1),
        "dearest": [
            {
                "node": s.node,
                "shift": None if s.shift is None else float(f"{s.shift:.3g}"),
                "error": float(f"{s.error:.3g}"),
                "macs": s.macs,
            }
            for s in ranking[:10]
        ],
        "curve": curve,
        "rounded_to_nearest": rounding,
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
