# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Several cameras through one plan: real middleware, stand-in for TensorRT, stub of the driver."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers_camera_node import BEST_EFFORT, ros  # noqa: F401 (fixture)
from helpers_cuda_stub import Stub
from helpers_node import Probe, Spinning
from helpers_trt_stub import install
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image
from test_device_pipeline import raws, world  # noqa: F401 (fixture)
from vision_msgs.msg import Detection2DArray

from av_compress.cli.main import main
from av_compress.engines.bundle import load_bundle
from av_compress.nodes.images import image_message
from av_compress.nodes.multi_camera_detector import MultiCameraDetectorRole
from av_compress.nodes.runtime import ServingNode

NAME = "multi_camera_detector"
CAMERAS = ("front", "left", "right")


@pytest.fixture
def probe():
    probe = Probe()
    yield probe
    probe.stop()


@pytest.fixture
def node(stub: Stub, world: Path, monkeypatch):
    install(monkeypatch, "10.13")
    bundle = world / "bundle3"
    assert main(["compile", str(bundle), "--backend", "tensorrt", "--batch", "1,3,3"]) == 0
    values = {
        "bundle_path": str(bundle),
        "cameras": list(CAMERAS),
        "backend": "tensorrt",
        "preprocess": "device",
        "arrival_window_ms": 500.0,
    }
    node = ServingNode(
        MultiCameraDetectorRole(),
        parameter_overrides=[Parameter(key, value=value) for key, value in values.items()],
    )
    spinning = Spinning(node)
    yield node
    node.release()
    spinning.stop()


def test_each_camera_gets_what_its_image_shows(node, stub, world: Path, probe):
    assert probe.change_state(NAME, "configure")
    assert probe.change_state(NAME, "activate")
    received = {
        camera: probe.collect(Detection2DArray, f"/{NAME}/{camera}/output/detections")
        for camera in CAMERAS
    }
    publishers = {
        camera: probe.node.create_publisher(Image, f"/{NAME}/{camera}/input/image", BEST_EFFORT)
        for camera in CAMERAS
    }
    frames = dict(zip(CAMERAS, raws(world)))
    pipeline = load_bundle(world / "bundle3").open_pipeline("tensorrt", preprocess="host")
    wanted = {camera: pipeline.process(raw.decode()).result for camera, raw in frames.items()}
    pipeline.close()
    probe.until(
        lambda: all(p.get_subscription_count() == 1 for p in publishers.values()), "subscribers"
    )
    while not all(received.values()):
        for camera, publisher in publishers.items():
            publisher.publish(image_message(frames[camera].decode()))
        probe.spin_for(0.2)
    for camera, answers in received.items():
        found = answers[-1].detections
        assert len(found) == len(wanted[camera])
        scores = [one.results[0].hypothesis.score for one in found]
        assert scores == pytest.approx(wanted[camera].scores.tolist())
    assert len({len(result) for result in wanted.values()} | {0}) > 1
    assert stub.called()["cuLaunchKernel"] > 0
