# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Images as messages."""

from __future__ import annotations

import array
from typing import Any

import cv2
import numpy as np

from av_compress.errors import FrameError
from av_compress.nodes.detections import header_message
from av_compress.nodes.ros import message_class
from av_compress.tasks.base import ImageFrame
from av_compress.tensors import Array


def image_message(frame: ImageFrame) -> Any:
    """Return a sensor_msgs/Image in `frame`'s own colour order."""
    pixels = np.ascontiguousarray(frame.pixels)
    return message_class("sensor_msgs/Image")(
        header=header_message(frame.stamp_ns, frame.frame_id),
        height=frame.height,
        width=frame.width,
        encoding=f"{frame.color}8",
        step=frame.width * 3,
        data=_bytes(pixels),
    )


def compressed_message(frame: ImageFrame, quality: int) -> Any:
    """Return a sensor_msgs/CompressedImage holding a JPEG of 1..100 `quality`.

    Raises:
        FrameError: the image cannot be encoded.

    """
    pixels = frame.pixels if frame.color == "bgr" else frame.pixels[..., ::-1]
    done, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise FrameError(f"an image of {frame.width} x {frame.height} cannot be encoded as JPEG")
    return message_class("sensor_msgs/CompressedImage")(
        header=header_message(frame.stamp_ns, frame.frame_id), format="jpeg", data=_bytes(data)
    )


def _bytes(values: Array) -> array.array[int]:
    # The only type that a message field takes without going through single numbers.
    data = array.array("B")
    data.frombytes(values.reshape(-1).data)
    return data
