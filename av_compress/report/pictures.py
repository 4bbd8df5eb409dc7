# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Annotated images, for debug topics and reports."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from functools import cache

import cv2
import numpy as np
import numpy.typing as npt

from av_compress.metrics.replay import FrameRecord
from av_compress.tasks.base import Detections2D, ImageFrame

Pixels = npt.NDArray[np.uint8]
Color = tuple[int, int, int]

# Hues a golden angle apart stay distinct however many classes there are.
_GOLDEN_ANGLE = 0.381966
_REFERENCE_WIDTH = 960
# Of lines and letters in pictures that a page shows at half their size.
_COMPARISON_SCALE = 1.1
_BLACK, _WHITE = (0, 0, 0), (255, 255, 255)
# BGR of the report's red and orange, and of what both models see.
MISSED, EXTRA, AGREED = (29, 49, 255), (0, 165, 255), (225, 225, 225)


@cache
def class_color(label: int) -> Color:
    """Return the colour of a class as BGR, 0..255."""
    red, green, blue = colorsys.hsv_to_rgb(label * _GOLDEN_ANGLE % 1.0, 0.8, 1.0)
    return int(blue * 255), int(green * 255), int(red * 255)


def annotate(frame: ImageFrame, result: Detections2D, class_names: Sequence[str]) -> Pixels:
    """Return a copy of the image, BGR, with each detection's box, class and score drawn in."""
    pixels = frame.pixels if frame.color == "bgr" else frame.pixels[..., ::-1]
    picture = np.array(pixels, order="C")
    scale = max(frame.width / _REFERENCE_WIDTH, 0.4)
    # Last first, so that the best stands on top.
    for index in reversed(range(len(result))):
        label = int(result.labels[index])
        text = f"{class_names[label]} {result.scores[index]:.2f}"
        _draw(picture, result.boxes[index], text, class_color(label), scale)
    return picture


def annotate_disagreement(
    pixels: Pixels, record: FrameRecord, class_names: Sequence[str], width: int
) -> tuple[Pixels, Pixels]:
    """Draw a compared frame as the reference and as the candidate saw it.

    Boxes that both see are pale and show their score; what the candidate missed is red in the
    reference's picture, what it alone sees is orange in its own. Boxes that the comparison left
    out are left out.

    Args:
        pixels: uint8 [height, width, 3] BGR.
        record: the frame, with a reference.
        class_names: label index -> name.
        width: of the two pictures, in pixels; the height follows.

    Raises:
        ValueError: the frame was not compared with a reference.

    """
    agreement, reference = record.agreement, record.reference
    if agreement is None or reference is None:
        raise ValueError(f"{record.key} was not compared with a reference")
    factor = width / pixels.shape[1]
    before, after = _resized(pixels, factor), _resized(pixels, factor)
    sides = (
        (before, reference, agreement.pairs[:, 0], agreement.missed, MISSED),
        (after, record.result, agreement.pairs[:, 1], agreement.extra, EXTRA),
    )
    for picture, result, agreed, alone, color in sides:
        for index in agreed[::-1]:
            box, score = result.boxes[index] * factor, result.scores[index]
            _draw(picture, box, f"{score:.2f}", AGREED, _COMPARISON_SCALE)
        for index in alone[::-1]:
            box, score = result.boxes[index] * factor, result.scores[index]
            text = f"{class_names[int(result.labels[index])]} {score:.2f}"
            _draw(picture, box, text, color, _COMPARISON_SCALE)
    return before, after


def _resized(pixels: Pixels, factor: float) -> Pixels:
    height, width = (max(1, round(factor * extent)) for extent in pixels.shape[:2])
    way = cv2.INTER_AREA if factor < 1.0 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=way), np.uint8)


def _draw(
    picture: Pixels, corners: npt.NDArray[np.float32], text: str, color: Color, scale: float
) -> None:
    """Draw a box and its label, above the box or inside where there is no room above it."""
    left, top, right, bottom = (round(float(value)) for value in corners)
    cv2.rectangle(picture, (left, top), (right, bottom), color, max(1, round(2 * scale)))
    tag(picture, text, (left, top), color, scale)


def tag(picture: Pixels, text: str, corner: tuple[int, int], color: Color, scale: float) -> None:
    """Write on a plate of a colour whose lower left corner is given, or below it at the top."""
    left, top = corner
    font, size, weight = cv2.FONT_HERSHEY_SIMPLEX, 0.5 * scale, max(1, round(scale))
    text = printable(text)
    (width, height), baseline = cv2.getTextSize(text, font, size, weight)
    left = max(0, min(left, picture.shape[1] - width))
    foot = max(top, height + baseline)
    upper = (left, foot - height - baseline)
    cv2.rectangle(picture, upper, (left + width, foot), color, -1)
    blue, green, red = color
    bright = 0.114 * blue + 0.587 * green + 0.299 * red > 110
    ink = _BLACK if bright else _WHITE
    cv2.putText(picture, text, (left, foot - baseline), font, size, ink, weight, cv2.LINE_AA)


def printable(text: str) -> str:
    """Return what OpenCV's fonts can write: they have no letters beyond ASCII."""
    return text.encode("ascii", "replace").decode()
