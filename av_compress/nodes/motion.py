# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The vehicle's motion out of messages, for bringing sweeps together."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from av_compress.data.images import stamp_of
from av_compress.data.transforms import Transform, Transforms
from av_compress.errors import DataError


@dataclass(frozen=True)
class Listener:
    """Something that a node hears beside what it serves.

    Attributes:
        topic: its name.
        kind: its message type.
        latched: whether late subscribers get what was published before.
        receive: takes a message; must be quick and must not raise.

    """

    topic: str
    kind: str
    latched: bool
    receive: Callable[[Any], None]


class SharedTransforms(Transforms):
    """Transforms that one thread hears and another looks up."""

    def __init__(self) -> None:
        """Start without frames."""
        super().__init__()
        self._lock = threading.Lock()

    def add(self, parent: str, child: str, stamp_ns: int, transform: Transform) -> None:
        """See `Transforms.add`."""
        with self._lock:
            super().add(parent, child, stamp_ns, transform)

    def add_static(self, parent: str, child: str, transform: Transform) -> None:
        """See `Transforms.add_static`."""
        with self._lock:
            super().add_static(parent, child, transform)

    def lookup(self, target: str, source: str, stamp_ns: int) -> Transform:
        """See `Transforms.lookup`."""
        with self._lock:
            return super().lookup(target, source, stamp_ns)


class Motion:
    """Hears odometry and tf.

    Attributes:
        transforms: what was heard.

    """

    def __init__(self, warn: Callable[[str], None]) -> None:
        """Hear nothing yet.

        Args:
            warn: is told of messages that hold no transform.

        """
        self.transforms = SharedTransforms()
        self._warn = warn

    def listeners(self) -> list[Listener]:
        """Return what is to be heard."""
        return [
            Listener("~/input/odometry", "nav_msgs/Odometry", False, self._odometry),
            Listener("/tf", "tf2_msgs/TFMessage", False, self._tf),
            Listener("/tf_static", "tf2_msgs/TFMessage", True, self._tf_static),
        ]

    def _odometry(self, message: Any) -> None:
        self._add(message.header, message.child_frame_id, message.pose.pose, "position")

    def _tf(self, message: Any) -> None:
        for one in message.transforms:
            self._add(one.header, one.child_frame_id, one.transform, "translation")

    def _tf_static(self, message: Any) -> None:
        for one in message.transforms:
            transform = self._transform(one.transform, "translation")
            if transform is not None:
                self.transforms.add_static(one.header.frame_id, one.child_frame_id, transform)

    def _add(self, header: Any, child: str, pose: Any, place: str) -> None:
        transform = self._transform(pose, place)
        if transform is not None:
            self.transforms.add(header.frame_id, child, stamp_of(header), transform)

    def _transform(self, pose: Any, place: str) -> Transform | None:
        offset = getattr(pose, place)
        turn = getattr(pose, "rotation", None) or pose.orientation
        try:
            return Transform.of((offset.x, offset.y, offset.z), (turn.x, turn.y, turn.z, turn.w))
        except DataError as error:
            self._warn(str(error))
            return None
