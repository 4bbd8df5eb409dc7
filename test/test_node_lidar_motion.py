# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What a LiDAR node hears of motion, on the real middleware: of whom, and since when."""

from __future__ import annotations

import threading
from pathlib import Path

import helpers_node
import pytest
from helpers_camera_node import probe, ros  # noqa: F401 (fixtures)
from helpers_lidar_node import cloud, write_cell_bundle
from helpers_node import Probe
from helpers_serving import activated, serving

helpers_node.require_ros("vision_msgs.msg", "nav_msgs.msg", "tf2_msgs.msg")

from nav_msgs.msg import Odometry
from rcl_interfaces.msg import Log
from sensor_msgs.msg import PointCloud2
from test_node_lidar_detector import DETECTIONS, NAME, odometry
from test_node_lidar_merge import LATCHED, centers, placed
from test_node_lidar_sweeps import activate as activate_sweeps  # noqa: F401 (fixture)
from tf2_msgs.msg import TFMessage
from vision_msgs.msg import Detection3DArray

from av_compress.data.transforms import Transform
from av_compress.nodes.clouds import cloud_message
from av_compress.nodes.lidar_detector import LidarDetectorRole
from av_compress.nodes.motion import SharedTransforms

S = 1_000_000_000


def static(probe: Probe, *frames: str) -> list:
    """Publish the place of each LiDAR by a publisher of its own, as each driver does."""
    made = []
    for number, frame in enumerate(frames):
        publisher = probe.node.create_publisher(TFMessage, "/tf_static", LATCHED)
        publisher.publish(TFMessage(transforms=[placed(frame, float(number), 0.0, 0.0)]))
        made.append(publisher)
    return made


def test_each_of_many_lidars_has_its_place_by_a_publisher_of_its_own(probe, tmp_path: Path):
    lidars = [f"lidar{number}" for number in range(8)]
    static(probe, *lidars)
    defaults = {
        "bundle_path": str(write_cell_bundle(tmp_path / "bundle")),
        "onnxruntime.intra_op_threads": 1,
        "merge.lidars": lidars,
        "merge.frame": "base_link",
        "merge.arrival_window_ms": 1000.0,
    }
    with serving(LidarDetectorRole(), defaults) as start:
        node = activated(start, probe, NAME)()
        received = probe.collect(Detection3DArray, DETECTIONS)
        probe.until(lambda: probe.node.count_publishers(DETECTIONS) > 0, "detections")
        clouds = {
            lidar: probe.publisher(PointCloud2, f"/{NAME}/{lidar}/input/points")
            for lidar in lidars
        }
        # What was latched comes when it comes.
        probe.spin_for(1.0)
        for number, lidar in enumerate(lidars):
            # Each sees another object, all 3.5 m to the left: at 0.5, 1.5, ... in base_link.
            message = cloud_message(cloud(5.0, (0.5, 3.5), frame=lidar))
            clouds[lidar].publish(message)
            probe.until(
                lambda: node.monitor(lidar).totals().received == 1,  # noqa: B023
                f"cloud of {lidar}",
            )
            assert node.monitor(lidar).totals().failed == 0, number
        probe.until(lambda: received, "detections")
        assert centers(received[0]) == [(number + 0.5, 3.5) for number in range(8)]
        assert [node.monitor(lidar).totals().failed for lidar in lidars] == [0] * 8


