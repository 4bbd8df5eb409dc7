# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""lidar_detector with several sweeps on the real middleware: motion, clock or frame may fail."""

from __future__ import annotations

from pathlib import Path

import helpers_node
import numpy as np
import pytest
from helpers_camera_node import probe, ros  # noqa: F401 (fixtures)
from helpers_lidar_bundle import center_model, write_lidar_bundle
from helpers_lidar_node import REG, TASK, cloud
from helpers_node import Probe
from helpers_serving import activated, serving
from onnx import TensorProto, helper

helpers_node.require_ros("vision_msgs.msg", "nav_msgs.msg", "visualization_msgs.msg")

from nav_msgs.msg import Odometry
from rcl_interfaces.msg import Log
from sensor_msgs.msg import PointCloud2
from test_node_lidar_detector import DETECTIONS, NAME, POINTS, odometry
from vision_msgs.msg import Detection3DArray

from av_compress.nodes.clouds import cloud_message
from av_compress.nodes.lidar_detector import LidarDetectorRole

SWEEPS = {"count": 3}
VOXELS, DEPTH, CELLS = 40, 200, 16
FEATURES = ["x", "y", "z", "intensity", "time"]


def age_detector() -> bytes:
    """Serialise a model whose score of a cell is 0.6, and a tenth of its oldest point's age."""
    reg = np.zeros((1, 8, CELLS, CELLS), np.float32) + np.float32(REG)[:, None, None]
    constants = {
        "four": np.array(4),
        "last": np.array([1]),
        "tenth": np.float32(0.1),
        "six": np.float32(0.6),
        "empty": np.zeros(CELLS**2, np.float32),
        "shape": np.array([1, 1, CELLS, CELLS]),
        "none": np.float32(0),
        "r": reg,
    }
    nodes = [
        helper.make_node("Gather", ["voxels", "four"], ["ages"], axis=2),
        helper.make_node("ReduceMax", ["ages"], ["oldest"], axes=[1], keepdims=0),
        helper.make_node("Mul", ["oldest", "tenth"], ["part"]),
        helper.make_node("Add", ["part", "six"], ["scores"]),
        helper.make_node("Unsqueeze", ["indices", "last"], ["places"]),
        helper.make_node("ScatterND", ["empty", "places", "scores"], ["flat"]),
        helper.make_node("Reshape", ["flat", "shape"], ["heatmap"]),
        helper.make_node("Mul", ["heatmap", "none"], ["zero"]),
        helper.make_node("Add", ["zero", "r"], ["reg"]),
    ]
    inputs = [
        helper.make_tensor_value_info("voxels", TensorProto.FLOAT, [VOXELS, DEPTH, 5]),
        helper.make_tensor_value_info("indices", TensorProto.INT64, [VOXELS]),
    ]
    return center_model(nodes, inputs, constants, (CELLS, CELLS))


@pytest.fixture
def activate(tmp_path: Path, probe: Probe):
    encoder = {
        "type": "voxels",
        "features": FEATURES,
        "max_points": DEPTH,
        "max_voxels": VOXELS,
        "padding": "repeat_last",
    }
    config = {**TASK, "input": {**TASK["input"], "encoder": encoder, "sweeps": SWEEPS}}
    root = write_lidar_bundle(tmp_path / "bundle", age_detector(), config)
    defaults = {"bundle_path": str(root), "onnxruntime.intra_op_threads": 1}
    with serving(LidarDetectorRole(), defaults) as start:
        yield activated(start, probe, NAME)


def test_sweeps_survive_missing_motion_and_jumps(activate, probe):
    """The object stands 5.5 m ahead of where the vehicle was at second 0 of its odometry."""
    received = probe.collect(Detection3DArray, DETECTIONS)
    logs = probe.collect(Log, "/rosout", 100)
    node = activate(deadline_ms=0.0)
    clouds = probe.publisher(PointCloud2, POINTS)
    motion = probe.publisher(Odometry, f"/{NAME}/input/odometry", 10)
    probe.until(lambda: probe.node.count_publishers(DETECTIONS) > 0, "the detections' publisher")

    def served(second: float, frame: str = "lidar") -> list[float]:
        """Return the scores of what is found in a cloud; the vehicle drives 1 m a second."""
        before = len(received)
        clouds.publish(cloud_message(cloud(second, (5.5 - second, 0.5), frame=frame)))
        probe.until(lambda: len(received) > before, "detections")
        return [round(one.results[0].hypothesis.score, 3) for one in received[-1].detections]

    def drive(second: float) -> None:
        motion.publish(odometry(second, second))
        probe.spin_for(0.3)

    # No motion is known: each is served alone, and the log says why.
    assert [served(1.0), served(1.5)] == [[0.6], [0.6]]
    probe.until(lambda: any("no ego motion" in one.msg for one in logs), "a warning")
    (line,) = (one.msg for one in logs if "no ego motion" in one.msg)
    assert "from 'odom' to 'lidar'" in line
    assert "1 of 2 sweeps are served" in line
    # It comes: what was remembered is made up for.
    for second in (1.0, 1.5, 2.0):
        drive(second)
    assert served(2.0) == [0.7]
    # The clock jumps back: nothing of what is newer is brought in.
    assert served(1.25) == [0.6]
    assert served(1.75) == [0.65]
    # Another sensor begins anew, and so does the first one after it.
    assert served(1.85, "rear") == [0.6]
    assert served(1.9) == [0.6]
    assert served(2.0) == [0.61]
    assert node.monitor().totals().failed == 0
