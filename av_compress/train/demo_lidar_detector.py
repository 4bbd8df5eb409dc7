# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Trains the demo LiDAR detector on rendered sweeps, exports it, and measures it on other drives.

`python -m av_compress.train.demo_lidar_detector` writes lidar_detector.onnx and
lidar_detector.card.json beside the demo world; about half an hour on two cores. Everything is
seeded; on another processor, sums in another order give slightly other weights.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
import torch

from av_compress.data.demo.lidar import MIN_POINTS, Lidar, as_cloud, sweep
from av_compress.data.demo.world import CLASSES, make_world
from av_compress.engines.onnxruntime import OnnxRuntimeEngine
from av_compress.engines.pipeline import Pipeline
from av_compress.fileio import atomic_file, canonical_json, sha256_file, write_text
from av_compress.metrics.kitti import ALL, KittiAP, kitti_average_precision
from av_compress.metrics.labels3d import ignore_outside, map_labels_3d
from av_compress.metrics.nuscenes import NuscenesAP, nuscenes_average_precision
from av_compress.progress import track
from av_compress.tasks.base import Labels3D, PointCloud
from av_compress.tasks.lidar_detection import LidarDetection
from av_compress.train.demo_detector import FOLDER, HELD_OUT_SEEDS, TRAINING_SEEDS
from av_compress.train.fit import Rows, fit
from av_compress.train.lidar_network import BOX_MAPS, STRIDE, DemoLidarDetector
from av_compress.train.lidar_targets import Targets, center_loss, make_targets
from av_compress.yamlfile import load_yaml

NAME = "lidar_detector"
SWEEP_STEP_S = 1.8
# Training clouds are turned and stretched by up to so much, and every other one is mirrored.
_TURN_RAD, _STRETCH = 0.06, 0.05
# People look the same from ahead and from behind; a network that must guess answers the mean of
# both, which fits neither.
_ALIKE = ("pedestrian",)
# Elements from which on zeros are not written out.
_LARGE = 1024


@dataclass(frozen=True)
class Sample:
    """A cloud and what is in it, in the task's classes."""

    cloud: PointCloud
    labels: Labels3D


@dataclass(frozen=True)
class Accuracy:
    """Of a model on drives that training has not seen.

    Attributes:
        kitti: average precision by overlap.
        nuscenes: average precision by distance of centres, and errors.
        per_drive: seed -> KITTI's average precision in bird's eye view of this drive alone.
        clouds: how many were measured on.

    """

    kitti: KittiAP
    nuscenes: NuscenesAP
    per_drive: Mapping[int, float]
    clouds: int


def load_task() -> LidarDetection:
    """Return the demo's LiDAR task."""
    return LidarDetection.from_config(load_yaml(FOLDER / f"{NAME}.task.yaml"))


def render_sweeps(task: LidarDetection, seed: int, sweeps: int) -> list[Sample]:
    """Render the sweeps of a drive, `SWEEP_STEP_S` apart; objects out of range are ignored."""
    world, lidar, wanted = make_world(seed), Lidar(), task.settings.input
    found = []
    for number in range(sweeps):
        points, labels = sweep(world, number * SWEEP_STEP_S, lidar)
        known = map_labels_3d(labels, CLASSES, task.class_names)
        known = ignore_outside(known, wanted.lower, wanted.upper)
        found.append(Sample(as_cloud(points, f"{seed}/{number}"), known))
    return found


def render_drives(
    task: LidarDetection, seeds: Sequence[int], sweeps: int
) -> dict[int, list[Sample]]:
    """Render the sweeps of several drives: seed -> its sweeps."""
    count = len(seeds)
    with ProcessPoolExecutor() as pool:
        drives = pool.map(render_sweeps, [task] * count, seeds, [sweeps] * count)
        return dict(zip(seeds, track(drives, "render", total=count)))


def train(
    task: LidarDetection, samples: Sequence[Sample], epochs: int, batch: int = 4
) -> DemoLidarDetector:
    """Train it; see `fit`."""
    torch.manual_seed(0)
    network = make_network(task)

    def loss_of(rows: Rows, rng: np.random.Generator) -> torch.Tensor:
        chosen = [varied_sample(samples[row], rng) for row in rows]
        return center_loss(*_answers(network, task, chosen))

    return fit(network, len(samples), loss_of, epochs, batch)


