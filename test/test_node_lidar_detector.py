# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""lidar_detector on the real middleware: what it publishes, and what it does with bad input."""

from __future__ import annotations

import math
from pathlib import Path

import helpers_node
import numpy as np
import pytest
from helpers_camera_node import BEST_EFFORT, probe, ros  # noqa: F401 (fixtures)
from helpers_lidar_node import TASK, S, cloud, write_cell_bundle
from helpers_node import Probe
from helpers_rig import FRONT, REAR, write_rig
from helpers_serving import activated, serving
from helpers_sweeps import ODOMETRY, messages, write_drive
from helpers_sweeps import POINTS as TOPIC

helpers_node.require_ros("vision_msgs.msg", "nav_msgs.msg", "visualization_msgs.msg")

from nav_msgs.msg import Odometry
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import UInt32
from vision_msgs.msg import Detection3DArray, LabelInfo
from visualization_msgs.msg import MarkerArray

from av_compress.data.bag_motion import MotionOptions
from av_compress.data.bag_sources import bring_together
from av_compress.data.bags import BagClouds
from av_compress.data.merging import MergeOptions
from av_compress.data.points import PointOptions
from av_compress.engines.bundle import load_bundle
from av_compress.errors import ConfigError, DataWarning, FrameError
from av_compress.nodes.clouds import cloud_message
from av_compress.nodes.lidar_detector import LidarDetectorRole, LidarReader
from av_compress.tasks.base import PointCloud, Sweeps
from av_compress.tasks.lidar_detection import LidarDetection

NAME = "lidar_detector"
POINTS = f"/{NAME}/input/points"
DETECTIONS = f"/{NAME}/output/detections"
POINT_PARAMETERS = {
    **{name: [name] for name in ("intensity", "time", "ring")},
    "time_unit": "auto",
    "clock": "stamp",
    "zeros": [""],
}


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_cell_bundle(tmp_path / "bundle")


@pytest.fixture
def start(bundle: Path):
    defaults = {"bundle_path": str(bundle), "onnxruntime.intra_op_threads": 1}
    with serving(LidarDetectorRole(), defaults) as start:
        yield start


@pytest.fixture
def activate(start, probe: Probe):
    return activated(start, probe, NAME)


def answer(probe: Probe, publisher, message, received: list):
    """Publish until something comes back, since the first may pass while nodes find each other."""
    received.clear()
    while not received:
        publisher.publish(message)
        probe.spin_for(0.1)
    return received[-1]


def test_boxes_come_in_the_clouds_frame_with_its_stamp(activate, probe):
    received = probe.collect(Detection3DArray, DETECTIONS)
    labels = probe.collect(LabelInfo, f"/{NAME}/output/label_info")
    node = activate()
    publisher = probe.node.create_publisher(PointCloud2, POINTS, BEST_EFFORT)
    sent = cloud(7.25, (3.5, 2.5), (10.5, -6.5))
    found = answer(probe, publisher, cloud_message(sent), received)
    assert (found.header.stamp.sec, found.header.stamp.nanosec) == (7, 250_000_000)
    assert found.header.frame_id == "lidar"
    places = sorted(
        (one.bbox.center.position.x, one.bbox.center.position.y) for one in found.detections
    )
    assert places == [(3.5, 2.5), (10.5, -6.5)]
    for one in found.detections:
        turn = one.bbox.center.orientation
        assert 2 * math.atan2(turn.z, turn.w) == pytest.approx(0.5, abs=1e-6)
        assert (turn.x, turn.y) == (0, 0)
        assert (one.bbox.size.x, one.bbox.size.y, one.bbox.size.z) == (1, 1, 1)
        assert one.results[0].hypothesis.class_id == "0"
        assert one.results[0].hypothesis.score == pytest.approx(1.0)
        assert one.results[0].pose.pose.position == one.bbox.center.position
    probe.until(lambda: labels, "labels")
    assert [entry.class_name for entry in labels[0].class_map] == ["thing"]
    assert node.monitor().totals().failed == 0


# Of a cloud of 63 points in one cell, and two that lie nowhere.
COUNTS = {
    "points": 65,
    "ego_points": 0,
    "unusable_points": 0,
    "outside_points": 2,
    "voxels": 1,
    "surplus_points": 0,
}


def test_markers_and_counts_come_while_somebody_looks(activate, probe):
    markers = probe.collect(MarkerArray, f"/{NAME}/debug/markers")
    counts = {name: probe.collect(UInt32, f"/{NAME}/debug/count/{name}") for name in COUNTS}
    activate()
    publisher = probe.node.create_publisher(PointCloud2, POINTS, BEST_EFFORT)
    found = answer(probe, publisher, cloud_message(cloud(1.0, (3.5, 2.5))), markers)
    kinds = [(one.action, one.type, one.text) for one in found.markers]
    assert kinds == [(3, 0, ""), (0, 1, ""), (0, 9, "thing 1.00")]
    probe.until(lambda: all(counts.values()), "counts")
    assert {name: got[-1].data for name, got in counts.items()} == COUNTS


