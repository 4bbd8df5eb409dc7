# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""multi_camera_detector on the real middleware: several cameras, one model, one batch."""

import array
import threading
from contextlib import closing
from pathlib import Path

import cv2
import helpers_node
import pytest
from helpers_camera_node import (
    probe,  # noqa: F401
    raw_image,
    ros,  # noqa: F401
)
from helpers_serving import activated, serving
from test_batch import bundle  # noqa: F401 (a fixture)
from test_build import world  # noqa: F401 (a fixture)
from test_bundle import write_bundle

helpers_node.require_ros("vision_msgs.msg")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.qos import QoSDurabilityPolicy, QoSProfile
from sensor_msgs.msg import Image
from std_msgs.msg import Float64
from vision_msgs.msg import Detection2DArray, LabelInfo

from av_compress.data.detections import detections_to_fields
from av_compress.data.images import frame_from_message
from av_compress.engines.batch import BatchPipeline
from av_compress.engines.bundle import load_bundle
from av_compress.engines.onnxruntime import OrtOptions
from av_compress.nodes.detections import DetectionArrayWriter
from av_compress.nodes.images import image_message
from av_compress.nodes.multi_camera_detector import MultiCameraDetectorRole
from av_compress.tasks.base import ImageFrame

NAME = "multi_camera_detector"
CAMERAS = ["front", "left", "right"]
FOREVER_MS = 1000.0
LATCHED = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)


def image_topic(camera: str) -> str:
    return f"/{NAME}/{camera}/input/image"


def detections_topic(camera: str) -> str:
    return f"/{NAME}/{camera}/output/detections"


@pytest.fixture
def start(bundle: Path):
    """Start nodes in state unconfigured."""
    defaults = {
        "bundle_path": str(bundle),
        "cameras": CAMERAS,
        "arrival_window_ms": FOREVER_MS,
        "onnxruntime.intra_op_threads": 1,
        "deadline_ms": 0.0,
        "diagnostics.period_s": 0.1,
        "diagnostics.max_allowed_processing_time_ms": 0.0,
        "diagnostics.input_timeout_ms": 0.0,
    }
    with serving(MultiCameraDetectorRole(), defaults) as start:
        yield start


@pytest.fixture
def activate(start, probe):
    return activated(start, probe, NAME)


class Rig:
    """Publishers and received detections of every camera."""

    def __init__(self, probe, cameras=CAMERAS) -> None:
        self.probe = probe
        self.publishers = {c: probe.publisher(Image, image_topic(c)) for c in cameras}
        self.received = {
            c: probe.collect(Detection2DArray, detections_topic(c), 100) for c in cameras
        }
        for camera in cameras:
            topic = detections_topic(camera)
            probe.until(lambda: probe.node.count_publishers(topic) == 1, topic)  # noqa: B023

    def send(self, camera: str, message: Image) -> None:
        self.publishers[camera].publish(message)

    def until(self, **counts: int) -> None:
        self.probe.until(
            lambda: all(len(self.received[c]) >= n for c, n in counts.items()), f"{counts}"
        )

    def stamps(self, camera: str) -> list[int]:
        return [message.header.stamp.sec for message in self.received[camera]]


def picture(second: int, frame_id: str = "front") -> Image:
    """Return an image that the tiny constant detector or the demo detector can take."""
    message = raw_image(second)
    message.header.frame_id = frame_id
    return message


class Runs:
    """What the batches held, and a gate that holds the first of them up."""

    def __init__(self, monkeypatch) -> None:
        self.sizes: list[int] = []
        self.started, self.release = threading.Event(), threading.Event()
        process_all = BatchPipeline.process_all

        def remember(pipeline, frames):
            if self.armed:
                self.sizes.append(len(frames))
                self.started.set()
                assert self.release.wait(helpers_node.WAIT_S)
            return process_all(pipeline, frames)

        # Not for what is sent to warm up.
        self.armed = False
        monkeypatch.setattr(BatchPipeline, "process_all", remember)


@pytest.fixture
def runs(monkeypatch) -> Runs:
    return Runs(monkeypatch)


