# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Speed and accuracy of the `cpu` form on one thread, against other runtimes and quantisers.

    python benchmarks/cpu_peers.py [--data ../shared/data] [--models NAME ...] [--rounds 30]

The forms are built by `av-compress build`, by the default rules and by a search that may use every
convolution. Peers: ONNX Runtime on the FP32 model as exported and on what its quantize_static
makes (unsigned activations, 7-bit weights), OpenVINO on the FP32 model and on what NNCF makes of
it. Each contestant runs in a process of its own, in the environments of peers.py; in every round
each takes its turn, and a ratio is that of one round, so that a machine whose speed drifts is fair
to all. Calibrated on the train images, judged on the val images; the YOLOv8n-like network has
random weights: there only speed means something.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
import onnx
import yaml
from common import save_results
from fidelity import MODELS, ROOT, Detector, Judge
from models import yolov8n_like
from peer_tools.environments import (
    CACHE,
    REQUIREMENTS,
    Environment,
    PeerError,
    last_words,
    open_driver,
    store_inputs,
)

from av_compress.engines.bundle import load_bundle
from av_compress.tasks.base import ImageFrame
from av_compress.tasks.camera_detection import CameraDetection

SYNTHETIC = "yolov8n_like"
SYNTHETIC_TASK = {
    "kind": "camera_detection",
    "class_names": "coco",
    "input": {"name": "images", "width": 640, "height": 640, "std": [255, 255, 255]},
    "head": {"type": "yolov8"},
}
SYNTHETIC_IMAGES = 8
WANTED_RATIO = 1.5
# Runs of a turn, after one that does not count.
BURST = 3
LABELS = {
    "onnxruntime_fp32": "ONNX Runtime, FP32",
    "ours_rules": "`cpu` form, default rules",
    "ours_search": "`cpu` form, searched",
    "onnxruntime_u8s8": "ONNX Runtime `quantize_static`, U8S8",
    "openvino_fp32": "OpenVINO, FP32",
    "openvino_nncf_performance": "OpenVINO, NNCF performance",
    "openvino_nncf_mixed": "OpenVINO, NNCF mixed",
}
# Runtime or quantiser -> where it is installed.
ENVIRONMENTS = {"onnxruntime": "onnxruntime", "openvino": "nncf"}
EVERYTHING = {"first": True, "prediction": True, "min_channels": 1}


@dataclass(frozen=True)
class Case:
    """A model to measure on.

    Attributes:
        name: of the model.
        source: the FP32 model as exported; `calibration.npz` and `inputs.npz` lie beside it.
        recipes: contestant -> recipe of its build.
        detector: with its images; None for the network with random weights.

    """

    name: str
    source: Path
    recipes: Mapping[str, Mapping[str, Any]]
    detector: Detector | None

    @property
    def folder(self) -> Path:
        return self.source.parent


