# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""camera_detector on the real middleware: what it publishes, and what it does with bad input."""

import array
import threading

import cv2
import helpers_node
import numpy as np
import pytest
from helpers_camera_node import (
    BEST_EFFORT,
    COMPRESSED,
    DETECTIONS,
    IMAGE,
    NAME,
    activate,  # noqa: F401
    bundle,  # noqa: F401
    expect_detections,
    jpeg_image,
    probe,  # noqa: F401
    raw_image,
    ros,  # noqa: F401
    start,  # noqa: F401
)

helpers_node.require_ros("vision_msgs.msg")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.qos import QoSDurabilityPolicy, QoSProfile
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Float64
from vision_msgs.msg import Detection2DArray, LabelInfo

from av_compress.nodes.camera_detector import CameraReader

LATCHED = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)


def diagnostics_of(status: DiagnosticStatus) -> dict[str, str]:
    return {pair.key: pair.value for pair in status.values}


@pytest.mark.parametrize("qos", [1, BEST_EFFORT], ids=["reliable", "best_effort"])
@pytest.mark.parametrize(
    ("kind", "topic", "make"),
    [(Image, IMAGE, raw_image), (CompressedImage, COMPRESSED, jpeg_image)],
    ids=["raw", "compressed"],
)
def test_detections_of_an_image(activate, probe, kind, topic, make, qos):
    received = probe.collect(Detection2DArray, DETECTIONS)
    activate()
    publisher = probe.publisher(kind, topic, qos)
    image = make(second=7)
    answer = expect_detections(probe, publisher, image, received)
    assert answer.header == image.header
    (detection,) = answer.detections
    assert detection.header == image.header
    # The model reports 1, 2 .. 5, 6 in 8 x 8 pixels; the image has twice as many.
    center, box = detection.bbox.center, detection.bbox
    assert (center.position.x, center.position.y, center.theta) == pytest.approx((6, 8, 0))
    assert (box.size_x, box.size_y) == pytest.approx((8, 8))
    (hypothesis,) = detection.results
    assert hypothesis.hypothesis.class_id == "0"
    assert hypothesis.hypothesis.score == pytest.approx(0.75)


def test_every_encoding_has_the_same_answer(activate, probe):
    received = probe.collect(Detection2DArray, DETECTIONS)
    activate()
    publisher = probe.publisher(Image, IMAGE)
    for second, (encoding, channels) in enumerate(
        {"rgb8": 3, "rgba8": 4, "bgra8": 4, "mono8": 1, "yuv422": 2, "bayer_rggb8": 1}.items()
    ):
        data = array.array("B", bytes(16 * 16 * channels))
        image = raw_image(second, encoding=encoding, step=16 * channels, data=data)
        answer = expect_detections(probe, publisher, image, received)
        assert answer.header.stamp.sec == second
        assert len(answer.detections) == 1


def test_labels_reach_those_who_come_later(activate, probe):
    activate()
    received = probe.collect(LabelInfo, f"/{NAME}/output/label_info", LATCHED)
    probe.until(lambda: received, "label info")
    assert [(entry.class_id, entry.class_name) for entry in received[0].class_map] == [
        (0, "car"),
        (1, "person"),
    ]
    assert received[0].threshold == pytest.approx(0.25)


BAD_IMAGES = {
    "truncated": {"data": array.array("B", bytes(100))},
    "empty": {"data": array.array("B")},
    "zero size": {"height": 0, "width": 0, "step": 0, "data": array.array("B")},
    "wrong encoding": {"encoding": "32FC1"},
    "no encoding": {"encoding": ""},
    "step too small": {"step": 47},
    "absurd size": {"height": 2**31, "width": 2**31, "step": 2**32 - 1},
}


@pytest.mark.parametrize("fields", BAD_IMAGES.values(), ids=BAD_IMAGES.keys())
def test_a_bad_image_is_counted_and_the_next_one_served(activate, probe, fields):
    received = probe.collect(Detection2DArray, DETECTIONS)
    reports = probe.collect(DiagnosticArray, "/diagnostics")
    activate(**{"diagnostics.period_s": 0.1, "deadline_ms": 0.0})
    publisher = probe.publisher(Image, IMAGE)
    expect_detections(probe, publisher, raw_image(1), received)
    publisher.publish(raw_image(2, **fields))
    probe.until(
        lambda: reports and diagnostics_of(reports[-1].status[0])["failed"] == "1", "failure"
    )
    status = reports[-1].status[0]
    assert status.level == DiagnosticStatus.WARN
    assert "1 bad frames, the last:" in status.message
    assert expect_detections(probe, publisher, raw_image(3), received).header.stamp.sec == 3
    assert [answer.header.stamp.sec for answer in received] == [1, 3]


@pytest.mark.parametrize("data", [b"", b"no picture", b"\xff\xd8\xff\xe0 torn"])
def test_a_bad_compressed_image_is_counted(activate, probe, data):
    received = probe.collect(Detection2DArray, DETECTIONS)
    node = activate()
    publisher = probe.publisher(CompressedImage, COMPRESSED)
    bad = jpeg_image(1)
    bad.data = array.array("B", data)
    publisher.publish(bad)
    probe.until(lambda: node.monitor().totals().failed == 1, "failure")
    assert expect_detections(probe, publisher, jpeg_image(2), received).header.stamp.sec == 2


