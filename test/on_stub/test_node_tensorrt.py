# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""A node that serves a plan: real middleware, stand-in for TensorRT, stub of the driver."""

from __future__ import annotations

from pathlib import Path

import pytest
from diagnostic_msgs.msg import DiagnosticArray
from helpers_camera_node import (  # noqa: F401 (fixtures)
    BEST_EFFORT,
    DETECTIONS,
    IMAGE,
    NAME,
    activate,
    expect_detections,
    probe,
    raw_image,
    ros,
    start,
)
from helpers_cuda_stub import Stub
from helpers_trt_stub import install
from sensor_msgs.msg import Image
from test_bundle import write_bundle
from test_open_plan import as_form, compiled
from vision_msgs.msg import Detection2DArray


@pytest.fixture
def bundle(tmp_path: Path, stub: Stub) -> Path:
    # The stub's device outlives the node: fixtures end in the opposite order.
    return as_form(write_bundle(tmp_path / "bundle"), "tensorrt")


def test_a_node_serves_a_plan_and_starts_anew(bundle, activate, probe, monkeypatch):
    control = install(monkeypatch, "10.13")
    compiled(bundle, "tensorrt")
    activate(backend="tensorrt")
    received: list = []
    probe.node.create_subscription(Detection2DArray, DETECTIONS, received.append, 10)
    publisher = probe.node.create_publisher(Image, IMAGE, BEST_EFFORT)
    probe.until(lambda: publisher.get_subscription_count() == 1, "a subscriber")
    for second in (7, 8):
        message = expect_detections(probe, publisher, raw_image(second), received)
        assert message.header.stamp.sec == second
        (detection,) = message.detections
        assert detection.bbox.size_x == pytest.approx(8.0, abs=1e-3)
    for step in ("deactivate", "cleanup", "configure", "activate"):
        assert probe.change_state(NAME, step)
    expect_detections(probe, publisher, raw_image(9), received)
    assert not control.faults


def test_a_node_without_a_plan_stays_unconfigured(bundle, start, probe, monkeypatch):
    install(monkeypatch, "10.13")
    start(backend="tensorrt")
    assert not probe.change_state(NAME, "configure")
    assert probe.state(NAME) == "unconfigured"
    compiled(bundle, "tensorrt")
    assert probe.change_state(NAME, "configure")


def test_a_node_prepares_raw_images_on_the_card(bundle, activate, probe, monkeypatch, stub):
    install(monkeypatch, "10.13")
    compiled(bundle, "tensorrt")
    node = activate(backend="tensorrt", preprocess="device")
    received: list = []
    probe.node.create_subscription(Detection2DArray, DETECTIONS, received.append, 10)
    probe.node.create_subscription(Image, f"/{NAME}/debug/image", received.append, 10)
    publisher = probe.node.create_publisher(Image, IMAGE, BEST_EFFORT)
    probe.until(lambda: publisher.get_subscription_count() == 1, "a subscriber")
    before = stub.called()["cuLaunchKernel"]
    # Two answers: detections, and the image with them drawn in, which is decoded for that alone.
    while {type(message) for message in received} != {Detection2DArray, Image}:
        publisher.publish(raw_image(7))
        probe.until(lambda: received, "answers")
        probe.spin_for(0.05)
    assert stub.called()["cuLaunchKernel"] > before
    assert node.monitor().totals().failed == 0


def test_a_lost_device_dooms_the_process(bundle, activate, probe, monkeypatch, stub):
    install(monkeypatch, "10.13")
    made = compiled(bundle, "tensorrt")
    diagnostics = probe.collect(DiagnosticArray, "/diagnostics")
    node = activate(backend="tensorrt")
    publisher = probe.node.create_publisher(Image, IMAGE, BEST_EFFORT)
    probe.until(lambda: publisher.get_subscription_count() == 1, "a subscriber")
    probe.until(lambda: diagnostics, "diagnostics")
    values = {entry.key: entry.value for entry in diagnostics[-1].status[0].values}
    assert values["plan"] == made.record.target.key
    assert values["precision"] == "float"
    assert node.doom is None
    stub.lose(700)
    while node.doom is None:
        publisher.publish(raw_image(7))
        probe.spin_for(0.05)
    assert "illegal memory access" in node.doom
    node.release()
    stub.reset()
