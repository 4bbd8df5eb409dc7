# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The peers of camera_detector and lidar_detector: detector nodes written the usual way.

    python benchmarks/plain_node.py camera|lidar --ros-args -p bundle_path:=DIR

One callback does everything, on the default executor and the default QoS; the image is converted
into an array of its own as cv_bridge does, the cloud as sensor_msgs_py does; messages are built
anew for every detection. Model, preprocessing and postprocessing are those of the bundle.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rclpy
from numpy.lib.recfunctions import structured_to_unstructured
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from sensor_msgs.msg import Image, PointCloud2
from vision_msgs.msg import (
    Detection2D,
    Detection2DArray,
    Detection3D,
    Detection3DArray,
    ObjectHypothesisWithPose,
)

from av_compress.engines.bundle import load_bundle
from av_compress.tasks.base import Detections2D, Detections3D, ImageFrame, PointCloud

DATATYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 8: "f8"}


class PlainNode(Node):
    """What both have in common."""

    def __init__(self, kind: str, sensor: type[Any], topic: str, answers: type[Any]) -> None:
        super().__init__(f"plain_{kind}")
        self.declare_parameter("bundle_path", "")
        bundle = load_bundle(Path(self.get_parameter("bundle_path").value))
        self.pipeline = bundle.open_pipeline()
        self.publisher = self.create_publisher(answers, "~/output/detections", 10)
        self.subscription = self.create_subscription(sensor, topic, self.on_message, 10)

    def on_message(self, message: Any) -> None:
        raise NotImplementedError


class PlainCamera(PlainNode):
    def __init__(self) -> None:
        super().__init__("camera", Image, "~/input/image", Detection2DArray)

    def on_message(self, message: Image) -> None:
        result: Detections2D = self.pipeline.process(ImageFrame(to_cv2(message))).result
        answer = Detection2DArray(header=message.header)
        for box, score, label in zip(result.boxes, result.scores, result.labels):
            detection = Detection2D(header=message.header)
            detection.bbox.center.position.x = float(box[0] + box[2]) / 2
            detection.bbox.center.position.y = float(box[1] + box[3]) / 2
            detection.bbox.size_x = float(box[2] - box[0])
            detection.bbox.size_y = float(box[3] - box[1])
            detection.results.append(hypothesis(score, label))
            answer.detections.append(detection)
        self.publisher.publish(answer)


class PlainLidar(PlainNode):
    def __init__(self) -> None:
        super().__init__("lidar", PointCloud2, "~/input/points", Detection3DArray)

    def on_message(self, message: PointCloud2) -> None:
        points = read_points(message, ("x", "y", "z", "intensity"))
        result: Detections3D = self.pipeline.process(PointCloud(points)).result
        answer = Detection3DArray(header=message.header)
        for box, score, label in zip(result.boxes, result.scores, result.labels):
            detection = Detection3D(header=message.header)
            center, size = detection.bbox.center, detection.bbox.size
            center.position.x, center.position.y, center.position.z = map(float, box[:3])
            size.x, size.y, size.z = map(float, box[3:6])
            center.orientation.z = math.sin(box[6] / 2)
            center.orientation.w = math.cos(box[6] / 2)
            detection.results.append(hypothesis(score, label))
            answer.detections.append(detection)
        self.publisher.publish(answer)


def hypothesis(score: float, label: int) -> ObjectHypothesisWithPose:
    made = ObjectHypothesisWithPose()
    made.hypothesis.class_id = str(label)
    made.hypothesis.score = float(score)
    return made


def to_cv2(message: Image) -> np.ndarray:
    """Do what cv_bridge's imgmsg_to_cv2(message, "bgr8") does: wrap, then convert into a copy."""
    wrapped = np.ndarray(
        (message.height, message.width, 3), np.uint8, message.data, strides=(message.step, 3, 1)
    )
    if message.encoding == "rgb8":
        return cv2.cvtColor(wrapped, cv2.COLOR_RGB2BGR)
    return wrapped.copy()


def read_points(message: PointCloud2, names: Sequence[str]) -> np.ndarray:
    """Do what sensor_msgs_py's read_points_numpy does, and drop points that are NaN."""
    kind = np.dtype(
        {
            "names": [field.name for field in message.fields],
            "formats": [DATATYPES[field.datatype] for field in message.fields],
            "offsets": [field.offset for field in message.fields],
            "itemsize": message.point_step,
        }
    )
    rows = np.ndarray((message.width * message.height,), kind, message.data)
    points = structured_to_unstructured(rows[list(names)])
    return points[~np.isnan(points).any(axis=1)]


def main() -> int:
    kinds = {"camera": PlainCamera, "lidar": PlainLidar}
    if len(sys.argv) < 2 or sys.argv[1] not in kinds:
        print(f"name one of: {', '.join(kinds)}", file=sys.stderr)
        return 2
    rclpy.init()
    node = kinds[sys.argv[1]]()
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        node.destroy_node()
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
