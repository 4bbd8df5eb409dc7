# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Detections as vision_msgs messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from av_compress.nodes.ros import message_class
from av_compress.tasks.base import Detections2D

_NS_PER_S = 1_000_000_000


def time_message(stamp_ns: int) -> Any:
    """Return nanoseconds since the epoch as builtin_interfaces/Time."""
    seconds, nanoseconds = divmod(stamp_ns, _NS_PER_S)
    return message_class("builtin_interfaces/Time")(sec=seconds, nanosec=nanoseconds)


def header_message(stamp_ns: int, frame_id: str) -> Any:
    """Return a std_msgs/Header."""
    return message_class("std_msgs/Header")(stamp=time_message(stamp_ns), frame_id=frame_id)


class DetectionArrayWriter:
    """Writes Detections2D into vision_msgs/Detection2DArray.

    A generated Python message builds dozens of objects for a single detection, its covariance
    among them, so detections are made once and written over: the message that `write` returns is
    valid until the next call. Not thread-safe.
    """

    def __init__(self, class_ids: Sequence[str]) -> None:
        """Prepare; `class_ids` maps label index to the hypotheses' class_id."""
        self._class_ids = tuple(class_ids)
        self._array = message_class("vision_msgs/Detection2DArray")()
        self._detection = message_class("vision_msgs/Detection2D")
        self._hypothesis = message_class("vision_msgs/ObjectHypothesisWithPose")
        self._made: list[Any] = []

    def write(self, stamp_ns: int, frame_id: str, result: Detections2D) -> Any:
        """Return the message for `result`, every header with `stamp_ns` and `frame_id`."""
        header = header_message(stamp_ns, frame_id)
        while len(self._made) < len(result):
            self._made.append(self._detection(results=[self._hypothesis()]))
        detections = self._made[: len(result)]
        boxes = result.boxes.astype(np.float64)
        rows = np.concatenate(
            ((boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]), axis=1
        ).tolist()
        # tolist() gives Python's own numbers; a message field takes no others.
        for detection, row, score, label in zip(
            detections, rows, result.scores.tolist(), result.labels.tolist()
        ):
            detection.header = header
            box = detection.bbox
            position = box.center.position
            position.x, position.y, box.size_x, box.size_y = row
            hypothesis = detection.results[0].hypothesis
            hypothesis.class_id = self._class_ids[label]
            hypothesis.score = score
        self._array.header = header
        self._array.detections = detections
        return self._array


def label_info_message(class_names: Sequence[str], threshold: float, stamp: Any) -> Any:
    """Return a vision_msgs/LabelInfo: what the class ids mean, and the lowest score."""
    entry = message_class("vision_msgs/VisionClass")
    message = message_class("vision_msgs/LabelInfo")(
        class_map=[
            entry(class_id=index, class_name=name) for index, name in enumerate(class_names)
        ],
        threshold=float(threshold),
    )
    message.header.stamp = stamp
    return message
