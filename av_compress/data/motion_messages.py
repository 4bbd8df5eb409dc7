# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Transforms out of messages, of rclpy or of a bag: odometry and tf."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from av_compress.data.images import stamp_of
from av_compress.data.link_sources import Claim, LinkSources
from av_compress.data.transforms import Transform
from av_compress.errors import DataError

ODOMETRY = "nav_msgs/Odometry"
TF = "tf2_msgs/TFMessage"
TF_TOPIC, TF_STATIC_TOPIC = "/tf", "/tf_static"


class Tree(Protocol):
    """What transforms are added to; see `Transforms`."""

    def add(self, parent: str, child: str, stamp_ns: int, transform: Transform) -> None:
        """See `Transforms.add`."""

    def add_static(self, parent: str, child: str, transform: Transform) -> None:
        """See `Transforms.add_static`."""

    def forget(self, child: str) -> None:
        """See `Transforms.forget`."""


class MotionMessages:
    """Adds what messages tell of frames to transforms.

    A transform that is none is left out, and so is what a second source tells of a frame; see
    `LinkSources`.
    """

    def __init__(
        self,
        transforms: Tree,
        odometry: str,
        warn: Callable[[str], None],
        ignored: Callable[[str], None],
    ) -> None:
        """Hear nothing yet.

        Args:
            transforms: what is added to.
            odometry: the topic that odometry comes on.
            warn: is told of transforms that are none.
            ignored: is told, once of each, of sources that are left out.

        """
        self._transforms, self._odometry, self._warn = transforms, odometry, warn
        self._sources = LinkSources(transforms.forget, ignored)

    def forget(self) -> None:
        """Begin anew: whoever tells of a frame next is its source."""
        self._sources.forget()

    def prefer_odometry(self, message: Any) -> None:
        """Let the frame of a nav_msgs/Odometry be told by odometry alone."""
        claim = Claim(self._odometry, message.header.frame_id)
        self._sources.choose(message.child_frame_id, claim)

    def odometry(self, message: Any) -> None:
        """Add a nav_msgs/Odometry: where `child_frame_id` was in the header's frame."""
        child, pose = message.child_frame_id, message.pose.pose
        self._add(self._odometry, message.header, child, pose, "position")

    def tf(self, message: Any) -> None:
        """Add a tf2_msgs/TFMessage of /tf."""
        for one in message.transforms:
            self._add(TF_TOPIC, one.header, one.child_frame_id, one.transform, "translation")

    def tf_static(self, message: Any) -> None:
        """Add a tf2_msgs/TFMessage of /tf_static, which holds for all times."""
        for one in message.transforms:
            parent, child = one.header.frame_id, one.child_frame_id
            transform = self._transform(one.transform, "translation")
            claim = Claim(TF_STATIC_TOPIC, parent, moves=False)
            if transform is not None and self._sources.accepts(child, claim, stamp_of(one.header)):
                self._transforms.add_static(parent, child, transform)

    def _add(self, source: str, header: Any, child: str, pose: Any, place: str) -> None:
        transform, stamp_ns = self._transform(pose, place), stamp_of(header)
        claim = Claim(source, header.frame_id)
        if transform is not None and self._sources.accepts(child, claim, stamp_ns):
            self._transforms.add(header.frame_id, child, stamp_ns, transform)

    def _transform(self, pose: Any, place: str) -> Transform | None:
        offset = getattr(pose, place)
        turn = getattr(pose, "rotation", None) or pose.orientation
        try:
            return Transform.of((offset.x, offset.y, offset.z), (turn.x, turn.y, turn.z, turn.w))
        except DataError as error:
            self._warn(str(error))
            return None
