# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Detections as vision_msgs of a bag that is written; the nodes publish the same fields."""

from __future__ import annotations

from typing import Any

import numpy as np

from av_compress.data.bag_writer import BagWriter
from av_compress.data.detections import DetectionArrayFields, DetectionFields, LabelInfoFields
from av_compress.data.detections3d import Detection3DArrayFields, Detection3DFields


class DetectionMessages:
    """Writes messages of vision_msgs into a bag."""

    def __init__(self, writer: BagWriter) -> None:
        """Take an open `writer`."""
        self._writer = writer
        self._make = writer.message

    def write_2d(self, topic: str, fields: DetectionArrayFields, time_ns: int) -> None:
        """Write a vision_msgs/Detection2DArray, received at `time_ns`."""
        header = self._writer.header(fields.stamp_ns, fields.frame_id)
        pose = self._pose((0.0, 0.0, 0.0), 0.0, 1.0)
        message = self._make(
            "vision_msgs/Detection2DArray",
            header=header,
            detections=[self._detection_2d(one, header, pose) for one in fields.detections],
        )
        self._writer.write(topic, message, time_ns)

    def write_3d(self, topic: str, fields: Detection3DArrayFields, time_ns: int) -> None:
        """Write a vision_msgs/Detection3DArray, received at `time_ns`."""
        header = self._writer.header(fields.stamp_ns, fields.frame_id)
        message = self._make(
            "vision_msgs/Detection3DArray",
            header=header,
            detections=[self._detection_3d(one, header) for one in fields.detections],
        )
        self._writer.write(topic, message, time_ns)

    def write_label_info(self, topic: str, fields: LabelInfoFields, time_ns: int) -> None:
        """Write a latched vision_msgs/LabelInfo, stamped and received at `time_ns`."""
        entries = [
            self._make("vision_msgs/VisionClass", class_id=index, class_name=name)
            for index, name in fields.classes
        ]
        message = self._make(
            "vision_msgs/LabelInfo",
            header=self._writer.header(time_ns, ""),
            class_map=entries,
            threshold=fields.threshold,
        )
        self._writer.write(topic, message, time_ns, latched=True)

    def _detection_2d(self, fields: DetectionFields, header: Any, pose: Any) -> Any:
        position = self._make("vision_msgs/Point2D", x=fields.center_x, y=fields.center_y)
        center = self._make("vision_msgs/Pose2D", position=position, theta=0.0)
        box = self._make(
            "vision_msgs/BoundingBox2D", center=center, size_x=fields.size_x, size_y=fields.size_y
        )
        result = self._hypothesis(fields.class_id, fields.score, pose)
        return self._make(
            "vision_msgs/Detection2D", header=header, results=[result], bbox=box, id=""
        )

    def _detection_3d(self, fields: Detection3DFields, header: Any) -> Any:
        pose = self._pose(fields.position, fields.orientation_z, fields.orientation_w)
        length, width, height = fields.size
        size = self._make("geometry_msgs/Vector3", x=length, y=width, z=height)
        box = self._make("vision_msgs/BoundingBox3D", center=pose, size=size)
        # A hypothesis has a pose of its own, which some read instead of the box's.
        result = self._hypothesis(fields.class_id, fields.score, pose)
        return self._make(
            "vision_msgs/Detection3D", header=header, results=[result], bbox=box, id=""
        )

    def _hypothesis(self, class_id: str, score: float, pose: Any) -> Any:
        hypothesis = self._make("vision_msgs/ObjectHypothesis", class_id=class_id, score=score)
        uncertain = self._make(
            "geometry_msgs/PoseWithCovariance", pose=pose, covariance=np.zeros(36, np.float64)
        )
        return self._make(
            "vision_msgs/ObjectHypothesisWithPose", hypothesis=hypothesis, pose=uncertain
        )

    def _pose(self, place: tuple[float, float, float], sin: float, cos: float) -> Any:
        """Make a pose: a place, and half an angle about z by its sine and cosine."""
        x, y, z = place
        position = self._make("geometry_msgs/Point", x=x, y=y, z=z)
        turn = self._make("geometry_msgs/Quaternion", x=0.0, y=0.0, z=sin, w=cos)
        return self._make("geometry_msgs/Pose", position=position, orientation=turn)
