# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The demo's LiDAR detector is what its card says, on drives that it was not trained on."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import numpy as np
import onnx
import pytest

from av_compress.data.demo.lidar import Lidar, as_cloud, sweep
from av_compress.data.demo.world import CLASSES, make_world
from av_compress.engines.onnxruntime import OnnxRuntimeEngine
from av_compress.engines.pipeline import Pipeline
from av_compress.fileio import sha256_file
from av_compress.metrics.kitti import ALL, kitti_average_precision
from av_compress.metrics.labels3d import ignore_outside, map_labels_3d
from av_compress.tasks.base import PointCloud
from av_compress.tasks.lidar_detection import LidarDetection
from av_compress.yamlfile import load_yaml

FOLDER = Path(str(resources.files("av_compress.data.demo")))
MODEL = FOLDER / "lidar_detector.onnx"
CARD = json.loads((FOLDER / "lidar_detector.card.json").read_text())
# Sums in another order give slightly other scores, on which AP depends in steps.
TOLERANCE = 0.01


@pytest.fixture(scope="module")
def task() -> LidarDetection:
    return LidarDetection.from_config(load_yaml(FOLDER / "lidar_detector.task.yaml"))


@pytest.fixture(scope="module")
def pipeline(task: LidarDetection) -> Pipeline:
    return Pipeline(task.for_measuring(), OnnxRuntimeEngine(MODEL))


def test_the_card_is_that_of_the_model():
    assert CARD["sha256"] == sha256_file(MODEL)
    assert CARD["bytes"] == MODEL.stat().st_size < 1_000_000
    (opset,) = onnx.load(MODEL).opset_import
    assert opset.version >= 17
    training, held_out = range(*CARD["training_seeds"]), range(*CARD["held_out_seeds"])
    assert not set(training) & set(held_out)
    # Streets of the demo itself and of its calibration and gate.
    assert not set(training) & {*range(900), *range(910, 918), *range(930, 938)}


@pytest.mark.parametrize("seed", ["900", "905"])
def test_a_held_out_drive_reaches_the_cards_figure(
    seed: str, task: LidarDetection, pipeline: Pipeline
):
    sweeps = CARD["held_out_sweeps"] // len(range(*CARD["held_out_seeds"]))
    wanted, world = task.settings.input, make_world(int(seed))
    results, labels = [], []
    for number in range(sweeps):
        points, there = sweep(world, number * CARD["sweep_step_s"], Lidar())
        results.append(pipeline.process(as_cloud(points)).result)
        mapped = map_labels_3d(there, CLASSES, task.class_names)
        labels.append(ignore_outside(mapped, wanted.lower, wanted.upper))
    found = kitti_average_precision(results, labels, task.class_names)[ALL].bev
    assert found == pytest.approx(CARD["kitti_ap_bev_per_drive"][seed], abs=TOLERANCE)


def test_the_order_of_points_hardly_matters(task: LidarDetection, pipeline: Pipeline):
    cloud = as_cloud(sweep(make_world(901), 4.0, Lidar())[0])
    kept = pipeline.process(cloud).result
    order = np.random.default_rng(0).permutation(len(cloud))
    mixed = pipeline.process(PointCloud(cloud.points[order])).result
    sure, again = (one.boxes[one.scores > 0.6, :2] for one in (kept, mixed))
    assert len(sure) > 5
    away = np.linalg.norm(sure[:, None] - mixed.boxes[None, :, :2], axis=2)
    assert np.median(away.min(axis=1)) < 0.1
    assert abs(len(sure) - len(again)) <= 3


@pytest.mark.parametrize("points", [np.zeros((0, 4)), np.full((5, 4), 500.0)])
def test_a_cloud_without_a_point_in_range_gives_nothing(pipeline: Pipeline, points: np.ndarray):
    assert len(pipeline.process(PointCloud(points.astype(np.float32))).result) == 0


@pytest.mark.parametrize("seconds", [0.0, 9.0, 25.0])
def test_sweeps_have_what_the_task_asks_for(task: LidarDetection, seconds: float):
    cloud = as_cloud(sweep(make_world(3), seconds, Lidar())[0])
    assert cloud.points.shape[1] == len(task.point_columns)
    intensity = cloud.points[:, 3] * task.settings.input.intensity_scale
    assert 0.0 <= intensity.min() < 0.1 < intensity.max() <= 1.0 + 1e-6
    counts = task.preprocess(cloud).context.counts
    assert counts.surplus_voxel_points == 0
    assert counts.voxels > 1500
