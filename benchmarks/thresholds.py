# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""One method for the thresholds of all tensors, against the best for each.

    python benchmarks/thresholds.py [--data ../shared/data] [--models NAME ...]

Real detectors in the `tensorrt` form, channels centred and aligned, with every
convolution in INT8 and with 95 % of the multiply-accumulates (the same nodes spared for every
method, in the order of their sensitivity), weights rounded as a build does. `held_out` is what it
takes: with every centred input goes the threshold that lost least on samples it was not chosen by
(the others by MSE). Calibrated on the train images, judged on the val
images as in benchmarks/sampling.py. How much of a difference is chance is shown by thresholds by
MSE that are each raised by up to 3 %, at random (lowered, they would clip the zeros of centred
channels).
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from common import save_results
from fidelity import MODELS, ROOT, Detector
from sampling import OutputJudge

from av_compress.build.calibration import TRIAL_FRAMES
from av_compress.compress.emit.insertion import Ranges, symmetric_activation
from av_compress.compress.emit.quantize import quantize, tensors_to_observe, weight_grid
from av_compress.compress.observe.choose import choose_ranges
from av_compress.compress.observe.observers import HistogramObserver
from av_compress.compress.observe.statistics import ObserverRun, Statistics, Wanted
from av_compress.compress.observe.thresholds import ThresholdMethod, find_range
from av_compress.compress.plan.precision import Precision, PrecisionRules, make_plan
from av_compress.compress.refine.affine import migrated_input
from av_compress.compress.refine.insert import insert_affines
from av_compress.compress.refine.refine import (
    affines_of,
    choose_affines,
    layer_inputs,
    round_weights,
)
from av_compress.compress.refine.refinement import Refinement
from av_compress.compress.search.journal import Journal
from av_compress.compress.search.plan_search import affordable
from av_compress.compress.search.sensitivity import Trial, measure_sensitivity
from av_compress.data.sampling import stride
from av_compress.tensors import Tensors

EVERYTHING = PrecisionRules(
    base=Precision.FP32, first=True, prediction=True, migrate=True, gemv=True, min_channels=1
)
SHARES = (1.0, 0.95)
MOVED, SEEDS = 0.03, 6
SENSITIVITY_FRAMES = 6


def observe(detector: Detector, model: Any, wanted: Wanted, inputs: list[Tensors]) -> Statistics:
    run = ObserverRun(model, wanted, threads=1)
    for position, tensors in enumerate(inputs):
        run.observe(tensors, position)
    return run.statistics


def moved(ranges: Ranges, seed: int) -> Ranges:
    generator = np.random.default_rng(seed)
    factors = generator.uniform(1, 1 + MOVED, len(ranges))
    return {name: (low * f, high * f) for (name, (low, high)), f in zip(ranges.items(), factors)}


def methods(observers: Mapping[str, HistogramObserver]) -> dict[str, Ranges]:
    return {
        method.value: {name: find_range(seen, method) for name, seen in observers.items()}
        for method in ThresholdMethod
    }


def measure(name: str, data: Path) -> dict[str, Any]:
    detector = Detector.open(name, data)
    judge = OutputJudge(detector)
    inputs = list(detector.calibration())
    plan = make_plan(detector.model, EVERYTHING)
    names = plan.quantised()
    read = sorted(set(layer_inputs(detector.model, names).values()))
    kept = observe(detector, detector.model, Wanted(channels=tuple(read)), inputs)
    mapped = choose_affines(detector.model, names, kept.channels)
    affines = affines_of(mapped)
    model = insert_affines(detector.model, affines)
    grid = weight_grid(plan, "tensorrt")
    assert grid is not None
    rounded = round_weights(detector.model, affines, names, inputs, {"tensorrt": grid})
    tensors = tensors_to_observe(model, plan, "tensorrt")
    observers = observe(detector, model, Wanted(tensors), inputs).histograms
    started = time.perf_counter()
    trials = [inputs[place] for place in stride(len(inputs), TRIAL_FRAMES)]
    choices = choose_ranges(model, observers, trials, threads=1)
    seconds = time.perf_counter() - started
    tried = methods(observers)
    tried["best"] = {name: choice.range for name, choice in choices.items()}
    held_out = {migrated_input(n): (-c.threshold, c.threshold) for n, c in mapped.items()}
    tried["held_out"] = {**tried["mse"], **held_out}
    few = [inputs[place] for place in stride(len(inputs), SENSITIVITY_FRAMES)]
    trial = Trial(lambda kept: quantize(model, kept, tried["mse"], {}, "tensorrt"), few, None, "")
    ranking = measure_sensitivity(model, plan, trial, Journal(), "sensitivity")
    found: dict[str, Any] = {
        "seconds": round(seconds, 1),
        "tensors": len(choices),
        "chosen": dict(
            Counter(choice.method for choice in choices.values() if len(choice.errors) > 1)
        ),
        "error_alone": {
            "mse": sum(choice.errors["mse"] for choice in choices.values()),
            "best": sum(choice.errors[choice.method] for choice in choices.values()),
        },
        "shares": {},
    }
    for share in SHARES:
        spared = plan.spared(dict.fromkeys(affordable(plan, ranking, share), "dear"))

        def accuracy(ranges: Ranges, spared: Any = spared) -> dict[str, float]:
            snapped = {
                name: affine.snapped(symmetric_activation(*ranges[migrated_input(name)]).scale)
                for name, affine in affines.items()
            }
            refinement = Refinement(snapped, rounded["tensorrt"])
            refined = refinement.apply(detector.model, spared.quantised())
            return judge.measure(quantize(refined, spared, ranges, {}, "tensorrt"))

        rows = {method: accuracy(ranges) for method, ranges in tried.items()}
        chance = [accuracy(moved(tried["mse"], seed)) for seed in range(SEEDS)]
        figures = {
            "int8_mac_share": round(spared.int8_mac_share(), 4),
            "methods": rows,
            "chance": {
                key: [min(c[key] for c in chance), max(c[key] for c in chance)]
                for key in chance[0]
            },
        }
        found["shares"][f"{share:.2f}"] = figures
        show(name, figures)
    return found


def show(name: str, figures: Mapping[str, Any]) -> None:
    cells = [f"{m} {row['agreement_ap']:.2f}" for m, row in figures["methods"].items()]
    low, high = figures["chance"]["agreement_ap"]
    print(
        f"{name:24} {figures['int8_mac_share']:.1%} INT8, agreement AP: {', '.join(cells)}; "
        f"chance {low:.2f} to {high:.2f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    args = parser.parse_args()
    figures = {name: measure(name, args.data) for name in args.models}
    if tuple(args.models) == MODELS:
        save_results("thresholds", figures)


if __name__ == "__main__":
    main()
