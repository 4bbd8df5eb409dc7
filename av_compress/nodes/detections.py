# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Detections as vision_msgs messages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

from av_compress.data.detections import DetectionFields, LabelInfoFields
from av_compress.nodes.ros import message_class
from av_compress.telemetry.windows import NS_PER_S


def time_message(stamp_ns: int) -> Any:
    """Return nanoseconds since the epoch as builtin_interfaces/Time."""
    seconds, nanoseconds = divmod(stamp_ns, NS_PER_S)
    return message_class("builtin_interfaces/Time")(sec=seconds, nanosec=nanoseconds)


def header_message(stamp_ns: int, frame_id: str) -> Any:
    """Return a std_msgs/Header."""
    return message_class("std_msgs/Header")(stamp=time_message(stamp_ns), frame_id=frame_id)


Values = TypeVar("Values", covariant=True)


class ArrayFields(Protocol[Values]):
    """The values of an array of detections."""

    @property
    def stamp_ns(self) -> int:
        """Time of the frame, in nanoseconds since the epoch."""

    @property
    def frame_id(self) -> str:
        """Frame of the sensor."""

    @property
    def detections(self) -> Sequence[Values]:
        """The values of each."""


class ArrayWriter(Generic[Values]):
    """Writes detections into an array of vision_msgs.

    A generated Python message builds dozens of objects for a single detection, its covariance
    among them, so detections are made once and written over: the message that `write` returns is
    valid until the next call. Not thread-safe.
    """

    def __init__(self, detection: str, fill: Callable[[Any, Values], None]) -> None:
        """Start without detections.

        Args:
            detection: the message of one, e.g. `vision_msgs/Detection2D`.
            fill: writes a detection's values into its message, which has one result.

        """
        self._array = message_class(f"{detection}Array")()
        self._detection = message_class(detection)
        self._fill = fill
        self._hypothesis = message_class("vision_msgs/ObjectHypothesisWithPose")
        self._made: list[Any] = []

    def write(self, fields: ArrayFields[Values]) -> Any:
        """Return the message that holds `fields`."""
        header = header_message(fields.stamp_ns, fields.frame_id)
        while len(self._made) < len(fields.detections):
            self._made.append(self._detection(results=[self._hypothesis()]))
        detections = self._made[: len(fields.detections)]
        for detection, values in zip(detections, fields.detections):
            detection.header = header
            self._fill(detection, values)
        self._array.header = header
        self._array.detections = detections
        return self._array


class DetectionArrayWriter(ArrayWriter[DetectionFields]):
    """Writes detections into a vision_msgs/Detection2DArray."""

    def __init__(self) -> None:
        """Start without detections."""
        super().__init__("vision_msgs/Detection2D", _fill)


def _fill(detection: Any, values: DetectionFields) -> None:
    box = detection.bbox
    position = box.center.position
    position.x, position.y = values.center_x, values.center_y
    box.size_x, box.size_y = values.size_x, values.size_y
    hypothesis = detection.results[0].hypothesis
    hypothesis.class_id, hypothesis.score = values.class_id, values.score


def label_info_message(fields: LabelInfoFields, stamp: Any) -> Any:
    """Return a vision_msgs/LabelInfo with `stamp`, a builtin_interfaces/Time."""
    entry = message_class("vision_msgs/VisionClass")
    message = message_class("vision_msgs/LabelInfo")(
        class_map=[entry(class_id=number, class_name=name) for number, name in fields.classes],
        threshold=fields.threshold,
    )
    message.header.stamp = stamp
    return message
