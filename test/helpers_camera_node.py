# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""A camera_detector that runs in this process, and what to send it."""

import array
from pathlib import Path

import cv2
import helpers_node
import numpy as np
import pytest
from helpers_node import Probe
from helpers_serving import activated, serving
from test_bundle import write_bundle

helpers_node.require_ros("vision_msgs.msg")

from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image
from vision_msgs.msg import Detection2DArray

from av_compress.nodes.camera_detector import CameraDetectorRole

NAME = "camera_detector"
IMAGE = f"/{NAME}/input/image"
COMPRESSED = f"{IMAGE}/compressed"
DETECTIONS = f"/{NAME}/output/detections"
BEST_EFFORT = QoSProfile(depth=1, reliability=QoSReliabilityPolicy.BEST_EFFORT)


@pytest.fixture(scope="module", autouse=True)
def ros():
    with helpers_node.ros_context():
        yield


@pytest.fixture
def probe():
    probe = Probe()
    yield probe
    probe.stop()


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle")


@pytest.fixture
def start(bundle: Path):
    """Start nodes in state unconfigured."""
    defaults = {"bundle_path": str(bundle), "onnxruntime.intra_op_threads": 1}
    with serving(CameraDetectorRole(), defaults) as start:
        yield start


@pytest.fixture
def activate(start, probe: Probe):
    """Start a node and bring it to active."""
    return activated(start, probe, NAME)


def raw_image(second: int = 7, **fields) -> Image:
    message = Image(
        height=16,
        width=16,
        encoding="bgr8",
        step=48,
        data=array.array("B", bytes(16 * 48)),
    )
    message.header.stamp.sec = second
    message.header.stamp.nanosec = 8
    message.header.frame_id = "front"
    for key, value in fields.items():
        setattr(message, key, value)
    return message


def jpeg_image(second: int = 7) -> CompressedImage:
    _, data = cv2.imencode(".jpg", np.zeros((16, 16, 3), np.uint8))
    message = CompressedImage(format="jpeg", data=array.array("B", data.tobytes()))
    message.header.stamp.sec = second
    message.header.frame_id = "front"
    return message


def expect_detections(probe: Probe, publisher, message, received: list) -> Detection2DArray:
    """Publish `message` and return what comes of it."""
    before = len(received)
    publisher.publish(message)
    probe.until(lambda: len(received) > before, "detections")
    return received[-1]
