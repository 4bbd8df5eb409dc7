# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Training of the demo detector: assignment and losses by hand, export against the network."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (extra: train)")

import onnxruntime as ort

from av_compress.data.demo.lidar import Lidar, as_cloud, sweep
from av_compress.data.demo.world import make_world
from av_compress.tasks.base import Labels3D, PointCloud
from av_compress.tasks.boxes3d import corners
from av_compress.tasks.lidar_detection import LidarDetection
from av_compress.tasks.lidar_detection.grid import Grid
from av_compress.train.demo_detector import export
from av_compress.train.demo_lidar_detector import (
    Sample,
    load_task,
    make_network,
    varied_sample,
    without_heading,
)
from av_compress.train.demo_lidar_detector import export as export_lidar
from av_compress.train.lidar_network import BOX_MAPS
from av_compress.train.lidar_targets import center_loss, make_targets
from av_compress.train.losses import assign, decode, detection_loss, overlap
from av_compress.train.network import DemoDetector, cell_grid


def test_cells_near_the_centre_of_their_size_answer():
    grid = cell_grid(64, 64)
    cells, owner = assign(torch.tensor([[18.0, 18.0, 30.0, 30.0]]), grid)
    # 12 pixels: stride 8; centre 24,24; cells whose centre is within 12 pixels of it.
    assert set(grid[cells, 2].tolist()) == {8.0}
    assert sorted(map(tuple, grid[cells, :2].int().tolist())) == [
        (x, y) for x in (2, 3) for y in (2, 3)
    ]
    assert owner.tolist() == [0] * 4


def test_overlap_by_hand():
    first = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 1.0, 1.0]])
    second = torch.tensor([[1.0, 0.0, 3.0, 2.0], [2.0, 0.0, 3.0, 1.0]])
    iou, giou = overlap(first, second)
    torch.testing.assert_close(iou, torch.tensor([2 / 6, 0.0]))
    torch.testing.assert_close(giou, torch.tensor([2 / 6, -1 / 3]))


def test_a_right_answer_costs_less_than_a_wrong_one():
    grid = cell_grid(64, 64)
    box = torch.tensor([[18.0, 18.0, 30.0, 30.0]])
    cells, _ = assign(box, grid)
    right = torch.zeros(1, len(grid), 6)
    right[..., 4] = -8
    right[0, cells, :2] = 24 / 8 - grid[cells, :2]
    right[0, cells, 2:4] = float(np.log(12 / 8))
    right[0, cells, 4:] = 8.0
    torch.testing.assert_close(decode(right[0, cells], grid[cells]), box.expand(len(cells), 4))
    wrong = right.clone()
    wrong[0, cells, 0] += 1
    label = [torch.tensor([0])]
    assert detection_loss(right, [box], label, grid) < 0.1
    assert detection_loss(wrong, [box], label, grid) > 1.0


def test_the_export_computes_what_the_network_does(tmp_path: Path):
    torch.manual_seed(0)
    network = DemoDetector(4).eval()
    export(network, 64, 96, tmp_path / "net.onnx")
    image = torch.rand(1, 3, 64, 96)
    session = ort.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    got = session.run(None, {"images": image.numpy()})[0]
    with torch.no_grad():
        np.testing.assert_allclose(got, network(image).numpy(), rtol=1e-3, atol=1e-5)


# Two rows and four columns of maps: x 0 .. 3.2 m, y -0.8 .. 0.8 m, cells of 0.8 m.
GRID = Grid((0.0, -0.8, -2.0), (3.2, 0.8, 2.0), (0.4, 0.4, 4.0))


def cloud_labels(*boxes: list[float], ignored: bool = False) -> Labels3D:
    return Labels3D(
        np.array(boxes, np.float32).reshape(-1, 7),
        np.zeros(len(boxes), np.int32),
        np.full(len(boxes), ignored),
    )


def test_targets_of_a_centre_head_by_hand():
    # Its centre lies a quarter into the third column, and halfway up the second row.
    box = [1.8, 0.4, -0.5, 2.0, 1.0, 1.5, np.pi / 2]
    targets = make_targets(cloud_labels(box), GRID, 2, 2)
    assert targets.cells.tolist() == [[1, 2]]
    logs = np.log([2.0, 1.0, 1.5])
    np.testing.assert_allclose(targets.boxes[0], [0.25, 0.5, -0.5, *logs, 1.0, 0.0], atol=1e-6)
    assert targets.heatmap.shape == (2, 2, 4)
    assert targets.heatmap[0, 1, 2] == 1.0
    np.testing.assert_allclose(targets.heatmap[0, 0, 3], np.exp(-2 / (2 * (5 / 6) ** 2)))
    assert targets.heatmap[1].max() == 0.0
    assert targets.counts.all()