def broken(change) -> PointCloud2:
    message = cloud_message(cloud(1.0, (3.5, 2.5)))
    change(message)
    return message


def _no_z(message) -> None:
    message.fields = [field for field in message.fields if field.name != "z"]


def _short(message) -> None:
    message.data = message.data[:-8]


def _step(message) -> None:
    message.point_step = 4


def _no_intensity(message) -> None:
    message.fields = [field for field in message.fields if field.name != "intensity"]


@pytest.mark.parametrize("change", [_no_z, _short, _step, _no_intensity])
def test_a_bad_cloud_is_counted_and_the_next_one_served(activate, probe, change):
    received = probe.collect(Detection3DArray, DETECTIONS)
    node = activate()
    publisher = probe.node.create_publisher(PointCloud2, POINTS, BEST_EFFORT)
    answer(probe, publisher, cloud_message(cloud(1.0, (3.5, 2.5))), received)
    while not node.monitor().totals().failed:
        publisher.publish(broken(change))
        probe.spin_for(0.05)
    assert answer(probe, publisher, cloud_message(cloud(2.0, (4.5, 2.5))), received).detections


def test_clouds_without_points_are_served(activate, probe):
    received = probe.collect(Detection3DArray, DETECTIONS)
    activate()
    publisher = probe.node.create_publisher(PointCloud2, POINTS, BEST_EFFORT)
    for points in (np.zeros((0, 4), np.float32), np.full((9, 4), np.nan, np.float32)):
        found = answer(probe, publisher, cloud_message(PointCloud(points, S)), received)
        assert found.detections == []


def test_how_many_sweeps_are_brought_together_is_the_bundles_alone(start, probe):
    parameters = {
        "motion": {"fixed_frame": "map"},
        "points": POINT_PARAMETERS,
        "merge": {"lidars": [""]},
    }
    encoder = {"type": "voxels", "features": "centerpoint"}
    config = {**TASK, "input": {**TASK["input"], "encoder": encoder, "sweeps": {"count": 2}}}
    warnings: list[str] = []
    reader = LidarDetectorRole().make_reader(
        LidarDetection.from_config(config), parameters, warnings.append
    )
    heard = {listener.topic: listener for listener in reader.listeners()}
    for second, x in ((1.0, 0.0), (1.5, 2.0)):
        message = odometry(second, x)
        message.header.frame_id = "map"
        heard["~/input/odometry"].receive(message)
    # The clouds have no time: it is made of their ages.
    read = [served(reader, cloud(second, (5.5, 0.5))) for second in (1.0, 1.5)]
    assert [one.points.shape for one in read] == [(65, 5), (130, 5)]
    assert not warnings
    parameters["motion"] = {"fixed_frame": ""}
    with pytest.raises(ConfigError, match=r"fixed_frame is empty, but the bundle's"):
        LidarDetectorRole().make_reader(
            LidarDetection.from_config(config), parameters, warnings.append
        )
    start(**{"sweeps.count": 3})
    assert probe.change_state(NAME, "configure")


def test_a_bundle_of_another_task_is_refused(start, probe, bundle: Path):
    from test_bundle import write_bundle

    other = write_bundle(bundle.parent / "camera")
    start(bundle_path=str(other))
    assert not probe.change_state(NAME, "configure")


def odometry(second: float, x: float) -> Odometry:
    message = Odometry()
    message.header.frame_id, message.child_frame_id = "odom", "lidar"
    message.header.stamp.sec = int(second)
    message.header.stamp.nanosec = round(second % 1 * S)
    message.pose.pose.position.x = x
    message.pose.pose.orientation.w = 1.0
    return message


def served(reader: LidarReader, sent: PointCloud) -> PointCloud:
    (one,) = reader.gather({"": reader.read(cloud_message(sent))}).frames
    assert one.slots == ("",)
    assert not one.notes
    return one.frame