def make_network(task: LidarDetection) -> DemoLidarDetector:
    """Make the network that fits the task, with random weights."""
    _, rows, columns = task.settings.input.grid.shape
    features = task.input_specs[0].shape[2]
    assert features is not None
    return DemoLidarDetector(len(task.class_names), features, (rows, columns))


def _answers(
    network: DemoLidarDetector, task: LidarDetection, samples: Sequence[Sample]
) -> tuple[dict[str, torch.Tensor], list[Targets]]:
    """Return the network's maps of several clouds, and what they should be."""
    voxels, places, targets = [], [], []
    grid, classes = task.settings.input.grid, len(task.class_names)
    _, rows, columns = grid.shape
    for number, sample in enumerate(samples):
        prepared = task.preprocess(sample.cloud)
        # Padding would weigh in batch normalisation.
        count = prepared.context.counts.voxels
        voxels.append(torch.from_numpy(prepared.tensors["voxels"][:count]))
        indices = torch.from_numpy(prepared.tensors["indices"][:count])
        places.append(indices + number * rows * columns)
        labels = without_heading(sample.labels, [n in _ALIKE for n in task.class_names])
        targets.append(make_targets(labels, grid, STRIDE, classes))
    maps = network.maps(torch.cat(voxels), torch.cat(places), len(samples))
    return maps, targets


def without_heading(labels: Labels3D, alike: Sequence[bool]) -> Labels3D:
    """Bring the yaws of some classes, by label, into [-pi/2, pi/2): front and back are one."""
    chosen = np.array(alike)[labels.labels]
    boxes = labels.boxes.copy()
    boxes[chosen, 6] = (boxes[chosen, 6] + np.pi / 2) % np.pi - np.pi / 2
    return replace(labels, boxes=boxes)


def varied_sample(sample: Sample, rng: np.random.Generator) -> Sample:
    """Turn and stretch a cloud a little with all that is in it, and mirror every other one."""
    turn, stretch = rng.uniform(-_TURN_RAD, _TURN_RAD), 1 + rng.uniform(-_STRETCH, _STRETCH)
    side = 1.0 if rng.random() < 0.5 else -1.0
    cos, sin = np.cos(turn) * stretch, np.sin(turn) * stretch
    matrix = np.array([[cos, -sin * side], [sin, cos * side]], np.float32)
    points, boxes = sample.cloud.points.copy(), sample.labels.boxes.copy()
    for places in (points, boxes):
        places[:, :2] = places[:, :2] @ matrix.T
        places[:, 2] *= np.float32(stretch)
    boxes[:, 3:6] *= np.float32(stretch)
    boxes[:, 6] = boxes[:, 6] * np.float32(side) + np.float32(turn)
    labels = replace(sample.labels, boxes=boxes)
    return Sample(replace(sample.cloud, points=points), labels)


def export(network: DemoLidarDetector, task: LidarDetection, path: Path) -> None:
    """Write the network as ONNX, for the number of voxels that the task pads to."""
    network.pillars.fuse()
    voxels, indices = task.input_specs
    example = (torch.zeros(*voxels.shape), torch.zeros(*indices.shape, dtype=torch.int64))
    with atomic_file(path) as temporary:
        # The older exporter needs no onnxscript, and its graph is what readers of opset 17 know.
        torch.onnx.export(
            network,
            example,
            str(temporary),
            input_names=[voxels.name, indices.name],
            output_names=["heatmap", *BOX_MAPS],
            opset_version=17,
            dynamo=False,
        )
        model = onnx.load(temporary)
        shorten_zeros(model)
        onnx.save(model, temporary)


def shorten_zeros(model: onnx.ModelProto) -> None:
    """Let large constants of zeros be filled when the model is loaded.

    The exporter writes the empty canvas into the file, value by value.
    """
    for node in list(model.graph.node):
        if node.op_type != "Constant":
            continue
        values = onnx.numpy_helper.to_array(node.attribute[0].t)
        if values.size < _LARGE or values.any():
            continue
        shape = onnx.numpy_helper.from_array(np.array(values.shape, np.int64))
        fill = onnx.numpy_helper.from_array(np.zeros(1, values.dtype))
        name = f"{node.output[0]}/shape"
        made = (
            onnx.helper.make_node("Constant", [], [name], value=shape),
            onnx.helper.make_node("ConstantOfShape", [name], [node.output[0]], value=fill),
        )
        place = list(model.graph.node).index(node)
        model.graph.node.remove(node)
        for offset, new in enumerate(made):
            model.graph.node.insert(place + offset, new)