class Drive:
    """A node of one LiDAR whose clouds are merged with its last two sweeps."""

    def __init__(self, probe: Probe, activate) -> None:
        self.probe = probe
        self.received = probe.collect(Detection3DArray, DETECTIONS)
        self.logs = probe.collect(Log, "/rosout", 100)
        self.held = static(probe, "front")
        self.node = activate(
            **{"deadline_ms": 0.0, "merge.lidars": ["front"], "merge.frame": "base_link"}
        )
        self.connect()

    def connect(self) -> None:
        self.clouds = self.probe.publisher(PointCloud2, f"/{NAME}/front/input/points")
        self.motion = self.probe.publisher(Odometry, f"/{NAME}/input/odometry", 10)
        self.tf = self.probe.publisher(TFMessage, "/tf", 10)
        self.probe.until(lambda: self.probe.node.count_publishers(DETECTIONS) > 0, "detections")
        self.probe.spin_for(0.5)

    def drive(self, second: float) -> None:
        message = odometry(second, second)
        message.child_frame_id = "base_link"
        self.motion.publish(message)
        self.probe.spin_for(0.2)

    def served(self, second: float) -> list[float]:
        """Return the scores in a cloud: 0.6 and a tenth of the oldest sweep's age."""
        before = len(self.received)
        self.clouds.publish(cloud_message(cloud(second, (5.5 - second, 0.5), frame="front")))
        self.probe.until(lambda: len(self.received) > before, "detections")
        found = self.received[-1].detections
        return [round(one.results[0].hypothesis.score, 3) for one in found]


def test_what_warmed_up_and_what_was_before_is_forgotten(activate_sweeps, probe):
    """Simulated time begins at 0, the stamp of what a configuration warms up with."""
    drive = Drive(probe, activate_sweeps)
    for second in (0.0, 0.5, 1.0):
        drive.drive(second)
    assert drive.served(0.1) == [0.6]
    assert drive.served(0.5) == [0.64]
    assert probe.change_state(NAME, "deactivate")
    assert probe.change_state(NAME, "activate")
    drive.connect()
    for second in (0.5, 0.7, 1.0):
        drive.drive(second)
    assert drive.served(0.7) == [0.6]
    assert drive.served(1.0) == [0.63]
    assert drive.node.monitor("front").totals().failed == 0
    # So it is before a configuration is ever activated.
    assert probe.change_state(NAME, "deactivate")
    assert probe.change_state(NAME, "cleanup")
    assert probe.change_state(NAME, "configure")
    reader = drive.node._serving.reader
    odometry_of, _, static_of = (listener.receive for listener in reader.listeners())
    static_of(TFMessage(transforms=[placed("front", 0.0, 0.0, 0.0)]))
    for second in (0.0, 1.0):
        message = odometry(second, second)
        message.child_frame_id = "base_link"
        odometry_of(message)
    (made,) = reader.gather(
        {"front": reader.read(cloud_message(cloud(0.1, frame="front")))}
    ).frames
    assert len(made.frame) == 2


def test_competing_sources_are_told_each_and_left_out(activate_sweeps, probe):
    drive = Drive(probe, activate_sweeps)
    for number in range(6):
        second = number / 10
        drive.drive(second)
        foreign = [placed("base_link", 50.0 * number, 0.0, 0.0) for _ in range(2)]
        for one, parent in zip(foreign, ("map", "world")):
            one.header.frame_id = parent
            one.header.stamp.nanosec = round(second * S)
        # Two within a moment: the log holds back neither.
        drive.tf.publish(TFMessage(transforms=foreign))
        probe.spin_for(0.1)
    assert [drive.served(second) for second in (0.1, 0.3, 0.5)] == [[0.6], [0.62], [0.64]]

    def lines() -> list[str]:
        return [one.msg for one in drive.logs if "is left out" in one.msg]

    probe.until(lambda: len(lines()) >= 2, "two warnings")
    assert len(lines()) == 2
    for line, parent in zip(lines(), ("map", "world")):
        assert line.startswith(
            f"frame 'base_link' is told by ~/input/odometry in 'odom' and by /tf in {parent!r}"
        )


@pytest.mark.parametrize("forget", [SharedTransforms.clear, lambda tree: tree.forget("base")])
def test_shared_transforms_are_not_changed_while_they_are_looked_up(forget):
    """A look-up that has begun finds what it saw, or nothing; never half of it."""
    tree = SharedTransforms()
    tree.add("odom", "base", S, Transform.identity())
    tree._lock.acquire()
    thread = threading.Thread(target=forget, args=(tree,))
    thread.start()
    thread.join(0.2)
    held, known = thread.is_alive(), list(tree._links)
    tree._lock.release()
    thread.join()
    assert held
    assert known == ["base"]
    assert not tree._links
