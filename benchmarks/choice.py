# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The tensorrt form of real detectors, chosen by what TensorRT for RTX makes of its variants.

    python benchmarks/choice.py [--data ../shared/data] [--models NAME ...]

As a build with a `compile` section does it, for compute capability 8.9: calibrated on the train
images, compiled without a card, judged on the val images by AP50 against labels, of which a point
may be lost. Every variant is judged here, where a build stops at the first that holds. Twice: by
the default rules, and with every node free to be INT8. Bytes are those that kernels read and
write for one frame; an ahead-of-time plan has no times.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import yaml
from common import save_results
from fidelity import MODELS, ROOT

from av_compress.build.accounts import open_compiler
from av_compress.build.basis import make_bases
from av_compress.build.candidates import Maker
from av_compress.build.gates import Judge, make_judge, measuring_pipeline, reference_pipeline
from av_compress.build.observing import DirectObserving
from av_compress.build.preparation import prepare
from av_compress.build.recipe import Recipe, load_recipe
from av_compress.build.samples import open_samples
from av_compress.build.variants import Chooser, Variant
from av_compress.compress.plan.precision import PrecisionRules
from av_compress.compress.search.journal import Journal

CAPABILITY = "8.9"
MAX_LOSS = 1.0
RULES: Mapping[str, Mapping[str, Any]] = {
    "default rules": {},
    "every node": {
        **dict.fromkeys(("first", "prediction", "depthwise", "gemv"), True),
        "min_channels": 1,
    },
}


def recipe_of(name: str, data: Path, precision: Mapping[str, Any], folder: Path) -> Recipe:
    coco = data / "camera" / "coco"

    def source(split: str) -> dict[str, Any]:
        annotations = coco / f"instances_{split}2017.json"
        return {"type": "coco", "path": str(coco), "annotations": str(annotations)}

    content = {
        "model": str(data / "camera" / f"{name}.onnx"),
        "task": yaml.safe_load((ROOT / "test/data/tasks" / f"{name}.yaml").read_text()),
        "calibration": {"source": source("train"), "samples": 26},
        "gate": {
            **{"source": source("val"), "samples": 27, "metric": "ap50"},
            "max_loss": MAX_LOSS,
        },
        "precision": dict(precision),
        "emitters": ["tensorrt"],
        "compile": {"capabilities": [CAPABILITY]},
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(content))
    return load_recipe(path)


def measure(name: str, data: Path, precision: Mapping[str, Any]) -> dict[str, Any]:
    started = time.perf_counter()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        recipe = recipe_of(name, data, precision, folder)
        assert recipe.compile is not None
        assert recipe.gate is not None
        compiler = open_compiler(recipe.compile, 1)
        preparation = prepare(recipe)
        model, task = preparation.prepared.model, preparation.task
        reference = stack.enter_context(closing(reference_pipeline(task, model)))
        samples = open_samples(recipe, stack)
        assert samples.gate is not None
        judge = make_judge(recipe.gate, samples.gate, reference)
        rules = PrecisionRules.from_config(recipe.precision)
        frames = samples.calibration
        bases = make_bases(recipe, model, rules, task, frames, DirectObserving())
        maker = Maker(recipe, preparation.prepared, bases, task, samples, reference, Journal())
        ready = time.perf_counter()
        chooser = Chooser(maker, compiler, recipe.compile, recipe.candidates)
        variants, trials = chooser.variants()
        chosen_in = time.perf_counter() - ready
        rows = {
            one.name: row_of(one, judge, maker)
            for one in [*chooser.in_order(variants), *(v for v in variants if v.fault)]
        }
    holding = [n for n, row in rows.items() if row.get("ap50_loss", 2 * MAX_LOSS) <= MAX_LOSS]
    chosen = min(holding, key=lambda n: (rows[n]["moved_mb"], rows[n]["kernels"]))
    show(name, rows, chosen)
    return {
        "chosen": chosen,
        "variants": rows,
        "trials": trials,
        "seconds_choosing": round(chosen_in, 1),
        "seconds": round(time.perf_counter() - started, 1),
        "fp32_ap50": judge.figures(judge.reference)["ap50"],
    }


def row_of(variant: Variant, judge: Judge, maker: Maker) -> dict[str, Any]:
    """Judge a variant, and tell its account."""
    if variant.fault or variant.account is None or variant.made is None:
        return {"fault": variant.fault}
    with closing(measuring_pipeline(maker.task, variant.made.judged, exact=True)) as pipeline:
        figures = judge.figures(judge.observe(pipeline, variant.name))
    reference, account = judge.figures(judge.reference), variant.account
    return {
        "kernels": account.kernels,
        "moved_mb": round(account.bytes_moved / 1e6, 3),
        "int8_nodes": sum(node.achieved == "int8" for node in account.nodes),
        "int8_mac_share": round(variant.made.plan.int8_mac_share(), 4),
        "ap50_loss": round(reference["ap50"] - figures["ap50"], 2),
        "agreement_ap": round(figures["agreement_ap"], 2),
    }


def show(name: str, rows: Mapping[str, Mapping[str, Any]], chosen: str) -> None:
    for variant, row in rows.items():
        said = row.get("fault") or (
            f"{row['kernels']:4} kernels {row['moved_mb']:7.2f} MB, {row['int8_nodes']:3} INT8, "
            f"AP50 lost {row['ap50_loss']:+.2f}"
        )
        mark = " <- chosen" if variant == chosen else ""
        print(f"{name:24} {variant:26} {said}{mark}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    args = parser.parse_args()
    figures = {
        name: {label: measure(name, args.data.resolve(), rules) for label, rules in RULES.items()}
        for name in args.models
    }
    if set(args.models) == set(MODELS):
        save_results("choice", figures, ["tensorrt-rtx-cu12"])
    # What the compiler refuses, or makes float of what was to be INT8.
    wrong = [
        f"{name}, {label}, {variant}: {row['fault']}"
        for name, sets in figures.items()
        for label, found in sets.items()
        for variant, row in found["variants"].items()
        if "fault" in row and not row["fault"].startswith("no node gains")
    ]
    print("\n".join(f"NOT held: {text}" for text in wrong) or "held")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