def measure(task: LidarDetection, model: Path, drives: Mapping[int, Sequence[Sample]]) -> Accuracy:
    """Measure average precision as KITTI and as nuScenes has it.

    Args:
        task: of the model.
        model: ONNX file.
        drives: seed -> its sweeps.

    """
    pipeline = Pipeline(task.for_measuring(), OnnxRuntimeEngine(model))
    names, per_drive = task.class_names, {}
    results, labels = [], []
    for seed, samples in drives.items():
        found = [pipeline.process(sample.cloud).result for sample in samples]
        there = [sample.labels for sample in samples]
        per_drive[seed] = kitti_average_precision(found, there, names)[ALL].bev
        results += found
        labels += there
    kitti = kitti_average_precision(results, labels, names)[ALL]
    nuscenes = nuscenes_average_precision(results, labels, names)
    return Accuracy(kitti, nuscenes, per_drive, len(labels))


def card(task: LidarDetection, model: Path, accuracy: Accuracy) -> dict[str, Any]:
    """Say what the model is and how good."""
    kitti, nuscenes = accuracy.kitti, accuracy.nuscenes
    errors = nuscenes.errors
    assert errors is not None
    return {
        "model": model.name,
        "sha256": sha256_file(model),
        "bytes": model.stat().st_size,
        "classes": list(task.class_names),
        "data": f"sweeps of the demo world; objects of {MIN_POINTS} points or more",
        "without_heading": list(_ALIKE),
        "training_seeds": [TRAINING_SEEDS.start, TRAINING_SEEDS.stop],
        "held_out_seeds": [HELD_OUT_SEEDS.start, HELD_OUT_SEEDS.stop],
        "held_out_sweeps": accuracy.clouds,
        "sweep_step_s": SWEEP_STEP_S,
        "held_out_objects": {k: v.truths for k, v in kitti.per_class.items()},
        "kitti_ap_bev": round(kitti.bev, 4),
        "kitti_ap_3d": round(kitti.volume, 4),
        "kitti_ap_bev_per_drive": {str(k): round(v, 4) for k, v in accuracy.per_drive.items()},
        "kitti_ap_bev_per_class": {k: round(v.bev.r40, 4) for k, v in kitti.per_class.items()},
        "kitti_ap_3d_per_class": {k: round(v.volume.r40, 4) for k, v in kitti.per_class.items()},
        "kitti_iou": {k: v.iou for k, v in kitti.per_class.items()},
        "nuscenes_ap": round(nuscenes.ap, 4),
        "nuscenes_ap_per_class": {k: round(v.ap, 4) for k, v in nuscenes.per_class.items()},
        "translation_error_m": round(errors.translation, 4),
        "orientation_error_rad_per_class": {
            k: round(v.errors.orientation or 0.0, 4) for k, v in nuscenes.per_class.items()
        },
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Train, export, measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--output", type=Path, default=FOLDER)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--drives", type=int, default=len(TRAINING_SEEDS))
    parser.add_argument("--sweeps", type=int, default=16, help="sweeps of every drive")
    args = parser.parse_args(argv)
    task = load_task()
    drives = render_drives(task, TRAINING_SEEDS[: args.drives], args.sweeps)
    network = train(task, [sample for drive in drives.values() for sample in drive], args.epochs)
    model = args.output / f"{NAME}.onnx"
    export(network, task, model)
    held_out = HELD_OUT_SEEDS[: max(1, args.drives // 8)]
    accuracy = measure(task, model, render_drives(task, held_out, args.sweeps))
    write_text(args.output / f"{NAME}.card.json", canonical_json(card(task, model, accuracy)))
    print(
        f"AP {accuracy.kitti.bev:.3f} (KITTI, bird's eye view), {accuracy.kitti.volume:.3f} (3D), "
        f"{accuracy.nuscenes.ap:.3f} (nuScenes) on {accuracy.clouds} held-out sweeps"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
