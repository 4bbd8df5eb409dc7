# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""lidar_detector with two LiDARs on the real middleware: their clouds become one."""

from __future__ import annotations

import math
from pathlib import Path

import helpers_node
import pytest
from helpers_camera_node import BEST_EFFORT, probe, ros  # noqa: F401 (fixtures)
from helpers_lidar_node import cloud, write_cell_bundle
from helpers_node import Probe
from helpers_serving import activated, serving

helpers_node.require_ros("vision_msgs.msg", "nav_msgs.msg", "tf2_msgs.msg")

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import TransformStamped
from rclpy.qos import QoSDurabilityPolicy, QoSProfile
from sensor_msgs.msg import PointCloud2
from tf2_msgs.msg import TFMessage
from vision_msgs.msg import Detection3DArray, LabelInfo

from av_compress.nodes.clouds import cloud_message
from av_compress.nodes.lidar_detector import LidarDetectorRole

NAME = "lidar_detector"
LATCHED = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
NAMES = "is not allowed; allowed: a name of letters, digits and single underscores"
FOREVER_MS = 1000.0
# The LiDARs on the vehicle, as x, y and yaw.
FRONT, REAR = (2.0, 1.0, 0.0), (-1.0, 0.0, math.pi)


@pytest.fixture
def start(tmp_path: Path):
    defaults = {
        "bundle_path": str(write_cell_bundle(tmp_path / "bundle")),
        "onnxruntime.intra_op_threads": 1,
        "merge.lidars": ["front", "rear"],
        "merge.frame": "base_link",
        "merge.arrival_window_ms": FOREVER_MS,
        "diagnostics.period_s": 0.1,
    }
    with serving(LidarDetectorRole(), defaults) as start:
        yield start


@pytest.fixture
def activate(start, probe: Probe):
    return activated(start, probe, NAME)


def placed(frame: str, x: float, y: float, yaw: float) -> TransformStamped:
    message = TransformStamped(child_frame_id=frame)
    message.header.frame_id = "base_link"
    message.transform.translation.x, message.transform.translation.y = x, y
    message.transform.rotation.z = math.sin(yaw / 2)
    message.transform.rotation.w = math.cos(yaw / 2)
    return message


class Rig:
    """Publishers of two LiDARs and of tf, and what comes back."""

    def __init__(self, probe: Probe, node, **places: tuple[float, float, float]) -> None:
        self.probe, self.node = probe, node
        self.received = probe.collect(Detection3DArray, f"/{NAME}/output/detections", 100)
        self.publishers = {
            name: probe.publisher(PointCloud2, f"/{NAME}/{name}/input/points")
            for name in ("front", "rear")
        }
        self.tf = probe.publisher(TFMessage, "/tf_static", LATCHED)
        topic = f"/{NAME}/output/detections"
        probe.until(lambda: probe.node.count_publishers(topic) == 1, topic)
        self.place(**places)

    def place(self, **places: tuple[float, float, float]) -> None:
        transforms = [placed(name, *place) for name, place in places.items()]
        self.tf.publish(TFMessage(transforms=transforms))
        # tf and clouds come on topics of their own, in whatever order.
        self.probe.spin_for(0.3)

    def send(self, name: str, second: float, *cells: tuple[float, float]) -> None:
        before = self.node.monitor(name).totals().received
        self.publishers[name].publish(cloud_message(cloud(second, *cells, frame=name)))
        self.probe.until(
            lambda: self.node.monitor(name).totals().received > before, f"cloud of {name}"
        )

    def answer(self) -> Detection3DArray:
        self.probe.until(lambda: self.received, "detections")
        return self.received.pop(0)


def centers(message: Detection3DArray) -> list[tuple[float, float]]:
    places = [one.bbox.center.position for one in message.detections]
    return sorted((round(place.x, 3), round(place.y, 3)) for place in places)


def test_two_clouds_become_one_in_the_vehicles_frame(activate, probe):
    labels = probe.collect(LabelInfo, f"/{NAME}/output/label_info", LATCHED)
    diagnostics = probe.collect(DiagnosticArray, "/diagnostics")
    node = activate()
    rig = Rig(probe, node, front=FRONT, rear=REAR)
    # In base_link (3.5, 2.5), seen by both, and (6.5, -1.5), seen by the rear one alone.
    rig.send("rear", 5.02, (-4.5, -2.5), (-7.5, 1.5))
    rig.send("front", 5.0, (1.5, 1.5))
    answer = rig.answer()
    assert answer.header.frame_id == "base_link"
    assert (answer.header.stamp.sec, answer.header.stamp.nanosec) == (5, 20_000_000)
    assert centers(answer) == [(3.5, 2.5), (6.5, -1.5)]
    # No odometry came: the 20 ms between the two are told.
    probe.told("no ego motion from 'odom' to 'base_link'", probe.logs())

    def degraded() -> bool:
        return all(
            "1 of 1 results were made of less than could be" in status.message
            for status in diagnostics[-1].status[:2]
        )

    probe.until(lambda: diagnostics and degraded(), "a word of it in the diagnostics")
    rig.send("front", 5.1, (1.5, 1.5))
    rig.send("rear", 5.1)
    assert centers(rig.answer()) == [(3.5, 2.5)]
    assert not rig.received
    probe.until(lambda: labels, "label info")
    assert len(labels) == 1
    for name in ("front", "rear"):
        probe.until(lambda: node.monitor(name).totals().processed == 2, name)  # noqa: B023
        totals = node.monitor(name).totals()
        assert (totals.received, totals.processed, totals.failed) == (2, 2, 0)

    def batches_of_2() -> list[str]:
        pairs = diagnostics[-1].status[2].values if diagnostics else []
        return [pair.value for pair in pairs if pair.key == "batches_of_2"]

    # Counted after the clouds are.
    probe.until(lambda: batches_of_2() == ["2"], "a report of two batches")
    names = [status.name for status in diagnostics[-1].status]
    assert names == [f"{NAME}: front", f"{NAME}: rear", f"{NAME}: all inputs"]


