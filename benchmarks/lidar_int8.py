# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What INT8 costs a real LiDAR detector, on frames that its builds have not seen.

    python benchmarks/lidar_int8.py [--data ../shared/data] [--pairs 7] [--recipes NAME ...]

Eight frames of KITTI are cut in two halves. Each half calibrates a build (and chooses whatever is
chosen) that is judged on the other, so that the two cover all frames, each by a build that has not
seen it; and that for several ways to cut (every fifth of the 35, by default). Judged is the
artefact itself, every pair computed as it stands and every FP16 tensor rounded. Losses are FP32's
figure on the same frames less the build's, in points: by the metric of gates against FP32's own
detections over a score of 0.25 and against labels, and by KITTI's protocol at an overlap of 0.5 in
bird's eye view, with all objects that count as hard. The interval is that of 95 % of 200 draws
of one way to cut and eight frames, with replacement. With `--recipes`, others keep their figures.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from common import RESULTS, save_results
from fidelity import ROOT

from av_compress.build.basis import Basis, make_bases
from av_compress.build.gates import make_search_judge, measuring_pipeline, reference_pipeline
from av_compress.build.observing import DirectObserving
from av_compress.build.preparation import Preparation, precision_rules, prepare
from av_compress.build.recipe import Recipe, load_recipe
from av_compress.build.samples import SampleSet
from av_compress.build.search import Searcher
from av_compress.compress.emit.quantize import narrow_plan
from av_compress.compress.emit.simulate import simulate_half
from av_compress.compress.search.journal import Journal
from av_compress.data.content import content_sha256
from av_compress.data.kitti import KittiFolder
from av_compress.metrics.accuracy import InSpace
from av_compress.metrics.kitti import KittiRules, kitti_average_precision
from av_compress.metrics.shift import CONFIDENT_SCORE
from av_compress.tasks.base import Detections3D, Labels3D

FORM = "tensorrt"
# The convolutions at the plane's full resolution that cost most, and the branch that reads them.
FIRST = {"exclude": ["/r/b1/b1.[01]/*", "/r/u1/*"]}
RECIPES: Mapping[str, Mapping[str, Any]] = {
    "the rules alone": {},
    "migrate": {"precision": {"migrate": True}},
    "first block and its branch excluded": {"precision": FIRST},
    "the same, migrate": {"precision": {**FIRST, "migrate": True}},
    "the same, migrate and correct_bias": {
        "precision": {**FIRST, "migrate": True, "correct_bias": True}
    },
    "mixed, search: {min_int8_share: 0.8}": {"search": {"min_int8_share": 0.8}},
}
EVERY, DRAWS = 5, 200
OVERLAP = KittiRules({}, 0.5)
# What is wanted of one recipe: points lost at most, with at least this share in INT8.
WANTED_LOSS, WANTED_SHARE = 0.5, 0.8
GOALS = ("agreement_ap50", "ap50")

Half = tuple[int, ...]