def streets(world: Path) -> list[ImageFrame]:
    """Return rendered streets in three sizes."""
    paths = sorted((world / "gate").rglob("*.jpg")) or sorted((world / "gate").rglob("*.png"))
    sizes = [(320, 192), (640, 384), (480, 300)]
    return [
        ImageFrame(cv2.resize(cv2.imread(str(path)), size))
        for path, size in zip(paths[:: len(paths) // 3], sizes)
    ]


def test_each_camera_gets_what_a_node_of_its_own_would_give(activate, probe, bundle, world, runs):
    activate()
    rig = Rig(probe)
    runs.armed = True
    runs.release.set()
    pictures = {}
    for camera, frame in zip(CAMERAS, streets(world)):
        pictures[camera] = image_message(frame)
        pictures[camera].header.stamp.sec = 40 + len(pictures)
        pictures[camera].header.frame_id = f"{camera}_optical"
        rig.send(camera, pictures[camera])
    rig.until(front=1, left=1, right=1)
    assert runs.sizes == [3]
    options = OrtOptions(intra_op_threads=1)
    with closing(load_bundle(bundle).open_pipeline(options=options)) as pipeline:
        for camera, message in pictures.items():
            (answer,) = rig.received[camera]
            frame = frame_from_message(message)
            result = pipeline.process(frame).result
            fields = detections_to_fields(result, frame.stamp_ns, frame.frame_id)
            assert answer == DetectionArrayWriter().write(fields)
            assert answer.header == message.header
            assert answer.detections


def test_boxes_are_in_the_pixels_of_each_image(activate, probe, tmp_path):
    """The constant model of fixed batch: frames run one by one, and sizes do not mix."""
    activate(bundle_path=str(write_bundle(tmp_path / "tiny")))
    rig = Rig(probe)
    for scale, camera in enumerate(CAMERAS, start=1):
        size = 8 * scale
        rig.send(
            camera,
            Image(
                height=size,
                width=size,
                encoding="bgr8",
                step=3 * size,
                data=array.array("B", bytes(3 * size * size)),
            ),
        )
    rig.until(front=1, left=1, right=1)
    for scale, camera in enumerate(CAMERAS, start=1):
        (detection,) = rig.received[camera][0].detections
        center = detection.bbox.center.position
        # The model reports 1, 2 .. 5, 6 in 8 x 8 pixels.
        assert (center.x, center.y) == pytest.approx((3 * scale, 4 * scale))
        assert detection.bbox.size_x == pytest.approx(4 * scale)


def test_more_cameras_than_the_bundle_takes_at_once_are_told_and_served(activate, probe, capfd):
    cameras = [*CAMERAS, "rear", "roof"]
    activate(cameras=cameras)
    log = capfd.readouterr().err
    assert "5 inputs, but the bundle takes 3 at once" in log
    assert "max_batch: 5" in log
    rig = Rig(probe, cameras)
    for camera in cameras:
        rig.send(camera, picture(1))
    rig.until(**dict.fromkeys(cameras, 1))


def test_the_newest_image_of_each_camera_wins(activate, probe, runs):
    node = activate()
    rig = Rig(probe)
    runs.armed = True
    for camera in CAMERAS:
        rig.send(camera, picture(0))
    assert runs.started.wait(helpers_node.WAIT_S)
    for second in range(1, 5):
        rig.send("front", picture(second))
        probe.until(
            lambda: node.monitor("front").totals().received == second + 1,  # noqa: B023
            "image",
        )
    rig.send("left", picture(1))
    rig.send("right", picture(1))
    for camera in ("left", "right"):
        probe.until(lambda: node.monitor(camera).totals().received == 2, "image")  # noqa: B023
    runs.release.set()
    rig.until(front=2, left=2, right=2)
    assert [rig.stamps(camera) for camera in CAMERAS] == [[0, 4], [0, 1], [0, 1]]
    totals = {camera: node.monitor(camera).totals() for camera in CAMERAS}
    assert [totals[camera].dropped for camera in CAMERAS] == [3, 0, 0]
    assert runs.sizes == [3, 3]


def test_a_silent_camera_holds_nobody_up(activate, probe, runs):
    node = activate(arrival_window_ms=30.0)
    rig = Rig(probe)
    runs.armed = True
    runs.release.set()
    for second in range(6):
        rig.send("front", picture(second))
        rig.send("right", picture(second))
        rig.until(front=second + 1, right=second + 1)
    assert rig.received["left"] == []
    assert max(runs.sizes) <= 2
    assert node.monitor("left").totals().received == 0
    # When it speaks it is served again.
    rig.send("left", picture(9))
    rig.until(left=1)


def test_a_camera_with_bad_images_spoils_nothing(activate, probe):
    node = activate()
    rig = Rig(probe)
    rig.send("left", picture(1))
    rig.send("right", picture(1))
    rig.send("front", raw_image(1, encoding="32FC1"))
    rig.until(left=1, right=1)
    probe.until(lambda: node.monitor("front").totals().failed == 1, "failure")
    assert node.monitor("left").totals().failed == 0
    for camera in CAMERAS:
        rig.send(camera, picture(2))
    rig.until(front=1, left=2, right=2)
    assert rig.stamps("front") == [2]


def test_an_engine_that_fails_counts_for_every_camera(activate, probe, monkeypatch):
    node = activate()
    rig = Rig(probe)
    process_all = BatchPipeline.process_all

    def fail(pipeline, frames):
        monkeypatch.setattr(BatchPipeline, "process_all", process_all)
        raise RuntimeError("the device is gone")

    monkeypatch.setattr(BatchPipeline, "process_all", fail)
    for second in (1, 2):
        for camera in CAMERAS:
            rig.send(camera, picture(second))
        if second == 1:
            for camera in CAMERAS:
                probe.until(lambda: node.monitor(camera).totals().failed == 1, camera)  # noqa: B023
    rig.until(front=1, left=1, right=1)
    assert [rig.stamps(camera) for camera in CAMERAS] == [[2]] * 3


def test_diagnostics_tell_of_each_camera_and_of_the_batches(activate, probe):
    activate(**{"deadline_ms": 50.0})
    reports = probe.collect(DiagnosticArray, "/diagnostics")
    topic = f"/{NAME}/left/debug/processing_time/total_ms"
    times = probe.collect(Float64, topic)
    rig = Rig(probe)
    probe.until(lambda: probe.node.count_publishers(topic) == 1, topic)
    rig.send("right", raw_image(1, step=1))
    rig.send("front", picture(1))
    rig.send("left", picture(1))
    rig.until(front=1, left=1)

    def values(camera: str) -> dict[str, str]:
        (status,) = [s for s in reports[-1].status if s.name == f"{NAME}: {camera}"]
        return {pair.key: pair.value for pair in status.values}

    probe.until(
        lambda: (
            reports
            and len(reports[-1].status) == 4
            and values("front")["processed"] == "1"
            and values("right")["failed"] == "1"
        ),
        "diagnostics",
    )
    assert [status.name for status in reports[-1].status] == [
        *(f"{NAME}: {camera}" for camera in CAMERAS),
        f"{NAME}: all inputs",
    ]
    levels = {status.name.split(": ")[1]: status.level for status in reports[-1].status}
    assert levels["right"] == DiagnosticStatus.WARN
    assert levels["all inputs"] == DiagnosticStatus.OK
    front = values("front")
    # The image is stamped 1970.
    assert front["deadline_misses"] == "1"
    assert float(front["input_age_ms"]) > 1e9
    assert float(front["execute_p50_ms"]) > 0
    assert (values("right")["received"], values("right")["processed"]) == ("1", "0")
    batch = values("all inputs")
    assert (batch["batches"], batch["frames"], batch["batches_of_2"]) == ("1", "2", "1")
    assert float(batch["batch_fill"]) == pytest.approx(2 / 3, abs=1e-3)
    assert len(batch["bundle_sha256"]) == 64
    for second in range(2, 50):
        for camera in CAMERAS:
            rig.send(camera, picture(second))
        rig.until(front=second, left=second)
        if times:
            break
    assert times[-1].data > 0


def test_labels_and_pictures_are_there_for_each_camera(activate, probe):
    activate()
    for camera in CAMERAS:
        labels = probe.collect(LabelInfo, f"/{NAME}/{camera}/output/label_info", LATCHED)
        probe.until(lambda: labels, "labels")  # noqa: B023
        assert labels[0].class_map
    shown = probe.collect(Image, f"/{NAME}/right/debug/image")
    rig = Rig(probe)
    for second in range(1, 50):
        for camera in CAMERAS:
            rig.send(camera, picture(second, camera))
        rig.until(**dict.fromkeys(CAMERAS, second))
        if shown:
            break
    assert shown[-1].header.frame_id == "right"


def test_configured_anew_it_serves_again_and_nothing_is_left(activate, probe):
    threads = threading.active_count()
    node = activate()
    publishers = len(list(node.publishers))
    for round_ in range(2):
        rig = Rig(probe)
        for camera in CAMERAS:
            rig.send(camera, picture(round_))
        rig.until(front=1, left=1, right=1)
        for publisher in rig.publishers.values():
            probe.node.destroy_publisher(publisher)
        assert probe.change_state(NAME, "deactivate")
        topics = [image_topic(camera) for camera in CAMERAS]
        assert not [topic for topic in topics if node.count_subscribers(topic)]
        assert probe.change_state(NAME, "cleanup")
        # The executor's is left.
        assert threading.active_count() == threads + 1
        assert probe.change_state(NAME, "configure")
        assert probe.change_state(NAME, "activate")
        assert len(list(node.publishers)) == publishers


def test_one_camera_is_enough(activate, probe):
    activate(cameras=["front"])
    rig = Rig(probe, ["front"])
    rig.send("front", picture(3))
    rig.until(front=1)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"cameras": [""]}, "parameter cameras names none"),
        ({"cameras": ["front", "front"]}, "items that differ"),
        (
            {"cameras": ["front/left"]},
            '.cameras[0]: "front/left" is not allowed; allowed: a name of letters, digits and ',
        ),
        ({"cameras": ["front__left"]}, "front__left"),
        ({"cameras": ["9th"]}, "9th"),
    ],
)
def test_cameras_that_cannot_be(start, probe, capfd, parameters, words):
    start(**parameters)
    assert not probe.change_state(NAME, "configure")
    log = capfd.readouterr().err
    assert words in log
    assert "Traceback" not in log
