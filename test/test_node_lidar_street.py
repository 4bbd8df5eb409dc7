# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""lidar_detector on the real middleware with recorded clouds, in the layouts they came in."""

from __future__ import annotations

import array
from pathlib import Path

import helpers_node
import numpy as np
import pytest
from helpers_camera_node import probe, ros  # noqa: F401 (fixtures)
from helpers_node import Probe
from helpers_serving import activated, serving

helpers_node.require_ros("vision_msgs.msg", "nav_msgs.msg", "visualization_msgs.msg")

from helpers_street import (
    INDOORS,
    STREET,
    as_cloud,
    bag_clouds,
    read_pcd,
    recorded,
    street_bundle,
)
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import PointCloud2, PointField
from vision_msgs.msg import Detection3DArray

from av_compress.data.points import fields_of
from av_compress.data.ros_types import rosbags
from av_compress.engines.bundle import load_bundle
from av_compress.nodes.detections import header_message
from av_compress.nodes.lidar_detector import LidarDetectorRole
from av_compress.tasks.base import Detections3D, PointCloud

pytestmark = pytest.mark.shared_data

NAME = "lidar_detector"
VLP16 = "vlp16_1673400472138016708"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory, shared_data: Path) -> Path:
    return street_bundle(tmp_path_factory.mktemp("street") / "bundle", shared_data)


@pytest.fixture
def activate(bundle: Path, probe: Probe):
    defaults = {"bundle_path": str(bundle), "onnxruntime.intra_op_threads": 1}
    with serving(LidarDetectorRole(), defaults) as start:
        yield activated(start, probe, NAME)


def bag_messages(bag: Path) -> list[PointCloud2]:
    """Return the messages of a bag as rclpy reads what was recorded, byte by byte."""
    with rosbags("highlevel").AnyReader([recorded(bag)]) as reader:
        return [
            deserialize_message(bytes(data), PointCloud2)
            for connection, _, data in reader.messages()
            if connection.msgtype == "sensor_msgs/msg/PointCloud2"
        ]


def structured_message(points: np.ndarray, stamp_ns: int, frame_id: str) -> PointCloud2:
    """Return a message of points as they lie in memory."""
    fields = [
        PointField(name=one.name, offset=one.offset, datatype=one.datatype, count=1)
        for one in fields_of(points.dtype)
    ]
    return PointCloud2(
        header=header_message(stamp_ns, frame_id),
        height=1,
        width=len(points),
        fields=fields,
        point_step=points.dtype.itemsize,
        row_step=points.nbytes,
        data=array.array("B", points.tobytes()),
    )


def rows_of(found: Detection3DArray) -> np.ndarray:
    """Return x, y, z, length, width, height, yaw, score and label of each detection."""
    rows = [
        (
            *(one.bbox.center.position.x, one.bbox.center.position.y, one.bbox.center.position.z),
            *(one.bbox.size.x, one.bbox.size.y, one.bbox.size.z),
            2 * np.arctan2(one.bbox.center.orientation.z, one.bbox.center.orientation.w),
            one.results[0].hypothesis.score,
            float(one.results[0].hypothesis.class_id),
        )
        for one in found.detections
    ]
    return np.reshape(rows, (-1, 9))


def assert_served(found: Detection3DArray, cloud: PointCloud, want: Detections3D) -> None:
    assert found.header.frame_id == cloud.frame_id
    assert found.header.stamp.sec * 10**9 + found.header.stamp.nanosec == cloud.stamp_ns
    have, rows = rows_of(found), np.c_[want.boxes, want.scores, want.labels]
    assert have.shape == rows.shape
    turn = have[:, 6] - rows[:, 6]
    np.testing.assert_allclose(np.arctan2(np.sin(turn), np.cos(turn)), 0, atol=1e-5)
    keep = [0, 1, 2, 3, 4, 5, 7, 8]
    np.testing.assert_allclose(have[:, keep], rows[:, keep], rtol=1e-6, atol=1e-6)


def serve_all(activate, probe, messages, clouds, bundle: Path) -> int:
    """Send messages, one after the other; return how many boxes came of them."""
    pipeline = load_bundle(bundle).open_pipeline()
    expected = [pipeline.process(cloud).result for cloud in clouds]
    pipeline.close()
    received = probe.collect(Detection3DArray, f"/{NAME}/output/detections")
    node = activate(deadline_ms=0.0)
    publisher = probe.publisher(PointCloud2, f"/{NAME}/input/points")
    assert len(messages) == len(clouds)
    for number, (message, cloud, want) in enumerate(zip(messages, clouds, expected), 1):
        publisher.publish(message)
        probe.until(lambda wanted=number: len(received) == wanted, "detections")
        assert_served(received[-1], cloud, want)
    totals = node.monitor().totals()
    assert (totals.processed, totals.failed, totals.dropped) == (len(messages), 0, 0)
    return sum(map(len, expected))


@pytest.mark.parametrize(("bag", "least"), [(STREET, 50), (INDOORS, 1)])
def test_a_recorded_drive_is_served_as_the_pipeline_sees_it(
    bag, least, activate, probe, bundle: Path, shared_data: Path
):
    """Five sensors of different frames follow one another in the first."""
    messages = bag_messages(shared_data / "bags" / bag)
    clouds = bag_clouds(shared_data, bag)
    assert serve_all(activate, probe, messages, clouds, bundle) >= least


def test_a_drivers_own_layout_is_read_as_it_lies(activate, probe, bundle: Path, shared_data: Path):
    """Intensity, return type and channel are packed into bytes between floats."""
    points = read_pcd(recorded(shared_data / "lidar" / "nebula" / f"{VLP16}.pcd"))
    assert points.dtype.itemsize == 32
    assert points.dtype["intensity"] == np.uint8
    message = structured_message(points, 7, "velodyne")
    plain = as_cloud(points, "vlp16")
    cloud = PointCloud(plain.points, 7, "velodyne")
    serve_all(activate, probe, [message], [cloud], bundle)