def pairs_of(frames: int, every: int) -> list[tuple[Half, Half]]:
    """Return ways to cut frames in two halves."""
    firsts = [half for half in itertools.combinations(range(frames), frames // 2) if 0 in half]
    return [(half, others(half, frames)) for half in firsts[::every]]


def others(half: Half, frames: int) -> Half:
    return tuple(i for i in range(frames) if i not in half)


@dataclass(frozen=True)
class World:
    """The detector, its frames, and what FP32 sees in them."""

    preparation: Preparation
    source: KittiFolder
    hashes: Sequence[str]
    labels: Sequence[Labels3D]
    reference: Sequence[Detections3D]

    @staticmethod
    def open(data: Path, folder: Path) -> World:
        preparation = prepare(recipe_of({}, data, folder))
        source = KittiFolder(data / "lidar" / "kitti", "camera")
        task, frames = preparation.task, [source.read(i) for i in range(len(source))]
        names = task.class_names
        labels = [
            InSpace().in_classes(source.labels(i), source.class_names, names)
            for i in range(len(source))
        ]
        with closing(reference_pipeline(task, preparation.prepared.model)) as pipeline:
            reference = [pipeline.process(frame).result for frame in frames]
        return World(preparation, source, [content_sha256(f) for f in frames], labels, reference)

    def samples(self, half: Half) -> SampleSet:
        return SampleSet(self.source, half, "given", tuple(self.hashes[i] for i in half))

    def basis(self, recipe: Recipe, half: Half) -> Basis:
        """Calibrate on a half, and search there where the recipe says so."""
        task, model = self.preparation.task, self.preparation.prepared.model
        rules, samples = precision_rules(recipe, task), self.samples(half)
        basis = make_bases(recipe, model, rules, task, samples, DirectObserving())[FORM]
        if recipe.search is None or "mixed" not in recipe.candidates:
            return basis
        assert recipe.gate is not None
        with closing(reference_pipeline(task, model)) as reference:
            judge = make_search_judge(recipe.gate, samples, reference)
            searcher = Searcher(FORM, basis, recipe.search, task, judge, Journal())
            return replace(searcher, basis=searcher.measured()).search()

    def detect(self, basis: Basis, half: Half) -> list[Detections3D]:
        model = simulate_half(basis.emit(basis.plan, FORM))
        with closing(measuring_pipeline(self.preparation.task, model, exact=True)) as pipeline:
            return [pipeline.process(self.source.read(i)).result for i in half]

    def figures(self, results: Sequence[Detections3D], frames: Sequence[int]) -> dict[str, float]:
        """Judge the results of some frames, in points; `results` has one entry for each."""
        names, judge = self.preparation.task.class_names, InSpace()
        labels = [self.labels[i] for i in frames]
        against = judge.against(
            [self.reference[i] for i in frames], results, CONFIDENT_SCORE, names
        )
        kitti = kitti_average_precision(results, labels, names, OVERLAP)
        found = {
            "agreement_ap50": against.ap50,
            "agreement_ap": against.ap,
            "ap50": judge.on_labels(results, labels, names).ap50,
            "kitti_r40": kitti["hard"].bev,
        }
        return {name: 100 * value for name, value in found.items()}

    def losses(self, results: Sequence[Detections3D], frames: Sequence[int]) -> dict[str, float]:
        """Return what results lose against FP32 on the same frames; see `figures`."""
        reference = self.figures([self.reference[i] for i in frames], frames)
        return {n: reference[n] - value for n, value in self.figures(results, frames).items()}


def recipe_of(more: Mapping[str, Any], data: Path, folder: Path) -> Recipe:
    """Write and read a recipe; its samples are given by hand."""
    source = {"type": "kitti", "path": str(data / "lidar" / "kitti"), "view": "camera"}
    samples = {"source": source, "samples": 4}
    content = {
        "model": str(data / "lidar" / "tiny_e2e.onnx"),
        "task": yaml.safe_load((ROOT / "test/data/tasks/tiny_pillars.yaml").read_text()),
        "calibration": samples,
        "gate": {**samples, "max_loss": WANTED_LOSS},
        "candidates": ["mixed"] if "search" in more else ["int8"],
        "emitters": [FORM],
        **more,
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(content))
    return load_recipe(path)


def measure(world: World, recipe: Recipe, pairs: Sequence[tuple[Half, Half]]) -> dict[str, Any]:
    count = len(world.source)
    shares, by_split, pooled = [], [], []
    for pair in pairs:
        results: dict[int, Detections3D] = {}
        for half in pair:
            basis, judged = world.basis(recipe, half), others(half, count)
            plan = narrow_plan(basis.model, basis.plan, FORM)
            shares.append(plan.int8_mac_share())
            found = world.detect(basis, judged)
            by_split.append(world.losses(found, judged))
            results |= zip(judged, found)
        pooled.append([results[i] for i in range(count)])
    by_pair = [world.losses(results, range(count)) for results in pooled]
    return {
        "int8_mac_share": {"least": min(shares), "mean": float(np.mean(shares))},
        "pairs": statistics(by_pair),
        "splits": statistics(by_split),
        "interval": interval(world, pooled),
    }


def statistics(losses: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Return mean, spread and worst of losses."""
    found = {name: np.array([one[name] for one in losses]) for name in losses[0]}
    return {
        name: {
            "mean": round(float(values.mean()), 2),
            "deviation": round(float(values.std(ddof=1)), 2) if len(values) > 1 else 0.0,
            "worst": round(float(values.max()), 2),
        }
        for name, values in found.items()
    }


def interval(world: World, pooled: Sequence[Sequence[Detections3D]]) -> dict[str, list[float]]:
    """Return the 95 % interval of each loss over ways to cut and frames."""
    generator, count = np.random.default_rng(0), len(world.source)
    drawn = []
    while len(drawn) < DRAWS:
        results = pooled[generator.integers(len(pooled))]
        frames = [int(i) for i in generator.integers(0, count, count)]
        drawn.append(world.losses([results[i] for i in frames], frames))
    return {
        name: [
            round(float(v), 2) for v in np.percentile([one[name] for one in drawn], [2.5, 97.5])
        ]
        for name in drawn[0]
    }


def known(pairs: int) -> dict[str, Any]:
    """Return the recipes' figures of an earlier run with as many ways to cut."""
    path = RESULTS / "lidar_int8.json"
    if not path.exists():
        return {}
    figures = json.loads(path.read_text(encoding="utf-8"))["figures"]
    return dict(figures["recipes"]) if figures["pairs"] == pairs else {}


def show(name: str, found: Mapping[str, Any]) -> None:
    cells = [
        f"{metric} {one['mean']:.2f} +- {one['deviation']:.2f} (worst {one['worst']:.2f}, "
        f"{found['interval'][metric][0]:.2f} to {found['interval'][metric][1]:.2f})"
        for metric, one in found["pairs"].items()
    ]
    share = found["int8_mac_share"]
    print(
        f"{name} ({share['least']:.1%} in INT8 or more), lost: {'; '.join(cells)} "
        f"[{found['seconds']:.0f} s]",
        flush=True,
    )


def holds(found: Mapping[str, Any]) -> bool:
    """Tell whether a recipe holds what is wanted, on average over ways to cut."""
    lost = [found["pairs"][goal]["mean"] for goal in GOALS]
    return found["int8_mac_share"]["least"] >= WANTED_SHARE and max(lost) <= WANTED_LOSS


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--pairs", type=int, default=7, help="how many ways to cut")
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=list(RECIPES))
    args = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = args.data.resolve()
        world = World.open(data, folder)
        count = len(world.source)
        pairs = pairs_of(count, EVERY)[: args.pairs]
        measured: dict[str, Any] = {}
        for recipe in args.recipes:
            started = time.perf_counter()
            content = recipe_of(RECIPES[recipe], data, folder)
            found = measure(world, content, pairs)
            measured[recipe] = {**found, "seconds": round(time.perf_counter() - started, 1)}
            show(recipe, measured[recipe])
    if set(args.recipes) != set(RECIPES):
        measured = {**known(len(pairs)), **measured}
    figures = {
        "frames": count,
        "pairs": len(pairs),
        "detections": sum(int((one.scores > CONFIDENT_SCORE).sum()) for one in world.reference),
        "objects": sum(int(InSpace().counting(one).sum()) for one in world.labels),
        "fp32": {n: round(v, 2) for n, v in world.figures(world.reference, range(count)).items()},
        "recipes": {
            n: {**measured[n], "place": p} for p, n in enumerate(RECIPES) if n in measured
        },
    }
    save_results("lidar_int8", figures)
    held = [name for name, found in measured.items() if holds(found)]
    print(f"at most {WANTED_LOSS} points lost: {'; '.join(held) or 'NOT held by any'}")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
