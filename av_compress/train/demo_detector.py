# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Trains the demo detector on rendered drives, exports it, and measures it on other drives.

`python -m av_compress.train.demo_detector` writes detector.onnx and detector.card.json beside the
demo world; about half an hour on two cores. Everything is seeded; on another processor, sums in
another order give slightly other weights.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from av_compress.data.demo.camera import Camera, render
from av_compress.data.demo.world import make_world
from av_compress.engines.onnxruntime import OnnxRuntimeEngine
from av_compress.engines.pipeline import Pipeline
from av_compress.fileio import atomic_file, canonical_json, sha256_file, write_text
from av_compress.metrics.average_precision import DetectionAP, average_precision
from av_compress.progress import track
from av_compress.tasks.base import ImageFrame, Labels2D
from av_compress.tasks.camera_detection import CameraDetection
from av_compress.train.fit import Rows, fit
from av_compress.train.losses import detection_loss
from av_compress.train.network import DemoDetector, cell_grid
from av_compress.yamlfile import load_yaml

FOLDER = Path(__file__).parent.parent / "data" / "demo"
# Drives of the demo have seeds below 1000: the detector has seen none of them.
TRAINING_SEEDS = range(1000, 1064)
HELD_OUT_SEEDS = range(900, 908)
FRAME_STEP_S = 0.9


@dataclass(frozen=True)
class Samples:
    """Prepared frames and their labels.

    Attributes:
        images: uint8 [n, 3, h, w], pixels as the network's input has them.
        boxes: per frame, float32 [objects, 4] in pixels of the network's input.
        labels: per frame, int64 [objects].

    """

    images: npt.NDArray[np.uint8]
    boxes: Sequence[npt.NDArray[np.float32]]
    labels: Sequence[npt.NDArray[np.int64]]


def render_drive(seed: int, frames: int) -> list[tuple[ImageFrame, Labels2D]]:
    """Render the frames of a drive, `FRAME_STEP_S` apart."""
    world, camera = make_world(seed), Camera()
    found = []
    for number in range(frames):
        pixels, labels = render(world, number * FRAME_STEP_S, camera)
        found.append((ImageFrame(pixels, key=f"{seed}/{number}"), labels))
    return found


def prepare(task: CameraDetection, seeds: Sequence[int], frames: int) -> Samples:
    """Render drives and bring every frame to the network's input by the task's own preprocess."""
    with ProcessPoolExecutor() as pool:
        drives = pool.map(render_drive, seeds, [frames] * len(seeds))
        images, boxes, labels = [], [], []
        for drive in track(drives, "render", total=len(seeds)):
            for frame, truth in drive:
                tensor = task.preprocess(frame).tensors[task.settings.input.name][0]
                images.append(np.rint(tensor * 255).astype(np.uint8))
                # The camera's image is twice the network's input, without padding.
                scale = tensor.shape[2] / frame.width
                boxes.append((truth.boxes * scale).astype(np.float32))
                labels.append(truth.labels.astype(np.int64))
    return Samples(np.stack(images), boxes, labels)


def train(samples: Samples, classes: int, epochs: int, batch: int = 16) -> DemoDetector:
    """Train it; see `fit`."""
    torch.manual_seed(0)
    network = DemoDetector(classes)
    height, width = samples.images.shape[2:]
    grid = cell_grid(width, height)

    def loss_of(rows: Rows, rng: np.random.Generator) -> torch.Tensor:
        images, boxes, labels = _batch(samples, rows, rng)
        return detection_loss(network.raw(images), boxes, labels, grid)

    return fit(network, len(samples.images), loss_of, epochs, batch)


def _batch(
    samples: Samples, chosen: npt.NDArray[np.int64], rng: np.random.Generator
) -> tuple[torch.Tensor, list[torch.Tensor], list[torch.Tensor]]:
    images = torch.from_numpy(samples.images[chosen]).float() / 255
    boxes = [torch.from_numpy(samples.boxes[i]).clone() for i in chosen]
    labels = [torch.from_numpy(samples.labels[i]) for i in chosen]
    for number in range(len(chosen)):
        images[number] *= float(rng.uniform(0.75, 1.25))
        if rng.random() < 0.5:
            images[number] = images[number].flip(2)
            boxes[number][:, [0, 2]] = images.shape[3] - boxes[number][:, [2, 0]]
    return images.clamp(0, 1), boxes, labels


def export(network: DemoDetector, height: int, width: int, path: Path) -> None:
    """Write the network as ONNX."""
    with atomic_file(path) as temporary:
        # The older exporter needs no onnxscript, and its graph is what readers of opset 17 know.
        torch.onnx.export(
            network,
            (torch.zeros(1, 3, height, width),),
            str(temporary),
            input_names=["images"],
            output_names=["detections"],
            opset_version=17,
            dynamo=False,
        )


def measure(task: CameraDetection, model: Path, seeds: Sequence[int], frames: int) -> DetectionAP:
    """Measure COCO average precision on drives that training has not seen."""
    pipeline = Pipeline(task.with_score_threshold(0.01), OnnxRuntimeEngine(model))
    results, labels = [], []
    for seed in seeds:
        for frame, truth in render_drive(seed, frames):
            results.append(pipeline.process(frame).result)
            labels.append(truth)
    return average_precision(results, labels, task.class_names)


def card(task: CameraDetection, model: Path, accuracy: DetectionAP, frames: int) -> dict[str, Any]:
    """Say what the model is and how good."""
    return {
        "model": model.name,
        "sha256": sha256_file(model),
        "bytes": model.stat().st_size,
        "classes": list(task.class_names),
        "training_seeds": [TRAINING_SEEDS.start, TRAINING_SEEDS.stop],
        "held_out_seeds": [HELD_OUT_SEEDS.start, HELD_OUT_SEEDS.stop],
        "held_out_frames": frames,
        "ap50": round(accuracy.ap50, 4),
        "ap": round(accuracy.ap, 4),
        "ap50_per_class": {k: round(v.ap50, 4) for k, v in accuracy.per_class.items()},
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Train, export, measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--output", type=Path, default=FOLDER)
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--drives", type=int, default=len(TRAINING_SEEDS))
    parser.add_argument("--frames", type=int, default=36, help="frames of every drive")
    args = parser.parse_args(argv)
    config = load_yaml(FOLDER / "detector.task.yaml")
    task = CameraDetection.from_config(config)
    samples = prepare(task, TRAINING_SEEDS[: args.drives], args.frames)
    network = train(samples, len(task.class_names), args.epochs)
    model = args.output / "detector.onnx"
    height, width = samples.images.shape[2:]
    export(network, height, width, model)
    held_out = HELD_OUT_SEEDS[: max(1, args.drives // 8)]
    accuracy = measure(task, model, held_out, args.frames)
    content = card(task, model, accuracy, len(held_out) * args.frames)
    write_text(args.output / "detector.card.json", canonical_json(content))
    print(f"AP50 {accuracy.ap50:.3f}, AP {accuracy.ap:.3f} on {len(held_out)} held-out drives")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
