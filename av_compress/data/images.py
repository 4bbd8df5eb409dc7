# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Images out of messages and files: bytes in, pixels out, or a FrameError that says why not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from av_compress.data.buffers import bytes_of
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
        channels: bytes per pixel, in rows of more than one plane those of the first.
        convert: OpenCV's code for the conversion to BGR; None where the pixels stay as they are.
        color: channel order of the outcome.
        even_width: whether two pixels share their colour.
        half_height: whether two rows share their colour, in half as many rows below them.
        smallest: fewest rows and columns the conversion can work with.

    """

    channels: int
    convert: int | None
    color: Color = "bgr"
    even_width: bool = False
    half_height: bool = False
    smallest: int = 1

    def rows(self, height: int) -> int:
        """Return how many rows an image of `height` rows takes in memory."""
        return height * 3 // 2 if self.half_height else height


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
    "nv12": _Layout(1, cv2.COLOR_YUV2BGR_NV12, even_width=True, half_height=True),
    "bayer_rggb8": _bayer(cv2.COLOR_BayerBG2BGR),
    "bayer_bggr8": _bayer(cv2.COLOR_BayerRG2BGR),
    "bayer_gbrg8": _bayer(cv2.COLOR_BayerGR2BGR),
    "bayer_grbg8": _bayer(cv2.COLOR_BayerGB2BGR),
}

ENCODINGS = tuple(_LAYOUTS)


@dataclass(frozen=True)
class RawImage:
    """The content of a sensor_msgs/Image that is known to be an image, as it came.

    Attributes:
        encoding: one of `ENCODINGS`.
        height: rows.
        width: pixels per row.
        step: bytes per row, padding included.
        data: uint8 [n], a view of what was given (anything with the buffer protocol: bytes,
            array.array, memoryview, numpy): all rows, and nothing behind them.
        stamp_ns: see `ImageFrame`.
        frame_id: see `ImageFrame`.
        key: see `ImageFrame`.

    """

    encoding: str
    height: int
    width: int
    step: int
    data: Pixels
    stamp_ns: int = 0
    frame_id: str = ""
    key: str = ""

    def __post_init__(self) -> None:
        """Check everything.

        Raises:
            FrameError: encoding, size, step and amount of data do not make an image.

        """
        layout = _LAYOUTS.get(self.encoding)
        if layout is None:
            raise FrameError(
                f"encoding {self.encoding!r} is not supported; allowed: {', '.join(ENCODINGS)}"
            )
        _check_size(self.encoding, layout, self.height, self.width, self.step)
        flat, rows = bytes_of(self.data, "image"), layout.rows(self.height)
        if flat.size < rows * self.step:
            raise FrameError(
                f"{self.encoding} image of {self.width} x {self.height} is truncated: {rows} rows "
                f"of step {self.step} are {rows * self.step} bytes, the message has {flat.size}"
            )
        object.__setattr__(self, "data", flat[: rows * self.step])

    def pixels(self) -> tuple[Pixels, Color]:
        """Return uint8 [height, width, 3] and its channel order.

        bgr8, 8UC3 and rgb8 are views of `data`, strided where the rows are padded; everything
        else is converted to BGR.

        Raises:
            FrameError: OpenCV cannot convert it.

        """
        layout = _LAYOUTS[self.encoding]
        rows = self.data.reshape(-1, self.step)[:, : self.width * layout.channels]
        if layout.channels > 1:
            # Splitting the last axis of a strided view is a view again.
            rows = rows.reshape(self.height, self.width, layout.channels)
        if layout.convert is None:
            return rows, layout.color
        code = layout.convert
        return _guard(lambda: cv2.cvtColor(rows, code), f"{self.encoding} image"), layout.color

    def decode(self) -> ImageFrame:
        """Return the frame; see `pixels`."""
        return ImageFrame(*self.pixels(), self.stamp_ns, self.frame_id, self.key)


def decode_raw(
    encoding: str, height: int, width: int, step: int, data: Any
) -> tuple[Pixels, Color]:
    """Decode the fields of a sensor_msgs/Image; see `RawImage`.

    Raises:
        FrameError: encoding, size, step and amount of data do not make an image.

    """
    return RawImage(encoding, height, width, step, data).pixels()


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
    if layout.half_height and height % 2:
        raise FrameError(f"{encoding} image of odd height {height}: two rows share their colour")


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
    return _decode_file(
        bytes_of(data, "image").tobytes(), f"compressed image of format {format!r}"
    )


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


def raw_from_message(message: Any, key: str = "") -> RawImage:
    """Take a sensor_msgs/Image of rclpy or of a bag as it is, without decoding it.

    Args:
        message: the image; its data must stay as it is while the outcome is in use.
        key: the frame's key.

    Raises:
        FrameError: see `RawImage`; or it is no sensor_msgs/Image.

    """
    if not hasattr(message, "encoding"):
        raise _no_image(message, "sensor_msgs/Image")
    return RawImage(
        message.encoding,
        message.height,
        message.width,
        message.step,
        message.data,
        stamp_of(message.header),
        str(message.header.frame_id),
        key,
    )


def frame_from_message(message: Any, key: str = "") -> ImageFrame:
    """Make a frame of a sensor_msgs Image or CompressedImage of rclpy or of a bag.

    Args:
        message: has `encoding` (Image) or `format` (CompressedImage).
        key: the frame's key.

    Raises:
        FrameError: see `RawImage` and `decode_compressed`.

    """
    if hasattr(message, "encoding"):
        return raw_from_message(message, key).decode()
    if not hasattr(message, "format"):
        raise _no_image(message, "sensor_msgs/Image, sensor_msgs/CompressedImage")
    pixels = decode_compressed(message.format, message.data)
    header = message.header
    return ImageFrame(pixels, "bgr", stamp_of(header), str(header.frame_id), key)


def _no_image(message: Any, allowed: str) -> FrameError:
    return FrameError(f"{type(message).__name__} is not an image; allowed: {allowed}")


def stamp_of(header: Any) -> int:
    """Return a std_msgs/Header's stamp in nanoseconds."""
    return int(header.stamp.sec) * NS_PER_S + int(header.stamp.nanosec)


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
