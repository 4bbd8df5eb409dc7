# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Transforms out of messages, of rclpy or of a bag: odometry and tf."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from av_compress.data.images import stamp_of
from av_compress.data.transforms import Transform, Transforms
from av_compress.errors import DataError

ODOMETRY = "nav_msgs/Odometry"
TF = "tf2_msgs/TFMessage"
TF_TOPIC, TF_STATIC_TOPIC = "/tf", "/tf_static"


class MotionMessages:
    """Adds what messages tell of frames to transforms; a transform that is none is left out."""

    def __init__(self, transforms: Transforms, warn: Callable[[str], None]) -> None:
        """Hear nothing yet.

        Args:
            transforms: what is added to.
            warn: is told of transforms that are none.

        """
        self._transforms, self._warn = transforms, warn

    def odometry(self, message: Any) -> None:
        """Add a nav_msgs/Odometry: where `child_frame_id` was in the header's frame."""
        self._add(message.header, message.child_frame_id, message.pose.pose, "position")

    def tf(self, message: Any) -> None:
        """Add a tf2_msgs/TFMessage of /tf."""
        for one in message.transforms:
            self._add(one.header, one.child_frame_id, one.transform, "translation")

    def tf_static(self, message: Any) -> None:
        """Add a tf2_msgs/TFMessage of /tf_static, which holds for all times."""
        for one in message.transforms:
            transform = self._transform(one.transform, "translation")
            if transform is not None:
                self._transforms.add_static(one.header.frame_id, one.child_frame_id, transform)

    def _add(self, header: Any, child: str, pose: Any, place: str) -> None:
        transform = self._transform(pose, place)
        if transform is not None:
            self._transforms.add(header.frame_id, child, stamp_of(header), transform)

    def _transform(self, pose: Any, place: str) -> Transform | None:
        offset = getattr(pose, place)
        turn = getattr(pose, "rotation", None) or pose.orientation
        try:
            return Transform.of((offset.x, offset.y, offset.z), (turn.x, turn.y, turn.z, turn.w))
        except DataError as error:
            self._warn(str(error))
            return None
