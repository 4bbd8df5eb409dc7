# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The peer of benchmarks/node_overhead.py: a detector node written the usual way.

One callback does everything, on the default executor and the default QoS; the image is converted
into an array of its own as cv_bridge does; messages are built anew for every detection. Model,
preprocessing and postprocessing are those of the bundle, as in camera_detector.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesisWithPose

from av_compress.engines.bundle import load_bundle
from av_compress.tasks.base import ImageFrame


class PlainDetector(Node):
    def __init__(self) -> None:
        super().__init__("plain_detector")
        self.declare_parameter("bundle_path", "")
        bundle = load_bundle(Path(self.get_parameter("bundle_path").value))
        self.pipeline = bundle.open_pipeline()
        self.publisher = self.create_publisher(Detection2DArray, "~/output/detections", 10)
        self.subscription = self.create_subscription(Image, "~/input/image", self.on_image, 10)

    def on_image(self, message: Image) -> None:
        result = self.pipeline.process(ImageFrame(to_cv2(message))).result
        answer = Detection2DArray(header=message.header)
        for box, score, label in zip(result.boxes, result.scores, result.labels):
            detection = Detection2D(header=message.header)
            detection.bbox.center.position.x = float(box[0] + box[2]) / 2
            detection.bbox.center.position.y = float(box[1] + box[3]) / 2
            detection.bbox.size_x = float(box[2] - box[0])
            detection.bbox.size_y = float(box[3] - box[1])
            hypothesis = ObjectHypothesisWithPose()
            hypothesis.hypothesis.class_id = str(label)
            hypothesis.hypothesis.score = float(score)
            detection.results.append(hypothesis)
            answer.detections.append(detection)
        self.publisher.publish(answer)


def to_cv2(message: Image) -> np.ndarray:
    """Do what cv_bridge's imgmsg_to_cv2(message, "bgr8") does: wrap, then convert into a copy."""
    wrapped = np.ndarray(
        (message.height, message.width, 3), np.uint8, message.data, strides=(message.step, 3, 1)
    )
    if message.encoding == "rgb8":
        return cv2.cvtColor(wrapped, cv2.COLOR_RGB2BGR)
    return wrapped.copy()


def main() -> int:
    rclpy.init()
    node = PlainDetector()
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