def test_sweeps_are_brought_together_by_odometry():
    warnings: list[str] = []
    reader = LidarReader(PointOptions(channels=4), Sweeps(3), "odom", None, warnings.append)
    heard = {listener.topic: listener for listener in reader.listeners()}
    listener = heard["~/input/odometry"]
    assert listener.kind == "nav_msgs/Odometry"
    for second, x in ((1.0, 0.0), (1.5, 2.0)):
        listener.receive(odometry(second, x))
    first = served(reader, cloud(1.0, (5.5, 0.5)))
    assert first.points.shape == (65, 5)
    # The vehicle has gone 2 m: what stands still has come 2 m nearer.
    second = served(reader, cloud(1.5, (3.5, 0.5))).points
    assert second.shape == (130, 5)
    np.testing.assert_allclose(second[:63, :2], second[65:128, :2])
    assert set(second[:65, 4]) == {0.0}
    assert set(second[65:, 4]) == {0.5}
    assert not warnings
    sent = cloud_message(cloud(2.0, (1.5, 0.5)))
    (alone,) = reader.gather({"": reader.read(sent)}).frames
    assert alone.frame.points.shape == (65, 5)
    assert "no ego motion from 'odom' to 'lidar'" in alone.notes["sweeps"]
    turned = odometry(2.0, 4.0)
    turned.pose.pose.orientation.w = 0.0
    listener.receive(turned)
    assert "is none" in warnings[-1]


@pytest.mark.parametrize("odometry", [False, True])
def test_a_bags_clouds_are_those_that_the_node_makes_of_its_messages(tmp_path, odometry: bool):
    path = write_drive(tmp_path / "drive", [0.4 * n for n in range(6)], odometry=odometry)
    reader = LidarReader(PointOptions(), Sweeps(3), "odom", None, pytest.fail)
    topics = {"~/input/odometry": ODOMETRY}
    heard = {topics.get(one.topic, one.topic): one for one in reader.listeners()}
    made = []
    for topic, message in messages(path):
        if topic == TOPIC:
            (one,) = reader.gather({"": reader.read(message)}).frames
            made.append(one.frame.points)
        else:
            heard[topic].receive(message)
    motion = MotionOptions(odometry=ODOMETRY if odometry else None)
    source = bring_together(path, [BagClouds(path)], Sweeps(3), motion)
    assert len(source) == len(made) == 6
    for index, points in enumerate(made):
        np.testing.assert_array_equal(source.read(index).points, points)
    source.close()


@pytest.mark.parametrize(
    ("sweeps", "fixed"), [(Sweeps(), "odom"), (Sweeps(), ""), (Sweeps(3), "odom")]
)
def test_a_bags_merged_clouds_are_those_that_the_node_makes(tmp_path, sweeps, fixed: str):
    rig = {"front": [0.1 * n for n in range(8)], "rear": [0.1 * n - 0.02 for n in range(1, 8)]}
    path = write_rig(tmp_path / "drive", rig)
    merge = MergeOptions("base", fixed)
    reader = LidarReader(PointOptions(), sweeps, fixed, merge, pytest.fail)
    heard = {one.topic: one for one in reader.listeners()}
    # All of the motion first: a recording knows it.
    clouds: dict[str, list[PointCloud]] = {FRONT: [], REAR: []}
    for topic, message in messages(path):
        if topic in clouds:
            clouds[topic].append(reader.read(message))
        else:
            heard[topic].receive(message)
    lidars = [BagClouds(path, topic) for topic in (FRONT, REAR)]
    with pytest.warns(DataWarning, match="of 8 clouds 7 hold 2, 1 hold 1 of 2 LiDARs"):
        source = bring_together(path, lidars, sweeps, MotionOptions(fixed), merge)
    assert len(source) == 8
    for index in range(8):
        frames = {"front": clouds[FRONT][index]}
        if index:
            frames["rear"] = clouds[REAR][index - 1]
        (one,) = reader.gather(frames).frames
        read = source.read(index)
        np.testing.assert_array_equal(read.points, one.frame.points)
        assert (read.stamp_ns, read.frame_id) == (one.frame.stamp_ns, one.frame.frame_id)
    source.close()


def test_a_message_survives_the_way_there_and_back():
    sent = PointCloud(np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32), 5, "l")
    reader = LidarReader(PointOptions(channels=6, time_unit="s"), Sweeps(), "odom", None, print)
    found = reader.read(cloud_message(sent))
    np.testing.assert_array_equal(
        found.points[:, [0, 1, 2, 3, 5]], sent.points[:, [0, 1, 2, 3, 5]]
    )
    assert (found.stamp_ns, found.frame_id) == (5, "l")
    assert reader.listeners() == ()
    with pytest.raises(FrameError, match="z"):
        message = cloud_message(sent)
        message.fields = [PointField(name="x", offset=0, datatype=7, count=1)]
        reader.read(message)


def test_the_bundle_serves_without_a_node(bundle: Path):
    pipeline = load_bundle(bundle).open_pipeline()
    done = pipeline.process(cloud(1.0, (3.5, 2.5)))
    assert len(done.result) == 1
    assert done.context.points == 65
    pipeline.close()
