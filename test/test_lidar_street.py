# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Recorded street scans, without labels, all the way: what a model is told and what it finds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers_street import (
    INDOORS,
    STREET,
    Told,
    bag_clouds,
    ouster_clouds,
    pcd_clouds,
    recorded,
    street_bundle,
    street_task,
    told,
    without_doubtful,
)

from av_compress.cli.main import main
from av_compress.data.bags import bag_topics
from av_compress.data.ros_types import make_typestore, rosbags
from av_compress.engines.bundle import load_bundle
from av_compress.engines.onnxruntime import OnnxRuntimeEngine, OrtOptions
from av_compress.tasks.base import PointCloud
from av_compress.tasks.lidar_detection import LidarDetection

pytestmark = pytest.mark.shared_data

SOURCES = {
    "ouster": (ouster_clouds, 4),
    "nebula": (pcd_clouds, 3),
    STREET: (lambda data: bag_clouds(data, STREET), 5),
    INDOORS: (lambda data: bag_clouds(data, INDOORS), 4),
}


@pytest.fixture(params=SOURCES)
def clouds(request, shared_data: Path) -> list[PointCloud]:
    make, count = SOURCES[request.param]
    made = make(shared_data)
    assert len(made) == count
    return made


def assert_told(task: LidarDetection, cloud: PointCloud) -> Told:
    """Compare what the task makes of a cloud with the reference."""
    prepared, want = task.preprocess(cloud), told(cloud, task)
    counts, count = prepared.context.counts, len(want.places)
    assert (counts.voxels, counts.outside) == (count, want.outside)
    assert counts.surplus_points == want.surplus_points
    assert counts.surplus_voxel_points == want.surplus_voxel_points
    assert prepared.context.in_ego_box == want.in_ego_box
    voxels, places = (prepared.tensors[name] for name in ("voxels", "voxel_idxs"))
    assert len(voxels) == len(places) == task.settings.input.encoder.max_voxels
    np.testing.assert_array_equal(places[:count], want.places)
    np.testing.assert_allclose(voxels[:count], want.voxels, rtol=1e-6, atol=3e-5)
    # What is left repeats the last voxel.
    assert (voxels[count:] == voxels[count - 1]).all()
    assert (places[count:] == places[count - 1]).all()
    return want


@pytest.mark.parametrize("room", [12000, 40])
def test_a_model_is_told_what_the_reference_is(clouds, room):
    """Room for all voxels, and for so few that most points have none."""
    task = street_task(room)
    for cloud in clouds:
        want = assert_told(task, without_doubtful(cloud, task))
        assert (want.surplus_voxel_points > 0) == (room == 40)
        assert want.surplus_points > 0
        assert want.outside > 0


def test_every_point_is_accounted_for_and_nothing_leaves_the_range(clouds):
    task = street_task()
    grid = task.settings.input.grid
    for cloud in clouds:
        prepared = task.preprocess(cloud)
        counts, voxels = prepared.context.counts, prepared.tensors["voxels"][:12000]
        held = voxels[: counts.voxels]
        filled = (held != 0).any(axis=2)
        lost = counts.outside + counts.surplus_points + counts.surplus_voxel_points
        assert len(cloud) == filled.sum() + lost + prepared.context.in_ego_box
        assert np.isfinite(voxels).all()
        for axis in range(3):
            values = held[filled][:, axis]
            assert values.min() >= np.float32(grid.lower[axis])
            assert values.max() < np.float32(grid.upper[axis])
        assert held[..., 3].min() >= 0
        assert held[..., 3].max() <= 1
        # Half a cell, and what single precision makes of 70 m.
        assert np.abs(held[..., 7:9]).max() < 0.16 + 1e-4


def test_the_model_finds_what_it_finds_in_the_reference(clouds, shared_data: Path):
    model = recorded(shared_data / "lidar" / "tiny_e2e.onnx")
    task = street_task(padding="none")
    engine = OnnxRuntimeEngine(model, OrtOptions(intra_op_threads=1))
    task.check_model(engine.inputs, engine.outputs)
    boxes = 0
    for cloud in (without_doubtful(one, task) for one in clouds):
        prepared, want = task.preprocess(cloud), told(cloud, task)
        found = task.postprocess(engine.run(prepared.tensors).outputs, prepared.context)
        tensors = {"voxels": want.voxels.astype(np.float32), "voxel_idxs": want.places}
        other = task.postprocess(engine.run(tensors).outputs, prepared.context)
        assert len(found) == len(other)
        np.testing.assert_array_equal(found.labels, other.labels)
        np.testing.assert_allclose(found.boxes, other.boxes, atol=2e-2)
        np.testing.assert_allclose(found.scores, other.scores, atol=2e-3)
        assert_sane(found)
        boxes += len(found)
    assert boxes > 0


def assert_sane(found) -> None:
    assert np.isfinite(found.boxes).all()
    assert (found.scores >= 0.25).all()
    assert (found.scores <= 1).all()
    assert (np.diff(found.scores) <= 0).all()
    # A cell of the heatmap is 0.64 m.
    assert (found.boxes[:, 0] > -1.3).all()
    assert (found.boxes[:, 0] < 70.5).all()
    assert (np.abs(found.boxes[:, 1]) < 41).all()
    assert (found.boxes[:, 3:6] > 0.2).all()
    assert (found.boxes[:, 3:6] < 20).all()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory, shared_data: Path) -> Path:
    return street_bundle(tmp_path_factory.mktemp("street") / "bundle", shared_data)


@pytest.mark.parametrize("bag", [STREET, INDOORS])
def test_a_replay_yields_what_the_pipeline_does(bag, bundle: Path, tmp_path: Path, shared_data):
    clouds, pipeline = bag_clouds(shared_data, bag), load_bundle(bundle).open_pipeline()
    expected = [pipeline.process(cloud).result for cloud in clouds]
    pipeline.close()
    path, out, figures = shared_data / "bags" / bag, tmp_path / "out.mcap", tmp_path / "f.json"
    options = ["--bundle", str(bundle), "--reference", str(bundle), "--min-matched", "1"]
    outputs = ["--output", str(out), "--json", str(figures), "--report", str(tmp_path / "page")]
    assert main(["replay", str(path), *options, *outputs]) == 0
    content = json.loads(figures.read_text())
    assert len(content["frames"]) == len(clouds)
    topic = next(one.name for one in bag_topics(path))
    with rosbags("highlevel").AnyReader([out], default_typestore=make_typestore()) as reader:
        arrays = [
            reader.deserialize(data, connection.msgtype)
            for connection, _, data in reader.messages()
            if connection.msgtype.endswith("Detection3DArray")
        ]
    assert len(arrays) == len(clouds)
    for array, cloud, result in zip(arrays, clouds, expected):
        assert array.header.frame_id == cloud.frame_id
        assert array.header.stamp.sec * 10**9 + array.header.stamp.nanosec == cloud.stamp_ns
        have = [(d.bbox.center.position.x, d.bbox.center.position.y) for d in array.detections]
        np.testing.assert_allclose(np.reshape(have, (-1, 2)), result.boxes[:, :2], atol=1e-5)
    assert topic in (tmp_path / "page" / "report.html").read_text()
