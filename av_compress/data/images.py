# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Images out of messages and files: bytes in, pixels out, or a FrameError that says why not."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from av_compress.errors import DataError, FrameError
from av_compress.tasks.base import ImageFrame

Pixels: TypeAlias = npt.NDArray[np.uint8]
Color: TypeAlias = Literal["bgr", "rgb"]

NS_PER_S = 1_000_000_000

_JPEG_START = b"\xff\xd8\xff"
_JPEG_SCAN = b"\xff\xda"
_JPEG_END = b"\xff\xd9"
_PNG_START = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"IEND\xaeB`\x82"
_PNG_DEPTH_BYTE = 24


@dataclass(frozen=True)
class _Layout:
    """How an encoding lies in memory.

    Attributes:
        channels: bytes per pixel.
        convert: OpenCV's code for the conversion to BGR; None where the pixels stay as they are.
        color: channel order of the outcome.
        even_width: whether two pixels share their colour.
        smallest: fewest rows and columns the conversion can work with.

    """

    channels: int
    convert: int | None
    color: Color = "bgr"
    even_width: bool = False
    smallest: int = 1


def _bayer(code: int) -> _Layout:
    return _Layout(1, code, smallest=3)


# OpenCV names a Bayer pattern by its second row and columns two and three, ROS by the first
# row from the first column: RGGB there is BG here.
_LAYOUTS: Mapping[str, _Layout] = {
    "bgr8": _Layout(3, None),
    "rgb8": _Layout(3, None, color="rgb"),
    "8UC3": _Layout(3, None),
    "bgra8": _Layout(4, cv2.COLOR_BGRA2BGR),
    "rgba8": _Layout(4, cv2.COLOR_RGBA2BGR),
    "mono8": _Layout(1, cv2.COLOR_GRAY2BGR),
    "8UC1": _Layout(1, cv2.COLOR_GRAY2BGR),
    "yuv422": _Layout(2, cv2.COLOR_YUV2BGR_UYVY, even_width=True),
    "uyvy": _Layout(2, cv2.COLOR_YUV2BGR_UYVY, even_width=True),
    "yuv422_yuy2": _Layout(2, cv2.COLOR_YUV2BGR_YUY2, even_width=True),
    "yuyv": _Layout(2, cv2.COLOR_YUV2BGR_YUY2, even_width=True),
    "bayer_rggb8": _bayer(cv2.COLOR_BayerBG2BGR),
    "bayer_bggr8": _bayer(cv2.COLOR_BayerRG2BGR),
    "bayer_gbrg8": _bayer(cv2.COLOR_BayerGR2BGR),
    "bayer_grbg8": _bayer(cv2.COLOR_BayerGB2BGR),
}

ENCODINGS = tuple(_LAYOUTS)


def decode_raw(
    encoding: str, height: int, width: int, step: int, data: Any
) -> tuple[Pixels, Color]:
    """Decode the fields of a sensor_msgs/Image.

    Args:
        encoding: one of `ENCODINGS`.
        height: rows.
        width: pixels per row.
        step: bytes per row, padding included.
        data: anything with the buffer protocol: bytes, array.array, memoryview, numpy.

    Returns:
        uint8 [height, width, 3] and its channel order. bgr8, 8UC3 and rgb8 are views of `data`,
        strided where the rows are padded; everything else is converted to BGR.

    Raises:
        FrameError: encoding, size, step and amount of data do not make an image.

    """
    layout = _LAYOUTS.get(encoding)
    if layout is None:
        raise FrameError(
            f"encoding {encoding!r} is not supported; allowed: {', '.join(ENCODINGS)}"
        )
    _check_size(encoding, layout, height, width, step)
    flat = _bytes(data)
    if flat.size < height * step:
        raise FrameError(
            f"{encoding} image of {width} x {height} is truncated: {height} rows of step {step} "
            f"are {height * step} bytes, the message has {flat.size}"
        )
    rows = flat[: height * step].reshape(height, step)[:, : width * layout.channels]
    if layout.channels > 1:
        # Splitting the last axis of a strided view is a view again.
        rows = rows.reshape(height, width, layout.channels)
    if layout.convert is None:
        return rows, layout.color
    code = layout.convert
    return _guard(lambda: cv2.cvtColor(rows, code), f"{encoding} image"), layout.color


def _check_size(encoding: str, layout: _Layout, height: int, width: int, step: int) -> None:
    if height < layout.smallest or width < layout.smallest:
        raise FrameError(
            f"{encoding} image of {width} x {height} pixels: "
            f"at least {layout.smallest} x {layout.smallest} are needed"
        )
    if step < width * layout.channels:
        raise FrameError(
            f"{encoding} image with step {step}: a row of {width} pixels "
            f"takes {width * layout.channels} bytes"
        )
    if layout.even_width and width % 2:
        raise FrameError(f"{encoding} image of odd width {width}: two pixels share their colour")


