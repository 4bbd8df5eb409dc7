# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The task on a real LiDAR detector: recorded detections, of one graph and of two parts."""

import json
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest

from av_compress.compress.join import join_pillar_model
from av_compress.engines.onnxruntime import OnnxRuntimeEngine, OrtOptions
from av_compress.tasks.base import PointCloud
from av_compress.tasks.lidar_detection import LidarDetection

pytestmark = pytest.mark.shared_data

# The recorded detections are all of at least 0.1; none is cut off by their number.
CONFIG = {
    "kind": "lidar_detection",
    "class_names": ["car", "pedestrian", "cyclist"],
    "input": {
        "lower": [0, -39.68, -3],
        "upper": [69.12, 39.68, 1],
        "voxel_size": [0.32, 0.32, 4],
        "encoder": {
            "type": "voxels",
            "max_points": 20,
            "tensors": {"indices": "voxel_idxs"},
        },
    },
    "head": {
        "type": "center",
        "stride": 2,
        "activation": "none",
        "maps": {"reg": ["dx", "dy", "z", "log_length", "log_width", "log_height", "sin", "cos"]},
    },
    "score_threshold": 0.1,
    "nms": {"type": "rotated", "iou_threshold": 0.2},
}
ROOM = {"fov": 12000, "full": 20000}


def task_of(kind, **encoder):
    config = json.loads(json.dumps(CONFIG))
    config["input"]["encoder"] |= {"max_voxels": ROOM[kind], **encoder}
    return LidarDetection.from_config(config)


@cache
def engine_of(folder: Path, form: str) -> OnnxRuntimeEngine:
    options = OrtOptions(intra_op_threads=1)
    if form == "one":
        return OnnxRuntimeEngine(folder / "tiny_e2e.onnx", options)
    parts = [onnx.load(folder / f"tiny_{part}.onnx") for part in ("pfe", "rpn")]
    joined = join_pillar_model(*parts, task_of("full").settings.input.grid, "voxel_idxs")
    return OnnxRuntimeEngine(joined.SerializeToString(), options)


def seen_by_the_camera(points, folder, name):
    """Keep the points that KITTI's calibration puts into the left colour image."""
    lines = (folder / "kitti" / "calib" / f"{name}.txt").read_text().splitlines()
    values = {
        key: np.array(rest.split(), float)
        for key, _, rest in (line.partition(":") for line in lines if ":" in line)
    }
    height, width = cv2.imread(str(folder / "kitti" / "image_2" / f"{name}.png")).shape[:2]
    ahead = np.c_[points[:, :3], np.ones(len(points))] @ values["Tr_velo_to_cam"].reshape(3, 4).T
    turned = ahead @ values["R0_rect"].reshape(3, 3).T
    u, v, depth = (np.c_[turned, np.ones(len(points))] @ values["P2"].reshape(3, 4).T).T
    u, v = u / depth, v / depth
    return points[(depth > 0) & (u >= 0) & (u < width) & (v >= 0) & (v < height)]


def clouds(folder, kind):
    recorded = json.loads((folder / f"tiny_reference_detections_{kind}.json").read_text())
    for name, rows in recorded.items():
        file = folder / "kitti" / "velodyne" / f"{name}.bin"
        points = np.fromfile(file, np.float32).reshape(-1, 4)
        if kind == "fov":
            points = seen_by_the_camera(points, folder, name)
        yield PointCloud(points, key=name), np.array(rows).reshape(-1, 9)


def assert_recorded(found, want, name):
    """Compare boxes class by class, each with the nearest; numbers are recorded with 4 digits."""
    assert len(found) == len(want), name
    for label in range(3):
        mine, theirs = found.labels == label, want[:, 8] == label
        have = np.c_[found.boxes[mine], found.scores[mine]]
        rows = want[theirs, :8]
        distance = np.abs(have[:, None, :2] - rows[None, :, :2]).max(axis=2)
        nearest = distance.argmin(axis=1)
        assert sorted(nearest) == list(range(len(rows))), name
        rows = rows[nearest]
        np.testing.assert_allclose(have[:, :3], rows[:, :3], atol=2e-3)
        np.testing.assert_allclose(have[:, 3:6], rows[:, 3:6], atol=2e-3)
        turn = have[:, 6] - rows[:, 6]
        np.testing.assert_allclose(np.arctan2(np.sin(turn), np.cos(turn)), 0, atol=5e-3)
        np.testing.assert_allclose(have[:, 7], rows[:, 7], atol=1e-3)


@pytest.mark.parametrize("form", ["one", "two"])
@pytest.mark.parametrize("kind", ["fov", "full"])
def test_recorded_detections_are_reproduced(kind, form, shared_data):
    folder = shared_data / "lidar"
    task, engine = task_of(kind), engine_of(folder, form)
    task.check_model(engine.inputs, engine.outputs)
    compared = 0
    for cloud, want in clouds(folder, kind):
        prepared = task.preprocess(cloud)
        found = task.postprocess(engine.run(prepared.tensors).outputs, prepared.context)
        assert_recorded(found, want, cloud.key)
        compared += len(want)
    assert compared > 300


def test_a_fixed_number_of_voxels_gives_the_same(shared_data):
    """The last voxel again, up to the most, changes nothing."""
    folder = shared_data / "lidar"
    engine = engine_of(folder, "one")
    open_task, fixed = task_of("full"), task_of("full", padding="repeat_last")
    cloud, _ = next(clouds(folder, "full"))
    results = []
    for task in (open_task, fixed):
        prepared = task.preprocess(cloud)
        results.append(task.postprocess(engine.run(prepared.tensors).outputs, prepared.context))
    assert len(prepared.tensors["voxels"]) == 20000
    np.testing.assert_allclose(results[0].boxes, results[1].boxes, atol=1e-4)


def test_an_empty_cloud_has_no_detections(shared_data):
    folder = shared_data / "lidar"
    for form in ("one", "two"):
        task, engine = task_of("full"), engine_of(folder, form)
        prepared = task.preprocess(PointCloud(np.zeros((0, 4), np.float32)))
        found = task.postprocess(engine.run(prepared.tensors).outputs, prepared.context)
        assert len(found) == 0
