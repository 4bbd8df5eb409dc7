# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The demo's two detectors: what each is built of, what it is shown, and how its answers look."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from av_compress.data.bags import BagClouds, BagImages
from av_compress.data.demo.drive import (
    IMAGE_TOPIC,
    POINTS_TOPIC,
    Drive,
    Truth,
    write_dataset,
    write_sweeps,
)
from av_compress.data.demo.kitti import write_kitti
from av_compress.data.demo.world import CLASSES
from av_compress.data.points import PointOptions
from av_compress.fileio import write_text
from av_compress.metrics.accuracy import accuracy_of
from av_compress.metrics.coco_protocol import DetectionAP
from av_compress.metrics.labels3d import ignore_outside
from av_compress.report.bev import View, annotate_cloud
from av_compress.report.pictures import annotate
from av_compress.tasks.base import Detections2D, Detections3D, Task

# Streets for calibration and gate; the drive's own seed is below 900, training's above 999.
CALIBRATION_SEEDS, GATE_SEEDS = range(910, 918), range(930, 938)
_EACH_S = 16.0
_BESIDE_M = 22.0

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Sensor:
    """A sensor of the demo's car and its detector.

    Attributes:
        name: in a word.
        node: the detector's.
        topic: of the drive.
        model: name of the packaged model, without its ending.
        prefix: of the names of its folders in the demo's.
        write: renders calibration and gate into the demo's folder; returns the recipe's sections.
        truths: of the drive's frames, in the world's classes.
        picture: draws the answer to frame `index`, and what is truly there.
        shows: what the picture shows besides detections, in a sentence; or nothing.

    """

    name: str
    node: str
    topic: str
    model: str
    prefix: str
    write: Callable[[Path], Mapping[str, Any]]
    truths: Callable[[Truth], Sequence[Any]]
    picture: Callable[[Path, int, Any, Any, Task[Any, Any]], Pixels]
    shows: str = ""

    def folder(self, output: Path, name: str) -> Path:
        """Return one of its folders in the demo's."""
        return output / f"{self.prefix}{name}"

    def write_recipe(self, output: Path) -> Path:
        """Render what the build needs, and write the recipe beside it."""
        package = resources.files("av_compress.data.demo")
        files = {"model": f"{self.model}.onnx", "task": f"{self.model}.task.yaml"}
        for name in files.values():
            (output / name).write_bytes((package / name).read_bytes())
        recipe = {"name": f"demo {self.name}", **files, **self.write(output)}
        path = output / f"{self.prefix}recipe.yaml"
        write_text(path, yaml.safe_dump(recipe, sort_keys=False))
        return path

    def labels(self, truth: Truth, task: Task[Any, Any]) -> list[Any]:
        """Return what is truly there, in the task's classes; out of its range is ignored."""
        accuracy = accuracy_of(task)
        found = [accuracy.in_classes(o, CLASSES, task.class_names) for o in self.truths(truth)]
        return [_within(labels, task) for labels in found]


def results(answers: Sequence[Mapping[str, Any]], task: Task[Any, Any]) -> list[Any]:
    """Return what a node published, as its task yields it."""
    kind, width = (Detections3D, 7) if task.result_type is Detections3D else (Detections2D, 4)
    found = []
    for answer in answers:
        detections = answer["detections"]
        found.append(
            kind(
                np.array([one["box"] for one in detections], np.float32).reshape(-1, width),
                np.array([one["score"] for one in detections], np.float32),
                np.array([one["label"] for one in detections], np.int32),
            )
        )
    return found


def accuracy(found: Sequence[Any], labels: Sequence[Any], task: Task[Any, Any]) -> DetectionAP:
    """Measure average precision of what was published."""
    return accuracy_of(task).on_labels(found, labels, task.class_names)


def _within(labels: Any, task: Task[Any, Any]) -> Any:
    wanted = task.config()["input"]
    return ignore_outside(labels, *_bounds(wanted)) if "voxel_size" in wanted else labels


def _bounds(wanted: Mapping[str, Any]) -> tuple[Sequence[float], Sequence[float]]:
    return wanted["lower"], wanted["upper"]


def _write_images(output: Path) -> Mapping[str, Any]:
    sections = {}
    for name, seeds in (("calibration", CALIBRATION_SEEDS), ("gate", GATE_SEEDS)):
        write_dataset([Drive(seed, _EACH_S, 0.5) for seed in seeds], output / name)
        source = {"type": "coco", "path": name, "annotations": f"{name}/annotations.json"}
        sections[name] = {"source": source, "samples": 64}
    sections["gate"].update({"metric": "ap50", "max_loss": 1.0})
    return sections


def _write_clouds(output: Path) -> Mapping[str, Any]:
    write_sweeps(
        [Drive(seed, _EACH_S, 0.25) for seed in CALIBRATION_SEEDS], output / "lidar_calibration"
    )
    write_kitti([Drive(seed, _EACH_S, 0.375) for seed in GATE_SEEDS], output / "lidar_gate")
    recorded = {"type": "bag", "path": "lidar_calibration", "topic": POINTS_TOPIC}
    labelled = {"type": "kitti", "path": "lidar_gate"}
    return {
        "calibration": {"source": recorded, "samples": 32},
        "gate": {"source": labelled, "samples": 48, "metric": "ap50", "max_loss": 1.0},
    }


def _image_picture(bag: Path, index: int, found: Any, _: Any, task: Task[Any, Any]) -> Pixels:
    with closing(BagImages(bag, IMAGE_TOPIC)) as source:
        frame = source.read(index)
    return annotate(frame, found, task.class_names)


def _cloud_picture(bag: Path, index: int, found: Any, labels: Any, task: Task[Any, Any]) -> Pixels:
    with closing(BagClouds(bag, POINTS_TOPIC, PointOptions(channels=4))) as source:
        cloud = source.read(index)
    lower, upper = _bounds(task.config()["input"])
    # Houses beside the street say where one is.
    view = View.of_range((lower[0], -_BESIDE_M), (upper[0], _BESIDE_M))
    return annotate_cloud(cloud, found, task.class_names, view, labels)


SENSORS = (
    Sensor(
        "camera",
        "camera_detector",
        IMAGE_TOPIC,
        "detector",
        "",
        _write_images,
        lambda truth: truth.images,
        _image_picture,
    ),
    Sensor(
        "LiDAR",
        "lidar_detector",
        POINTS_TOPIC,
        "lidar_detector",
        "lidar_",
        _write_clouds,
        lambda truth: truth.sweeps,
        _cloud_picture,
        " White: what is truly there; grey: what too few points hit, or is out of range.",
    ),
)
