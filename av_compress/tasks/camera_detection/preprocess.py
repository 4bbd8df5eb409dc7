# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""From an image to the network's input tensor: one resize, one pass over the pixels.

Normalisation goes through a table of 256 values per channel, computed in float64: exact to the
last bit of the tensor's type, and no slower than arithmetic on the whole image.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from av_compress.errors import FrameError
from av_compress.tasks.base import ImageFrame
from av_compress.tasks.camera_detection.config import InputConfig, ResizeConfig
from av_compress.tasks.camera_detection.placement import Placement, letterbox, stretch
from av_compress.tensors import Array

_INTERPOLATIONS = {
    "linear": cv2.INTER_LINEAR,
    "area": cv2.INTER_AREA,
    "nearest": cv2.INTER_NEAREST,
    "cubic": cv2.INTER_CUBIC,
}


class Preprocessor:
    """Turns images into tensors. Holds only constants: safe to share between threads."""

    def __init__(self, target: InputConfig, resize: ResizeConfig) -> None:
        """Compute the normalisation table of `target`."""
        self._target = target
        self._resize = resize
        self._dtype = np.dtype(target.dtype)
        table = _table(target)
        self._padding: Array = table[resize.pad_value].astype(self._dtype)
        # OpenCV wants [1, 256] for planes and [1, 256, 3] for interleaved pixels.
        self._tables = [np.ascontiguousarray(column)[None] for column in table.T]
        self._table = table[None]

    @property
    def values(self) -> Array:
        """The tensor's element for each pixel value, [256, 3] of its type, by its channels."""
        if self._dtype == np.uint8:
            return np.arange(256, dtype=np.uint8)[:, None].repeat(3, axis=1)
        return np.asarray(self._table[0], self._dtype)

    @property
    def padding(self) -> Array:
        """The tensor's elements where there is no image, [3] of its type, by its channels."""
        return self._padding

    def place(self, width: int, height: int) -> Placement:
        """Tell where an image of this size lies in the input."""
        image_size, input_size = (width, height), (self._target.width, self._target.height)
        if self._resize.mode == "stretch":
            return stretch(image_size, input_size)
        return letterbox(image_size, input_size, self._resize.anchor, self._resize.rounding)

    def __call__(self, frame: ImageFrame, out: Array | None = None) -> tuple[Array, Placement]:
        """Return the input tensor, [1, 3, h, w] or [1, h, w, 3], and the image's place in it.

        Args:
            frame: the image.
            out: the tensor to write; by default one is made.

        Raises:
            FrameError: the pixels are not uint8 [height, width, 3], or there are none.

        """
        _check(frame)
        placement = self.place(frame.width, frame.height)
        pixels = self._resized(frame.pixels, placement)
        swap = frame.color != self._target.color
        tensor = np.empty(self._target.shape, self._dtype) if out is None else out
        if self._target.layout == "nchw":
            self._write_planes(tensor[0], pixels, placement, swap)
        else:
            self._write_interleaved(tensor[0], pixels, placement, swap)
        return tensor, placement

    def _resized(
        self, pixels: npt.NDArray[np.uint8], placement: Placement
    ) -> npt.NDArray[np.uint8]:
        size = (placement.width, placement.height)
        if size == (pixels.shape[1], pixels.shape[0]):
            return np.ascontiguousarray(pixels)
        interpolation = _INTERPOLATIONS[self._resize.interpolation]
        return np.asarray(cv2.resize(pixels, size, interpolation=interpolation), np.uint8)

    def _write_planes(
        self, planes: Array, pixels: npt.NDArray[np.uint8], placement: Placement, swap: bool
    ) -> None:
        for channel, plane in enumerate(planes):
            _pad(plane, placement, self._padding[channel])
            source = cv2.extractChannel(pixels, 2 - channel if swap else channel)
            _inner(plane, placement)[...] = self._look_up(source, self._tables[channel])

    def _write_interleaved(
        self, image: Array, pixels: npt.NDArray[np.uint8], placement: Placement, swap: bool
    ) -> None:
        _pad(image, placement, self._padding)
        source = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB) if swap else pixels
        _inner(image, placement)[...] = self._look_up(np.asarray(source), self._table)

    def _look_up(self, pixels: Array, table: npt.NDArray[np.float32]) -> Array:
        if self._dtype == np.uint8:
            return pixels
        return np.asarray(cv2.LUT(pixels, table))


def _table(target: InputConfig) -> npt.NDArray[np.float32]:
    """Tabulate (value - mean) / std for the tensor's channels, float32 [256, 3].

    Half precision is rounded here: each value is then exact in float32 too, which OpenCV needs.
    """
    values = (np.arange(256.0)[:, None] - np.array(target.mean)) / np.array(target.std)
    return np.asarray(values.astype(np.dtype(target.dtype)), np.float32)


def _check(frame: ImageFrame) -> None:
    pixels = frame.pixels
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
        raise FrameError(
            f"image {frame.key!r}: pixels are {pixels.dtype} {list(pixels.shape)}, "
            "wanted uint8 [height, width, 3]"
        )
    if pixels.size == 0:
        raise FrameError(f"image {frame.key!r} has no pixels: {frame.width}x{frame.height}")
    if frame.color not in {"bgr", "rgb"}:
        raise FrameError(f"image {frame.key!r}: color {frame.color!r}, wanted 'bgr' or 'rgb'")


def _inner(plane: Array, placement: Placement) -> Array:
    rows = slice(placement.top, placement.top + placement.height)
    return plane[rows, placement.left : placement.left + placement.width]


def _pad(plane: Array, placement: Placement, value: Array) -> None:
    """Fill what the image does not cover."""
    bottom, right = placement.top + placement.height, placement.left + placement.width
    plane[: placement.top] = value
    plane[bottom:] = value
    plane[placement.top : bottom, : placement.left] = value
    plane[placement.top : bottom, right:] = value
