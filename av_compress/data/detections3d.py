# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Detections in space as the fields of vision_msgs, for the node's publisher and for bags."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from av_compress.data.detections import class_id
from av_compress.tasks.base import Detections3D


@dataclass(frozen=True)
class Detection3DFields:
    """The fields of a vision_msgs/Detection3D, as Python's own numbers.

    Attributes:
        position: of the box's centre: x, y, z in metres.
        orientation_z: of the quaternion that turns it about z; x and y are 0.
        orientation_w: of the same.
        size: length along the heading, width and height in metres.
        class_id: `class_id` of the label.
        score: 0..1.

    """

    position: tuple[float, float, float]
    orientation_z: float
    orientation_w: float
    size: tuple[float, float, float]
    class_id: str
    score: float


@dataclass(frozen=True)
class Detection3DArrayFields:
    """The fields of a vision_msgs/Detection3DArray; every header holds this stamp and frame_id."""

    stamp_ns: int
    frame_id: str
    detections: tuple[Detection3DFields, ...]


def detections3d_to_fields(
    result: Detections3D, stamp_ns: int, frame_id: str
) -> Detection3DArrayFields:
    """Turn a result into message fields; vision_msgs has no place for velocities.

    Args:
        result: boxes in the cloud's frame.
        stamp_ns: the cloud's stamp.
        frame_id: the cloud's frame_id.

    """
    boxes = result.boxes.astype(np.float64)
    half = boxes[:, 6] / 2
    turns = np.stack((np.sin(half), np.cos(half)), axis=1).tolist()
    return Detection3DArrayFields(
        stamp_ns,
        frame_id,
        tuple(
            Detection3DFields((x, y, z), sin, cos, (length, width, height), class_id(label), score)
            for (x, y, z, length, width, height, _), (sin, cos), label, score in zip(
                boxes.tolist(), turns, result.labels.tolist(), result.scores.tolist()
            )
        ),
    )