def decode_compressed(format: str, data: Any) -> Pixels:
    """Decode the fields of a sensor_msgs/CompressedImage that holds a JPEG or PNG.

    What the data begins with decides, since drivers write `jpeg`, `bgr8; jpeg compressed bgr8`,
    or nothing into the format.

    Args:
        format: the message's format, for refusing depth images and for messages.
        data: anything with the buffer protocol.

    Returns:
        uint8 [height, width, 3], BGR.

    Raises:
        FrameError: neither JPEG nor PNG, a depth image, truncated or damaged.

    """
    if "compressedDepth" in format:
        raise FrameError(
            f"format {format!r} is a depth image; a camera image in JPEG or PNG is needed"
        )
    return _decode_file(_bytes(data).tobytes(), f"compressed image of format {format!r}")


def read_image(path: Path) -> Pixels:
    """Read a JPEG or PNG file as uint8 [height, width, 3] BGR.

    Raises:
        FrameError: the file is neither, truncated or damaged.
        DataError: the file cannot be read.

    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    return _decode_file(content, str(path))


def frame_from_message(message: Any, key: str = "") -> ImageFrame:
    """Make a frame of a sensor_msgs Image or CompressedImage of rclpy or of a bag.

    Args:
        message: has `encoding` (Image) or `format` (CompressedImage).
        key: the frame's key.

    Raises:
        FrameError: see `decode_raw` and `decode_compressed`.

    """
    color: Color = "bgr"
    if hasattr(message, "encoding"):
        pixels, color = decode_raw(
            message.encoding, message.height, message.width, message.step, message.data
        )
    elif hasattr(message, "format"):
        pixels = decode_compressed(message.format, message.data)
    else:
        raise FrameError(
            f"{type(message).__name__} is not an image; "
            "allowed: sensor_msgs/Image, sensor_msgs/CompressedImage"
        )
    return ImageFrame(pixels, color, stamp_of(message.header), str(message.header.frame_id), key)


def stamp_of(header: Any) -> int:
    """Return a std_msgs/Header's stamp in nanoseconds."""
    return int(header.stamp.sec) * NS_PER_S + int(header.stamp.nanosec)


def content_sha256(frame: ImageFrame) -> str:
    """Return the hex SHA-256 of what `frame` shows: its size and its pixels as BGR."""
    pixels = frame.pixels if frame.color == "bgr" else frame.pixels[..., ::-1]
    digest = hashlib.sha256(f"{frame.width}x{frame.height}:".encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


def _decode_file(content: bytes, what: str) -> Pixels:
    if content.startswith(_JPEG_START):
        # OpenCV before 5 fills the missing part of a truncated JPEG with grey and says nothing.
        # Inside a scan no end marker can occur, so a whole file has one behind its last scan.
        whole = content.rfind(_JPEG_END) > content.rfind(_JPEG_SCAN)
        kind = "JPEG"
    elif content.startswith(_PNG_START):
        whole = _PNG_END in content[-64:]
        kind = "PNG"
        if content[_PNG_DEPTH_BYTE : _PNG_DEPTH_BYTE + 1] == b"\x10":
            raise FrameError(f"{what} is a PNG of 16 bits per channel; 8 are needed")
    else:
        start = content[:4].hex(" ") or "nothing"
        raise FrameError(
            f"{what} holds neither JPEG nor PNG: {len(content)} bytes, beginning with {start}"
        )
    if not whole:
        raise FrameError(f"{what} is truncated: {len(content)} bytes without the {kind}'s end")
    buffer = np.frombuffer(content, np.uint8)
    return _guard(
        lambda: cv2.imdecode(buffer, cv2.IMREAD_COLOR),
        f"{what}, a damaged {kind} of {len(content)} bytes,",
    )


def _guard(work: Callable[[], Any], what: str) -> Pixels:
    """Run OpenCV; what it says of data it cannot use becomes a FrameError."""
    try:
        pixels: Pixels | None = work()
    except cv2.error as error:
        raise FrameError(f"{what} cannot be decoded: {str(error).strip()}") from error
    if pixels is None or pixels.size == 0:
        raise FrameError(f"{what} cannot be decoded")
    return pixels


def _bytes(data: Any) -> Pixels:
    try:
        return np.frombuffer(data, np.uint8)
    except (TypeError, ValueError, BufferError) as error:
        if hasattr(data, "__len__") and len(data) == 0:
            return np.zeros(0, np.uint8)  # What is empty has no type worth a complaint.
        raise FrameError(
            f"image data of type {type(data).__name__} is not a contiguous buffer of bytes; "
            "use bytes, array.array('B') or a numpy array"
        ) from error
