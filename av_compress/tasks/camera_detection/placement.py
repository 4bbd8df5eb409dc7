# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Where an image lies in the network's input, and the way back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Placement:
    """An image of `image_width` x `image_height` pixels, resized into a rectangle of the input.

    Attributes:
        image_width: width of the original image.
        image_height: height of the original image.
        left: first column of the rectangle, in pixels of the network's input.
        top: first row of the rectangle.
        width: columns of the rectangle, at least 1.
        height: rows of the rectangle, at least 1.

    """

    image_width: int
    image_height: int
    left: int
    top: int
    width: int
    height: int

    def to_image(self, boxes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Map boxes [n, 4] (x1 y1 x2 y2) from pixels of the input to those of the image.

        Resizing maps pixel edges onto pixel edges, so the scale of each axis is the ratio of
        whole sizes: with a size rounded to whole pixels it differs a little between the axes.
        """
        scale = np.array([self.image_width / self.width, self.image_height / self.height] * 2)
        offset = np.array([self.left, self.top] * 2)
        return np.asarray((boxes - offset) * scale, np.float32)

    def to_input(self, boxes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Map boxes [n, 4] (x1 y1 x2 y2) from pixels of the image to those of the input."""
        scale = np.array([self.width / self.image_width, self.height / self.image_height] * 2)
        offset = np.array([self.left, self.top] * 2)
        return np.asarray(boxes * scale + offset, np.float32)


def stretch(image_size: tuple[int, int], input_size: tuple[int, int]) -> Placement:
    """Fill the whole input, whatever becomes of the aspect ratio; sizes are (width, height)."""
    return Placement(*image_size, 0, 0, *input_size)


def letterbox(
    image_size: tuple[int, int],
    input_size: tuple[int, int],
    anchor: Literal["center", "top_left"],
    rounding: Literal["round", "truncate"],
) -> Placement:
    """Keep the aspect ratio and leave the rest of the input to padding.

    Args:
        image_size: (width, height) of the image.
        input_size: (width, height) of the network's input.
        anchor: where the image lies; an odd pixel of padding goes right and below.
        rounding: how the resized size becomes whole (halves round up).

    """
    (image_width, image_height), (input_width, input_height) = image_size, input_size
    # Whole numbers throughout: in floating point 480 * (192 / 640) may fall short of 144.
    if input_width * image_height <= input_height * image_width:
        width, height = input_width, _scaled(image_height, input_width, image_width, rounding)
    else:
        width, height = _scaled(image_width, input_height, image_height, rounding), input_height
    if anchor == "top_left":
        return Placement(*image_size, 0, 0, width, height)
    left, top = (input_width - width) // 2, (input_height - height) // 2
    return Placement(*image_size, left, top, width, height)


def _scaled(
    extent: int, numerator: int, denominator: int, rounding: Literal["round", "truncate"]
) -> int:
    product = extent * numerator
    if rounding == "round":
        return max(1, (2 * product + denominator) // (2 * denominator))
    return max(1, product // denominator)