def test_a_silent_lidar_costs_the_other_the_window_alone(activate, probe):
    node = activate(**{"merge.arrival_window_ms": 20.0, "diagnostics.input_timeout_ms": 300.0})
    diagnostics = probe.collect(DiagnosticArray, "/diagnostics")
    rig = Rig(probe, node, front=FRONT, rear=REAR)
    rig.send("front", 5.0, (1.5, 1.5))
    assert centers(rig.answer()) == [(3.5, 2.5)]

    def told() -> bool:
        return any("no input for" in array.status[1].message for array in diagnostics)

    probe.until(told, "a report of the silent one")


def test_a_lidar_without_a_place_is_counted_and_the_other_served(activate, probe):
    node = activate()
    rig = Rig(probe, node, front=FRONT)
    rig.send("rear", 5.0, (-4.5, -2.5))
    rig.send("front", 5.0, (1.5, 1.5))
    assert centers(rig.answer()) == [(3.5, 2.5)]
    # Counted after the answer has gone out.
    probe.until(lambda: node.monitor("front").totals().processed == 1, "count")
    assert node.monitor("rear").totals().failed == 1
    told = "message of rear skipped: no transform connects 'rear' with 'base_link'"
    probe.told(told, probe.logs())
    # Once its place is known, it is there again.
    rig.place(front=FRONT, rear=REAR)
    rig.send("rear", 6.0, (-7.5, 1.5))
    rig.send("front", 6.0, (1.5, 1.5))
    assert centers(rig.answer()) == [(3.5, 2.5), (6.5, -1.5)]


def test_clouds_of_which_none_has_a_place_are_counted(activate, probe):
    node = activate()
    rig = Rig(probe, node)
    rig.send("rear", 5.0, (-4.5, -2.5))
    rig.send("front", 5.0, (1.5, 1.5))
    for name in ("front", "rear"):
        probe.until(lambda: node.monitor(name).totals().failed == 1, name)  # noqa: B023
    assert not rig.received


def test_each_lidars_faults_are_logged_whatever_the_other_s(activate, probe):
    node = activate(**{"merge.arrival_window_ms": 5.0})
    rig = Rig(probe, node, front=FRONT)
    logs = probe.logs()
    message = cloud_message(cloud(5.0, frame="front"))
    message.point_step = 3
    for _ in range(3):
        rig.publishers["front"].publish(message)
        rig.send("rear", 5.0, (-4.5, -2.5))
    probe.told("message of rear skipped: no transform connects", logs)
    probe.told("message of front skipped: field x of the point cloud ends at byte 4", logs)


def test_a_cloud_that_is_none_leaves_the_other(activate, probe):
    node = activate()
    rig = Rig(probe, node, front=FRONT, rear=REAR)
    message = cloud_message(cloud(5.0, frame="rear"))
    message.point_step = 3
    rig.publishers["rear"].publish(message)
    rig.send("front", 5.0, (1.5, 1.5))
    assert centers(rig.answer()) == [(3.5, 2.5)]
    probe.until(lambda: node.monitor("rear").totals().failed == 1, "failure")
    probe.told("message of rear skipped: field x of the point cloud ends at byte 4", probe.logs())


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        (
            {"merge.lidars": ["front", "front"]},
            '.merge.lidars: ["front", "front"] is not allowed; allowed: items that differ',
        ),
        ({"merge.lidars": ["rear", "front-left"]}, f'.merge.lidars[1]: "front-left" {NAMES}'),
        ({"merge.lidars": ["/sensing/front"]}, f'.merge.lidars[0]: "/sensing/front" {NAMES}'),
        ({"merge.lidars": ["rear", "rear_"]}, f'.merge.lidars[1]: "rear_" {NAMES}'),
        ({"merge.frame": ""}, "merge.frame is empty"),
    ],
)
def test_what_cannot_be_merged_is_refused(start, probe, parameters, says):
    start(**parameters)
    assert not probe.change_state(NAME, "configure")
    probe.told(says, probe.logs())


def test_an_unknown_motion_is_said_by_an_empty_frame_and_told_no_more(activate, probe):
    rig = Rig(probe, activate(**{"motion.fixed_frame": ""}), front=FRONT, rear=REAR)
    rig.send("rear", 5.02, (-7.5, 1.5))
    rig.send("front", 5.0, (1.5, 1.5))
    assert centers(rig.answer()) == [(3.5, 2.5), (6.5, -1.5)]
    logs = probe.logs()
    probe.told("loaded bundle", logs)
    probe.spin_for(0.3)
    assert not any("no ego motion" in one.msg for one in logs)
