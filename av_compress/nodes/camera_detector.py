# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""camera_detector: serves a camera detection bundle on an image topic."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from av_compress.data.detections import detections_to_fields, label_info_fields
from av_compress.data.images import RawImage, frame_from_message, raw_from_message
from av_compress.nodes.detections import DetectionArrayWriter, label_info_message
from av_compress.nodes.images import compressed_message, image_message
from av_compress.nodes.process import run_node
from av_compress.nodes.roles import EachAlone, OneSensor
from av_compress.nodes.topics import Advertise, latched_qos
from av_compress.report.pictures import annotate
from av_compress.tasks.base import Detections2D, ImageFrame, Task, decoded

_SAMPLE_SIZE = (720, 1280, 3)


class CameraOutputs:
    """Detections, what their labels mean, and annotated images for whoever looks."""

    def __init__(
        self, advertise: Advertise, task: Task[Any, Any], parameters: Mapping[str, Any]
    ) -> None:
        """Advertise the topics."""
        self._class_names = tuple(task.class_names)
        self._threshold = float(task.config()["score_threshold"])
        self._jpeg_quality = int(parameters["debug"]["jpeg_quality"])
        self._writer = DetectionArrayWriter()
        self._detections = advertise("vision_msgs/Detection2DArray", "~/output/detections", 1)
        self._labels = advertise("vision_msgs/LabelInfo", "~/output/label_info", latched_qos())
        self._image = advertise("sensor_msgs/Image", "~/debug/image", 1)
        self._compressed = advertise("sensor_msgs/CompressedImage", "~/debug/image/compressed", 1)

    def announce(self, stamp: Any) -> None:
        """Publish the class names and the score threshold, once for all who come later."""
        fields = label_info_fields(self._class_names, self._threshold)
        self._labels.publish(label_info_message(fields, stamp))

    def publish(self, frame: ImageFrame | RawImage, result: Detections2D) -> None:
        """Publish detections with the image's stamp and frame_id."""
        fields = detections_to_fields(result, frame.stamp_ns, frame.frame_id)
        self._detections.publish(self._writer.write(fields))

    def publish_debug(
        self, frame: ImageFrame | RawImage, result: Detections2D, context: Any
    ) -> None:
        """Publish the annotated image on each of its topics that has a subscriber."""
        raw = self._image.get_subscription_count() > 0
        compressed = self._compressed.get_subscription_count() > 0
        if not raw and not compressed:
            return
        image: ImageFrame = decoded(frame)
        picture = replace(image, pixels=annotate(image, result, self._class_names), color="bgr")
        if raw:
            self._image.publish(image_message(picture))
        if compressed:
            self._compressed.publish(compressed_message(picture, self._jpeg_quality))

    def shortfalls(self, context: Any) -> Mapping[str, str]:
        """Return that the model is told of the whole image."""
        return {}


class CameraReader(EachAlone):
    """Reads images."""

    def read(self, message: Any) -> ImageFrame:
        """Return the frame in an Image or CompressedImage."""
        return frame_from_message(message)

    def read_raw(self, message: Any) -> RawImage | ImageFrame:
        """Return an Image as it came; a CompressedImage is decoded."""
        return raw_from_message(message) if hasattr(message, "encoding") else self.read(message)

    def sample_message(self) -> Any:
        """Return a grey image."""
        return image_message(ImageFrame(np.full(_SAMPLE_SIZE, 114, np.uint8)))


class CameraDetectorRole(OneSensor):
    """What makes a serving node a camera detector."""

    name = "camera_detector"
    task_kind = "camera_detection"
    inputs: Mapping[str, str] = {
        "~/input/image": "sensor_msgs/Image",
        "~/input/image/compressed": "sensor_msgs/CompressedImage",
    }

    def make_reader(
        self, task: Task[Any, Any], parameters: Mapping[str, Any], warn: Callable[[str], None]
    ) -> CameraReader:
        """Return what reads images."""
        return CameraReader()

    def make_outputs(
        self, advertise: Advertise, task: Task[Any, Any], parameters: Mapping[str, Any]
    ) -> CameraOutputs:
        """Advertise detections, labels and annotated images."""
        return CameraOutputs(advertise, task, parameters)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the node until it is told to stop."""
    return run_node(CameraDetectorRole(), argv)


if __name__ == "__main__":
    sys.exit(main())