def picture(size: int, seed: int) -> np.ndarray:
    """Return uint8 [size, size, 3]: smooth structure with noise, as photographs have."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0, 255, (size // 32, size // 32, 3))
    smooth = coarse.repeat(32, axis=0).repeat(32, axis=1)
    return np.clip(smooth + rng.normal(0, 12, smooth.shape), 0, 255).astype(np.uint8)


def synthetic_case(folder: Path) -> Case:
    size, images = SYNTHETIC_TASK["input"]["width"], folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    task, inputs = CameraDetection.from_config(SYNTHETIC_TASK), []
    for seed in range(SYNTHETIC_IMAGES):
        pixels = picture(size, seed)
        cv2.imwrite(str(images / f"{seed}.png"), pixels)
        inputs.append(task.preprocess(ImageFrame(pixels)).tensors)
    source = folder / f"{SYNTHETIC}.onnx"
    onnx.save(yolov8n_like(size), source)
    store_inputs(folder / "calibration.npz", inputs)
    store_inputs(folder / "inputs.npz", inputs[:1])
    calibration = {"source": {"type": "images", "path": "images"}, "samples": SYNTHETIC_IMAGES}
    recipe = {
        "model": source.name,
        "task": SYNTHETIC_TASK,
        "calibration": calibration,
        "gate": None,
        "emitters": ["cpu"],
    }
    return Case(SYNTHETIC, source, {"ours_rules": recipe}, None)


def detector_case(name: str, data: Path, folder: Path) -> Case:
    detector, camera = Detector.open(name, data), data.resolve() / "camera"
    store_inputs(folder / "calibration.npz", list(detector.calibration()))
    frames = [*frames_of(detector)]
    store_inputs(
        folder / "inputs.npz", [detector.task.preprocess(frame).tensors for frame in frames]
    )
    source = folder / f"{name}.onnx"
    source.write_bytes((camera / f"{name}.onnx").read_bytes())
    coco = camera / "coco"
    train, val = (
        {"type": "coco", "path": str(coco), "annotations": f"{coco}/instances_{split}2017.json"}
        for split in ("train", "val")
    )
    rules = {
        "model": source.name,
        "task": yaml.safe_load((ROOT / "test/data/tasks" / f"{name}.yaml").read_text()),
        "calibration": {"source": train, "samples": len(detector.train), "sampling": "stride"},
        "gate": None,
        "emitters": ["cpu"],
    }
    gate = {"source": val, "samples": len(detector.val), "sampling": "stride"}
    search = {
        **rules,
        "gate": {**gate, "metric": "agreement_ap50", "max_loss": 5.0},
        "precision": EVERYTHING,
        "search": {},
    }
    return Case(name, source, {"ours_rules": rules, "ours_search": search}, detector)


def frames_of(detector: Detector) -> list[ImageFrame]:
    """Return the val frames, then the train frames, as the judge wants them."""
    sources = (detector.val, detector.train)
    return [source.read(index) for source in sources for index in range(len(source))]


def build(case: Case, contestant: str) -> tuple[Path, dict[str, Any]]:
    """Build one of our forms; return its model and what the manifest says of it."""
    recipe, output = case.folder / f"{contestant}.yaml", case.folder / contestant
    recipe.write_text(yaml.safe_dump(dict(case.recipes[contestant])), encoding="utf-8")
    command = [sys.executable, "-m", "av_compress", "build", str(recipe), "--output", str(output)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise PeerError(last_words(done.stderr).replace(str(case.folder), "..."))
    bundle = load_bundle(output)
    share = bundle.record("cpu").int8_mac_share
    return bundle.artefact("cpu"), {"int8_mac_share": round(share, 4)}


def drive(case: Case, peer: str, output: Path, options: Mapping[str, Any]) -> Path:
    """Let a peer quantise the model; return what it wrote."""
    written = output.with_suffix(".json")
    written.write_text(json.dumps(dict(options)), encoding="utf-8")
    source = case.source
    if peer == "onnxruntime" and case.detector is not None:
        # It writes invalid graphs from opset 11.
        source = case.folder / "prepared.onnx"
        onnx.save(case.detector.model, source)
    calibration = case.folder / "calibration.npz"
    arguments = [str(source), str(calibration), str(output), str(written)]
    log = output.with_suffix(".log")
    with open_driver(Environment(ENVIRONMENTS[peer]), f"drive_{peer}.py", arguments, log):
        pass
    return output


def make(case: Case, contestant: str) -> tuple[str, Path, dict[str, Any]]:
    """Return a contestant's runtime, its model, and what is known of it.

    Raises:
        PeerError: it cannot be made.

    """
    if contestant in case.recipes:
        path, known = build(case, contestant)
        return "onnxruntime", path, known
    if contestant == "onnxruntime_u8s8":
        options = {"activations": "uint8", "reduce_range": True, "method": "MinMax"}
        path = drive(case, "onnxruntime", case.folder / f"{contestant}.onnx", options)
        return "onnxruntime", path, {}
    if contestant.startswith("openvino_nncf"):
        preset = {"preset": contestant.removeprefix("openvino_nncf_")}
        path = drive(case, "openvino", case.folder / f"{contestant}.xml", preset)
        return "openvino", path, {}
    return contestant.removesuffix("_fp32"), case.source, {}


class Contestant:
    """A model that is served by a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def ask(self, command: str) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(command, file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline().strip()
        if not answer:
            raise PeerError(f"no answer to '{command.split(maxsplit=1)[0]}'")
        return answer

    def time(self) -> float:
        return float(self.ask(f"time {BURST}"))

    def outputs(self, path: Path) -> Mapping[str, np.ndarray]:
        self.ask(f"outputs {path}")
        with np.load(path) as stored:
            return {name: stored[name] for name in stored.files}


def judge(
    detector: Detector, outputs: Mapping[str, Mapping[str, np.ndarray]]
) -> dict[str, dict[str, float]]:
    """Measure what contestants found, against the labels and the FP32 model."""
    frames = frames_of(detector)
    contexts = [detector.task.preprocess(frame).context for frame in frames]
    results = {
        contestant: [
            detector.task.postprocess({name: array[i] for name, array in found.items()}, context)
            for i, context in enumerate(contexts)
        ]
        for contestant, found in outputs.items()
    }
    judged = Judge(detector, results["onnxruntime_fp32"])
    return {contestant: judged.measure(found) for contestant, found in results.items()}


def measure(case: Case, rounds: int) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    with ExitStack() as stack:
        opened = {}
        for contestant in LABELS:
            if contestant.startswith("ours") and contestant not in case.recipes:
                continue
            try:
                runtime, path, known = make(case, contestant)
            except PeerError as error:
                figures[contestant] = {"failed": str(error)}
                continue
            environment = Environment(ENVIRONMENTS[runtime])
            arguments = [runtime, str(path), str(case.folder / "inputs.npz")]
            log = case.folder / f"{contestant}.serve.log"
            process = stack.enter_context(open_driver(environment, "serve.py", arguments, log))
            opened[contestant] = Contestant(process)
            figures[contestant] = known
        taken = [{name: one.time() for name, one in opened.items()} for _ in range(rounds)]
        outputs = {
            name: one.outputs(case.folder / f"{name}.outputs.npz") for name, one in opened.items()
        }
    for name in opened:
        ratios = [turn["onnxruntime_fp32"] / turn[name] for turn in taken]
        figures[name]["median_ms"] = round(median(turn[name] for turn in taken), 2)
        figures[name]["speed_of_fp32"] = round(median(ratios), 3)
    if case.detector is not None:
        for name, row in judge(case.detector, outputs).items():
            figures[name].update(row)
    return {name: {"label": LABELS[name], **row} for name, row in figures.items()}


def show(name: str, figures: Mapping[str, Mapping[str, Any]]) -> None:
    for row in figures.values():
        shown = f"{name:22} {row['label']:38}"
        if "failed" in row:
            print(f"{shown} {row['failed']}", flush=True)
            continue
        shown += f" {row['median_ms']:8.2f} ms, {row['speed_of_fp32']:5.2f} x"
        if "int8_mac_share" in row:
            shown += f", {row['int8_mac_share']:6.1%} INT8"
        if "ap50" in row:
            shown += f", AP50 {row['ap50']:.2f}, agreement "
            shown += f"{row['agreement_ap50']:.2f} / {row['agreement_ap']:.2f}"
        print(shown, flush=True)


def fastest(figures: Mapping[str, Mapping[str, Any]]) -> float:
    """Return the best speed of our forms, FP32 = 1."""
    return max(row.get("speed_of_fp32", 0.0) for name, row in figures.items() if "ours" in name)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    everything = (SYNTHETIC, *MODELS)
    parser.add_argument("--models", nargs="+", choices=everything, default=everything)
    parser.add_argument("--rounds", type=int, default=30, help="turns of each contestant")
    args = parser.parse_args()
    models = {}
    for name in args.models:
        folder = CACHE / "cpu" / name
        folder.mkdir(parents=True, exist_ok=True)
        synthetic = name == SYNTHETIC
        case = synthetic_case(folder) if synthetic else detector_case(name, args.data, folder)
        models[name] = measure(case, args.rounds)
        show(name, models[name])
    figures = {"rounds": args.rounds, "threads": 1, "packages": REQUIREMENTS, "models": models}
    if tuple(args.models) == everything:
        save_results("cpu_peers", figures)
    missed = [name for name, found in models.items() if fastest(found) < WANTED_RATIO]
    print(f"{WANTED_RATIO} x FP32: {'NOT on ' + ', '.join(missed) if missed else 'held'}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
