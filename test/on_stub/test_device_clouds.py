# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Clouds that are divided on the device are served with the very results of the host's.

Stand-in for TensorRT, kernels by the host shim, real PyCUDA, stub of the driver.
"""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
from helpers_cuda_stub import Stub
from helpers_lidar_bundle import center_model, write_lidar_bundle
from helpers_trt_stub import install
from onnx import TensorProto, helper
from test_open_plan import as_form, compiled

from av_compress.engines.bundle import load_bundle
from av_compress.engines.device_pipeline import DevicePipeline
from av_compress.errors import EngineError, FrameError
from av_compress.tasks.base import PointCloud

VOXELS, POINTS, ROWS, COLUMNS = 40, 5, 16, 16
TASK = {
    "kind": "lidar_detection",
    "class_names": ["thing"],
    "input": {
        "lower": [0, -8, -2],
        "upper": [16, 8, 2],
        "voxel_size": [1, 1, 4],
        "ego_box": {"lower": [0, -1, -2], "upper": [2, 1, 2]},
        "intensity_scale": 0.5,
        "encoder": {
            "type": "voxels",
            "max_points": POINTS,
            "max_voxels": VOXELS,
            "padding": "repeat_last",
        },
    },
    "head": {
        "type": "center",
        "stride": 1,
        "outputs": {"heatmap": "heatmap", "reg": "reg"},
        "maps": {"reg": ["dx", "dy", "z", "log_length", "log_width", "log_height", "sin", "cos"]},
    },
    "score_threshold": 0.5,
    "nms": {"type": "none"},
}


def pillar_model(indices: int, width: int | None) -> bytes:
    """Serialise a model whose heatmap is the mean of each pillar's features."""
    cells = ROWS * COLUMNS
    shape = [VOXELS] if width is None else [VOXELS, width]
    nodes = [helper.make_node("ReduceMean", ["voxels", "axes"], ["means"], keepdims=0)]
    if width is None:
        nodes.append(helper.make_node("Unsqueeze", ["indices", "last"], ["places"]))
    else:
        nodes += [
            helper.make_node("Cast", ["indices"], ["wide"], to=TensorProto.INT64),
            helper.make_node("Mul", ["wide", "strides"], ["parts"]),
            helper.make_node("ReduceSum", ["parts", "last"], ["places"], keepdims=1),
        ]
    nodes += [
        helper.make_node("ScatterND", ["zeros", "places", "means"], ["flat"]),
        helper.make_node("Reshape", ["flat", "shape"], ["heatmap"]),
        helper.make_node("Mul", ["heatmap", "nothing"], ["none"]),
        helper.make_node("Add", ["none", "r"], ["reg"]),
    ]
    reg = np.zeros((1, 8, ROWS, COLUMNS), np.float32) + np.array(
        [0.5, 0.5, 0, 0, 0, 0, 0, 1], np.float32
    ).reshape(8, 1, 1)
    constants = {
        "axes": np.array([1, 2]),
        "last": np.array([1]),
        "strides": np.array([[0, COLUMNS, 1]]),
        "zeros": np.zeros(cells, np.float32),
        "shape": np.array([1, 1, ROWS, COLUMNS]),
        "nothing": np.zeros(1, np.float32),
        "r": reg,
    }
    inputs = [
        helper.make_tensor_value_info("voxels", TensorProto.FLOAT, [VOXELS, POINTS, 9]),
        helper.make_tensor_value_info("indices", indices, shape),
    ]
    return center_model(nodes, inputs, constants, (ROWS, COLUMNS), 18)


def bundle_of(root: Path, encoder: dict, model: bytes) -> Path:
    task = copy.deepcopy(TASK)
    task["input"]["encoder"] |= encoder
    return as_form(write_lidar_bundle(root, model, task), "tensorrt")


FORMS = {
    "linear": ({}, pillar_model(TensorProto.INT64, None)),
    "linear, zeros": ({"padding": "zeros"}, pillar_model(TensorProto.INT64, None)),
    "zyx": ({"index_form": "zyx", "index_dtype": "int32"}, pillar_model(TensorProto.INT32, 3)),
}


def clouds(count: int) -> list[PointCloud]:
    random = np.random.default_rng(11)
    made = []
    for index in range(count):
        points = random.uniform([-1, -9, -3, 0], [17, 9, 3, 9], (300 + 50 * index, 4))
        points[::17] = np.nan
        points[5::23, 3] = np.inf
        made.append(PointCloud(points.astype(np.float32), index, "lidar"))
    return [*made, PointCloud(np.zeros((0, 4), np.float32), 9, "lidar")]


@pytest.mark.parametrize("form", FORMS)
def test_device_and_host_agree(stub: Stub, tmp_path: Path, monkeypatch, form: str):
    install(monkeypatch, "10.3")
    root = bundle_of(tmp_path / "bundle", *FORMS[form])
    compiled(root, "tensorrt")
    bundle = load_bundle(root)
    device, host = (
        bundle.open_pipeline("tensorrt", preprocess=where) for where in ("device", "host")
    )
    assert isinstance(device, DevicePipeline)
    found = 0
    for cloud in clouds(6):
        (ours,) = device.process_all([cloud])
        (theirs,) = host.process_all([cloud])
        for name in ("boxes", "scores", "labels"):
            np.testing.assert_array_equal(getattr(ours.result, name), getattr(theirs.result, name))
        assert ours.context == theirs.context
        found += len(ours.result)
    assert found > 10
    assert ours.context.counts.voxels == 0
    with pytest.raises(FrameError, match="the task reads z"):
        device.process(PointCloud(np.zeros((4, 2), np.float32)))
    assert len(device.process(clouds(1)[0]).result)
    stub.clear()
    device.process(clouds(6)[3])
    assert not [name for name in stub.called() if "Alloc" in name or "Create" in name]
    device.close()
    host.close()


def test_what_the_device_cannot_make_is_told(stub: Stub, tmp_path: Path, monkeypatch):
    install(monkeypatch, "10.3")
    model = pillar_model(TensorProto.INT64, 3)
    root = bundle_of(tmp_path / "bundle", {"index_form": "zyx"}, model)
    compiled(root, "tensorrt")
    bundle = load_bundle(root)
    pipeline = bundle.open_pipeline("tensorrt")
    assert "preprocess on the host: int64 indices zyx" in pipeline.description
    assert len(pipeline.process(clouds(1)[0]).result)
    pipeline.close()
    with pytest.raises(EngineError, match="int64 indices zyx are not made on the device"):
        bundle.open_pipeline("tensorrt", preprocess="device")
