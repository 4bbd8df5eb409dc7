# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Several cameras through one plan: real middleware, stand-in for TensorRT, stub of the driver."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers_camera_node import BEST_EFFORT, probe, ros  # noqa: F401 (fixtures)
from helpers_cuda_stub import Stub
from helpers_serving import activated, serving
from helpers_trt_stub import install
from sensor_msgs.msg import Image
from test_device_pipeline import raws, world  # noqa: F401 (fixture)
from vision_msgs.msg import Detection2DArray

from av_compress.cli.main import main
from av_compress.engines.bundle import load_bundle
from av_compress.nodes.images import image_message
from av_compress.nodes.multi_camera_detector import MultiCameraDetectorRole

NAME = "multi_camera_detector"
CAMERAS = ("front", "left", "right")


@pytest.fixture
def activate(stub: Stub, world: Path, probe, monkeypatch):
    install(monkeypatch, "10.13")
    bundle = world / "bundle3"
    assert main(["compile", str(bundle), "--backend", "tensorrt", "--batch", "1,3,3"]) == 0
    defaults = {
        "bundle_path": str(bundle),
        "cameras": list(CAMERAS),
        "backend": "tensorrt",
        "preprocess": "device",
        "arrival_window_ms": 500.0,
    }
    with serving(MultiCameraDetectorRole(), defaults) as start:
        yield activated(start, probe, NAME)


def test_each_camera_gets_what_its_image_shows(activate, stub, world: Path, probe):
    activate()
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
