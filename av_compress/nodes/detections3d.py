# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Detections in space as messages: vision_msgs for programs, markers for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from av_compress.data.detections3d import Detection3DArrayFields, Detection3DFields
from av_compress.nodes.detections import ArrayWriter, header_message
from av_compress.nodes.ros import message_class
from av_compress.report.pictures import class_color

_ALPHA = 0.4
_TEXT_HEIGHT_M = 0.8
# visualization_msgs/Marker
_ADD, _DELETE_ALL = 0, 3
_CUBE, _TEXT = 1, 9


class Detection3DArrayWriter(ArrayWriter[Detection3DFields]):
    """Writes detections into a vision_msgs/Detection3DArray."""

    def __init__(self) -> None:
        """Start without detections."""
        super().__init__("vision_msgs/Detection3D", _fill)


def _fill(detection: Any, values: Detection3DFields) -> None:
    _place(detection.bbox.center, values)
    size = detection.bbox.size
    size.x, size.y, size.z = values.size
    result = detection.results[0]
    # A hypothesis has a pose of its own: consumers of Autoware's and others read this one.
    _place(result.pose.pose, values)
    result.hypothesis.class_id, result.hypothesis.score = values.class_id, values.score


def markers_message(fields: Detection3DArrayFields, class_names: Sequence[str]) -> Any:
    """Return a visualization_msgs/MarkerArray: what was there goes, boxes and names come."""
    header = header_message(fields.stamp_ns, fields.frame_id)
    marker = message_class("visualization_msgs/Marker")
    found = [marker(header=header, action=_DELETE_ALL)]
    for number, values in enumerate(fields.detections):
        label = int(values.class_id)
        red, green, blue = class_color(label)
        box = marker(header=header, ns="boxes", id=number, type=_CUBE, action=_ADD)
        _place(box.pose, values)
        box.scale.x, box.scale.y, box.scale.z = values.size
        text = marker(header=header, ns="names", id=number, type=_TEXT, action=_ADD)
        _place(text.pose, values)
        text.pose.position.z += values.size[2] / 2 + _TEXT_HEIGHT_M
        text.scale.z = _TEXT_HEIGHT_M
        text.text = f"{class_names[label]} {values.score:.2f}"
        for one, alpha in ((box, _ALPHA), (text, 1.0)):
            one.color.r, one.color.g, one.color.b = red / 255, green / 255, blue / 255
            one.color.a = alpha
        found += [box, text]
    return message_class("visualization_msgs/MarkerArray")(markers=found)


def _place(pose: Any, values: Detection3DFields) -> None:
    position, turn = pose.position, pose.orientation
    position.x, position.y, position.z = values.position
    turn.z, turn.w = values.orientation_z, values.orientation_w