def test_diagnostics_hold_what_an_operator_needs(activate, probe, bundle):
    received = probe.collect(Detection2DArray, DETECTIONS)
    reports = probe.collect(DiagnosticArray, "/diagnostics")
    activate(**{"diagnostics.period_s": 0.1, "diagnostics.input_timeout_ms": 0.0})
    publisher = probe.publisher(Image, IMAGE)
    expect_detections(probe, publisher, raw_image(), received)
    count = len(reports)
    probe.until(lambda: len(reports) > count + 1, "diagnostics")
    report = reports[-1]
    assert report.header.stamp.sec > 0
    (status,) = report.status
    assert status.name == f"{NAME}: serving"
    values = diagnostics_of(status)
    for stage in ("processing_time", "pipeline_latency", "decode", "preprocess", "execute"):
        for figure in ("p50", "p95", "p99", "max"):
            assert float(values[f"{stage}_{figure}_ms"]) >= 0
    assert float(values["processing_time_ms"]) > 0
    assert float(values["processing_time_p50_ms"]) > 0
    assert values["received"] == values["processed"] == "1"
    assert values["dropped"] == values["failed"] == values["clock_jumps"] == "0"
    # The image is stamped 1970.
    assert values["deadline_misses"] == "1"
    assert float(values["input_age_ms"]) > 1e9
    assert "use_sim_time" in status.message
    assert len(values["bundle_sha256"]) == 64
    assert values["bundle"] == "tiny"
    assert values["precision"] == "float"


def test_times_are_published_while_somebody_listens(activate, probe):
    received = probe.collect(Detection2DArray, DETECTIONS)
    activate()
    publisher = probe.publisher(Image, IMAGE)
    expect_detections(probe, publisher, raw_image(), received)
    base = f"/{NAME}/debug"
    times = {
        name: probe.collect(Float64, f"{base}/{name}")
        for name in (
            "processing_time/preprocess_ms",
            "processing_time/inference_ms",
            "processing_time/postprocess_ms",
            "processing_time/total_ms",
            "pipeline_latency_ms",
        )
    }
    probe.until(
        lambda: all(probe.node.count_publishers(f"{base}/{name}") == 1 for name in times),
        "publishers",
    )
    for _ in range(100):
        expect_detections(probe, publisher, raw_image(), received)
        if all(times.values()):
            break
    last = {name: values[-1].data for name, values in times.items()}
    total = last.pop("processing_time/total_ms")
    latency = last.pop("pipeline_latency_ms")
    assert all(value > 0 for value in last.values())
    assert sum(last.values()) < total < latency


def test_the_annotated_image_is_published_while_somebody_looks(activate, probe):
    received = probe.collect(Detection2DArray, DETECTIONS)
    activate()
    publisher = probe.publisher(Image, IMAGE)
    expect_detections(probe, publisher, raw_image(1), received)
    pictures = probe.collect(Image, f"/{NAME}/debug/image")
    jpegs = probe.collect(CompressedImage, f"/{NAME}/debug/image/compressed")
    for second in range(2, 100):
        expect_detections(probe, publisher, raw_image(second), received)
        if pictures and jpegs:
            break
    picture = pictures[-1]
    assert (picture.height, picture.width, picture.encoding, picture.step) == (16, 16, "bgr8", 48)
    assert picture.header.frame_id == "front"
    assert picture.header.stamp.sec > 1  # Not the image that nobody looked at.
    pixels = np.frombuffer(picture.data, np.uint8).reshape(16, 16, 3)
    assert pixels.any()
    decoded = cv2.imdecode(np.frombuffer(jpegs[-1].data, np.uint8), cv2.IMREAD_COLOR)
    assert decoded.shape == (16, 16, 3)


def test_simulated_time_gives_the_input_s_age(activate, probe):
    received = probe.collect(Detection2DArray, DETECTIONS)
    clock = probe.publisher
    node = activate(use_sim_time=True)
    clock = probe.publisher(Clock, "/clock")
    publisher = probe.publisher(Image, IMAGE)

    def now_is(second: int) -> None:
        message = Clock()
        message.clock.sec = second
        clock.publish(message)
        probe.until(lambda: node.get_clock().now().nanoseconds == second * 10**9, "simulated time")

    now_is(100)
    image = raw_image(99)
    image.header.stamp.nanosec = 0
    expect_detections(probe, publisher, image, received)
    probe.until(lambda: node.monitor().totals().processed == 1, "telemetry")
    assert node.monitor().summary("input_age").max_ms == pytest.approx(1000)
    # The bag starts again: windows are cleared, totals stay.
    now_is(50)
    expect_detections(probe, publisher, raw_image(50), received)
    probe.until(lambda: node.monitor().totals().processed == 2, "telemetry")
    assert node.monitor().summary("input_age").count == 1
    assert node.monitor().report(50 * 10**9).figures["clock_jumps"] == 1


def test_a_slow_model_serves_the_newest_image(activate, probe, monkeypatch):
    received = probe.collect(Detection2DArray, DETECTIONS, 100)
    node = activate()
    release = threading.Event()
    started = threading.Event()
    read = CameraReader.read

    def slow_read(self, message):
        started.set()
        assert release.wait(helpers_node.WAIT_S)
        return read(self, message)

    monkeypatch.setattr(CameraReader, "read", slow_read)
    publisher = probe.publisher(Image, IMAGE)
    publisher.publish(raw_image(0))
    assert started.wait(helpers_node.WAIT_S)
    for second in range(1, 6):
        publisher.publish(raw_image(second))
        probe.until(lambda: node.monitor().totals().received == second + 1, "image")  # noqa: B023
    release.set()
    probe.until(lambda: len(received) == 2, "detections")
    assert [answer.header.stamp.sec for answer in received] == [0, 5]
    assert node.monitor().totals().dropped == 4
