# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""How camera_detection.cu reads each encoding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

# The kernel's readers, by the numbers that it knows them by.
_PIXELS, _YUV422, _NV12, _BAYER = range(4)


@dataclass(frozen=True)
class Reader:
    """What the kernel is told of an encoding.

    Attributes:
        kind: which reader.
        places: three numbers, whose meaning is the reader's.
        bytes: of a pixel, where the reader wants to know it.

    """

    kind: int
    places: tuple[int, int, int] = (0, 0, 0)
    bytes: int = 1


def _bayer(row: int, column: int) -> Reader:
    return Reader(_BAYER, (row, column, 0))


_BGR, _RGB = (0, 1, 2), (2, 1, 0)
_UYVY, _YUYV = Reader(_YUV422, (1, 0, 2)), Reader(_YUV422, (0, 1, 3))

READERS: Mapping[str, Reader] = {
    "bgr8": Reader(_PIXELS, _BGR, 3),
    "rgb8": Reader(_PIXELS, _RGB, 3),
    "8UC3": Reader(_PIXELS, _BGR, 3),
    "bgra8": Reader(_PIXELS, _BGR, 4),
    "rgba8": Reader(_PIXELS, _RGB, 4),
    "mono8": Reader(_PIXELS),
    "8UC1": Reader(_PIXELS),
    "yuv422": _UYVY,
    "uyvy": _UYVY,
    "yuv422_yuy2": _YUYV,
    "yuyv": _YUYV,
    "nv12": Reader(_NV12),
    "bayer_rggb8": _bayer(0, 0),
    "bayer_bggr8": _bayer(1, 1),
    "bayer_gbrg8": _bayer(1, 0),
    "bayer_grbg8": _bayer(0, 1),
}