def test_ignored_objects_and_those_out_of_range_teach_nothing():
    box = [1.8, 0.4, -0.5, 2.0, 1.0, 1.5, 0.0]
    ignored = make_targets(cloud_labels(box, ignored=True), GRID, 2, 1)
    assert ignored.heatmap.max() == 0.0
    assert len(ignored.cells) == len(ignored.boxes) == 0
    # All cells lie within two of it.
    assert not ignored.counts.any()
    outside = make_targets(cloud_labels([3.3, *box[1:]]), GRID, 2, 1)
    assert outside.heatmap.max() == 0.0
    assert outside.counts.all()


def test_right_maps_cost_nothing_and_the_task_decodes_them_to_the_boxes():
    boxes = [[1.8, 0.4, -0.5, 2.0, 1.0, 1.5, 2.0], [0.3, -0.3, 0.1, 0.5, 0.6, 1.7, -1.0]]
    targets = make_targets(cloud_labels(*boxes), GRID, 2, 1)
    maps = {name: torch.zeros(1, count, 2, 4) for name, count in BOX_MAPS.items()}
    heatmap = torch.full((1, 1, 2, 4), -12.0)
    for (row, column), wanted in zip(targets.cells, targets.boxes):
        heatmap[0, 0, row, column] = 12.0
        parts = torch.from_numpy(wanted).split(list(BOX_MAPS.values()))
        for name, part in zip(BOX_MAPS, parts):
            maps[name][0, :, row, column] = part
    maps["heatmap"] = heatmap
    assert center_loss(maps, [targets]) < 1e-4
    wrong = {**maps, "height": maps["height"] + 1.0}
    torch.testing.assert_close(
        center_loss(wrong, [targets]) - center_loss(maps, [targets]), torch.tensor(1.0)
    )
    config = {**load_task().config(), "class_names": ["car"]}
    config["input"].update(lower=GRID.lower, upper=GRID.upper, voxel_size=GRID.size)
    found = LidarDetection.from_config(_plain(config)).postprocess(
        {name: values.numpy() for name, values in maps.items()}, None
    )
    order = np.argsort(-found.boxes[:, 0])
    np.testing.assert_allclose(found.boxes[order], boxes, atol=1e-5)


def _plain(config):
    return json.loads(json.dumps(config))


def test_a_varied_cloud_keeps_its_points_in_its_boxes():
    box = np.array([[8.0, 3.0, -1.0, 4.0, 2.0, 1.5, 0.7]])
    labels = cloud_labels(*box.tolist())
    cloud = PointCloud(np.concatenate([corners(box)[0], np.zeros((4, 2))], 1).astype(np.float32))
    rng = np.random.default_rng(3)
    mirrored = set()
    for _ in range(8):
        varied = varied_sample(Sample(cloud, labels), rng)
        places = varied.cloud.points[:, :2].astype(np.float64)
        there = corners(varied.labels.boxes)[0]
        away = np.linalg.norm(places[:, None] - there[None], axis=2)
        np.testing.assert_allclose(away.min(axis=1), 0.0, atol=1e-5)
        mirrored.add(bool(varied.labels.boxes[0, 1] < 0))
    assert mirrored == {False, True}
    np.testing.assert_array_equal(labels.boxes, box.astype(np.float32))


def test_classes_without_a_heading_keep_their_footprints():
    yaws = [0.2, 3.0, -3.0, np.pi / 2, -1.5]
    labels = cloud_labels(*([1.0, 2.0, 0.0, 0.5, 0.7, 1.8, yaw] for yaw in yaws))
    folded = without_heading(labels, [True])
    expected = [0.2, 3.0 - np.pi, np.pi - 3.0, -np.pi / 2, -1.5]
    np.testing.assert_allclose(folded.boxes[:, 6], expected, atol=1e-6)
    np.testing.assert_array_equal(folded.boxes[:, :6], labels.boxes[:, :6])
    np.testing.assert_array_equal(without_heading(labels, [False]).boxes, labels.boxes)


def test_the_exported_lidar_detector_computes_what_the_network_does(tmp_path: Path):
    torch.manual_seed(0)
    task = load_task()
    network = make_network(task)
    points, _ = sweep(make_world(7), 3.0, Lidar())
    prepared = task.preprocess(as_cloud(points))
    inputs = {name: torch.from_numpy(values) for name, values in prepared.tensors.items()}
    # A step of training, so that normalisation is not the identity.
    network.maps(inputs["voxels"], inputs["indices"], 1)
    network.eval()
    with torch.no_grad():
        wanted = network(inputs["voxels"], inputs["indices"])
    export_lidar(network, task, tmp_path / "net.onnx")
    assert (tmp_path / "net.onnx").stat().st_size < 1_000_000
    session = ort.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    got = session.run(None, dict(prepared.tensors))
    assert [output.name for output in session.get_outputs()] == ["heatmap", *BOX_MAPS]
    for found, right in zip(got, wanted):
        np.testing.assert_allclose(found, right.numpy(), rtol=1e-3, atol=1e-4)
