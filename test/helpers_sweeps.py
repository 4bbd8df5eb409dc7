# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Recorded drives: clouds, tf and odometry, and a model that sees how old points are.

The vehicle drives a curve. Its LiDAR sits askew, a metre ahead and two up.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from helpers_lidar_bundle import center_model, write_lidar_bundle
from onnx import TensorProto, helper

from av_compress.data.bag_writer import BagWriter
from av_compress.data.motion_messages import MotionMessages
from av_compress.data.points import PointOptions, cloud_from_message
from av_compress.data.ros_types import make_typestore, rosbags
from av_compress.data.sweeps import SweepMerger
from av_compress.data.transforms import Transforms
from av_compress.errors import FrameError
from av_compress.tasks.base import PointCloud, Sweeps

S = 1_000_000_000
START_NS = 1_700_000_000 * S
POINTS, ODOMETRY = "/lidar/points", "/vehicle/odometry"
MOUNT = (1.0, 0.2, 2.0, 0.3)  # x, y, z and yaw of the LiDAR on the vehicle.
KIND = np.dtype([("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("intensity", "<f4"), ("ring", "<u2")])


def pose(second: float) -> tuple[float, float, float, float]:
    """Return x, y, z and yaw of the vehicle: linear, so that what lies between is exact."""
    return (100 + 4 * second, -50 + 0.5 * second, 0.1 * second, 0.05 * second)


def matrix(place: tuple[float, float, float, float]) -> np.ndarray:
    """Return a place as float64 [4, 4]."""
    x, y, z, yaw = place
    cos, sin = math.cos(yaw), math.sin(yaw)
    return np.array([[cos, -sin, 0, x], [sin, cos, 0, y], [0, 0, 1, z], [0, 0, 0, 1]])


def lidar(second: float) -> np.ndarray:
    return matrix(pose(second)) @ matrix(MOUNT)


def points(number: int, count: int = 20) -> np.ndarray:
    """Return what a sweep holds, KIND [n]: others in each, and not always as many."""
    rng = np.random.default_rng(number)
    made = np.zeros(count + number % 3, KIND)
    for name, low, high in (("x", -20, 20), ("y", -20, 20), ("z", -2, 2), ("intensity", 0, 1)):
        made[name] = rng.uniform(low, high, len(made))
    return made


def turn(writer: BagWriter, yaw: float) -> Any:
    return writer.message(
        "geometry_msgs/Quaternion", x=0.0, y=0.0, z=math.sin(yaw / 2), w=math.cos(yaw / 2)
    )


def stamp(seconds: float) -> int:
    return START_NS + round(seconds * S)


def write_tf(
    writer: BagWriter, topic: str, parent: str, child: str, place: Sequence[float], second: float
) -> None:
    x, y, z, yaw = map(float, place)
    transform = writer.message(
        "geometry_msgs/Transform",
        translation=writer.message("geometry_msgs/Vector3", x=x, y=y, z=z),
        rotation=turn(writer, yaw),
    )
    one = writer.message(
        "geometry_msgs/TransformStamped",
        header=writer.header(stamp(second), parent),
        child_frame_id=child,
        transform=transform,
    )
    message = writer.message("tf2_msgs/TFMessage", transforms=[one])
    writer.write(topic, message, stamp(second), latched=topic == "/tf_static")


def write_odometry(writer: BagWriter, second: float) -> None:
    x, y, z, yaw = pose(second)
    zero = writer.message("geometry_msgs/Vector3", x=0.0, y=0.0, z=0.0)
    message = writer.message(
        "nav_msgs/Odometry",
        header=writer.header(stamp(second), "odom"),
        child_frame_id="base",
        pose=writer.message(
            "geometry_msgs/PoseWithCovariance",
            pose=writer.message(
                "geometry_msgs/Pose",
                position=writer.message("geometry_msgs/Point", x=x, y=y, z=z),
                orientation=turn(writer, yaw),
            ),
            covariance=np.zeros(36),
        ),
        twist=writer.message(
            "geometry_msgs/TwistWithCovariance",
            twist=writer.message("geometry_msgs/Twist", linear=zero, angular=zero),
            covariance=np.zeros(36),
        ),
    )
    writer.write(ODOMETRY, message, stamp(second))


class Recorder(BagWriter):
    """Writes messages a millisecond apart, whatever their stamps: in the order they are given."""

    _recorded = 0

    def write(self, topic: str, message: Any, time_ns: int, latched: bool = False) -> None:
        self._recorded += 1
        super().write(topic, message, START_NS + self._recorded * S // 1000, latched)


def write_drive(
    path: Path,
    seconds: Sequence[float],
    moving: Sequence[float] | None = None,
    odometry: bool = False,
    cloud: Callable[[BagWriter, int, float], None] | None = None,
) -> Path:
    """Write a drive.

    Args:
        path: of the bag.
        seconds: when its clouds are measured.
        moving: when motion is told, before the clouds of that time; by default every 0.1 s. Where
            the clouds' clock goes back, that of the motion does as well.
        odometry: whether odometry tells it, else /tf.
        cloud: writes cloud `index` of a second; by default `write_cloud`.

    """
    if moving is None:
        moving = [n / 10 for n in range(int(min(seconds) * 10), int(max(seconds) * 10) + 2)]
    starts = [0, *(n for n in range(1, len(seconds)) if seconds[n] < seconds[n - 1])]
    events = []
    for start, end in zip(starts, [*starts[1:], len(seconds)]):
        last = max(moving) if end == len(seconds) else seconds[end - 1]
        first = min(moving) if start == 0 else seconds[start]
        run = [(second, 0, 0) for second in moving if first <= second <= last]
        events += sorted(run + [(seconds[index], 1, index) for index in range(start, end)])
    with Recorder(path) as writer:
        write_tf(writer, "/tf_static", "base", "lidar", MOUNT, min(seconds))
        for second, is_cloud, index in events:
            if is_cloud:
                (cloud or write_cloud)(writer, index, second)
            elif odometry:
                write_odometry(writer, second)
            else:
                write_tf(writer, "/tf", "odom", "base", pose(second), second)
    return path


def write_cloud(writer: BagWriter, index: int, second: float) -> None:
    writer.write_cloud(POINTS, points(index), stamp(second), "lidar")


def messages(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield topic and message of a bag, in recorded order."""
    store = make_typestore()
    with rosbags("rosbag2").Reader(path) as reader:
        for connection, _, data in reader.messages():
            yield connection.topic, store.deserialize_cdr(data, connection.msgtype)


def streamed(path: Path, sweeps: Sweeps) -> list[PointCloud | None]:
    """Return what a node makes of a bag's messages, one after the other; None: skipped."""
    transforms = Transforms()
    heard = MotionMessages(transforms, ODOMETRY, print, print)
    receive = {"/tf": heard.tf, "/tf_static": heard.tf_static, ODOMETRY: heard.odometry}
    merger, made = SweepMerger(sweeps, transforms), []
    for topic, message in messages(path):
        if topic != POINTS:
            receive[topic](message)
            continue
        try:
            cloud = cloud_from_message(message, PointOptions())
        except FrameError:
            made.append(None)
        else:
            made.append(merger.merge(cloud).cloud)
    return made


# Cells of 1 m; an object of 1 m in each that holds points of an earlier sweep, whose score is the
# age of the oldest.
TASK = {
    "kind": "lidar_detection",
    "class_names": ["thing"],
    "input": {
        "lower": [-32, -32, -4],
        "upper": [32, 32, 4],
        "voxel_size": [1, 1, 8],
        "encoder": {
            "type": "voxels",
            "features": ["x", "y", "z", "time"],
            "max_points": 64,
            "max_voxels": 4096,
        },
        "sweeps": {"count": 3},
    },
    "head": {
        "type": "center",
        "stride": 1,
        "activation": "none",
        "peaks": False,
        "outputs": {"heatmap": "heatmap", "reg": "reg"},
        "maps": {"reg": ["dx", "dy", "z", "log_length", "log_width", "log_height", "sin", "cos"]},
    },
    "score_threshold": 0.05,
    "nms": {"type": "none"},
}
# The same of single sweeps, whose points bring their times along.
SINGLE_TASK = {
    **TASK,
    "input": {key: part for key, part in TASK["input"].items() if key != "sweeps"},
}


def age_detector() -> bytes:
    reg = np.zeros((1, 8, 64, 64), np.float32)
    reg[:, [0, 1, 7]] = np.array([0.5, 0.5, 1.0], np.float32)[:, None, None]
    constants = {
        "three": np.array([3]),
        "four": np.array([4]),
        "two": np.array([2]),
        "one": np.array([1]),
        "shape": np.array([1, 1, 64, 64]),
        "plane": np.zeros(4096, np.float32),
        "r": reg,
    }
    nodes = [
        helper.make_node("Slice", ["voxels", "three", "four", "two"], ["times"]),
        helper.make_node("ReduceMax", ["times"], ["oldest"], axes=[1, 2], keepdims=0),
        helper.make_node("Unsqueeze", ["indices", "one"], ["places"]),
        helper.make_node("ScatterND", ["plane", "places", "oldest"], ["flat"]),
        helper.make_node("Reshape", ["flat", "shape"], ["heatmap"]),
        helper.make_node("Sub", ["heatmap", "heatmap"], ["zero"]),
        helper.make_node("Add", ["zero", "r"], ["reg"]),
    ]
    inputs = [
        helper.make_tensor_value_info("voxels", TensorProto.FLOAT, ["v", 64, 4]),
        helper.make_tensor_value_info("indices", TensorProto.INT64, ["v"]),
    ]
    return center_model(nodes, inputs, constants, (64, 64))


def write_age_bundle(root: Path, config: Mapping[str, Any] = TASK) -> Path:
    return write_lidar_bundle(root, age_detector(), config)
