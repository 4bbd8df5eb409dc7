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

from av_compress.tasks.base import Detections2D, ImageFrame

# Hues a golden angle apart stay distinct however many classes there are.
_GOLDEN_ANGLE = 0.381966
_REFERENCE_WIDTH = 960


@cache
def class_color(label: int) -> tuple[int, int, int]:
    """Return the colour of a class as BGR, 0..255."""
    red, green, blue = colorsys.hsv_to_rgb(label * _GOLDEN_ANGLE % 1.0, 0.8, 1.0)
    return int(blue * 255), int(green * 255), int(red * 255)


def annotate(
    frame: ImageFrame, result: Detections2D, class_names: Sequence[str]
) -> npt.NDArray[np.uint8]:
    """Return a copy of the image, BGR, with each detection's box, class and score drawn in."""
    pixels = frame.pixels if frame.color == "bgr" else frame.pixels[..., ::-1]
    picture = np.array(pixels, order="C")
    scale = max(frame.width / _REFERENCE_WIDTH, 0.4)
    # Worst first, so that the best stands on top.
    for index in reversed(range(len(result))):
        label = int(result.labels[index])
        _draw(
            picture,
            tuple(round(float(value)) for value in result.boxes[index]),
            f"{class_names[label]} {result.scores[index]:.2f}",
            class_color(label),
            scale,
        )
    return picture


def _draw(
    picture: npt.NDArray[np.uint8],
    box: tuple[int, ...],
    text: str,
    color: tuple[int, int, int],
    scale: float,
) -> None:
    left, top, right, bottom = box
    thickness = max(1, round(2 * scale))
    font, size = cv2.FONT_HERSHEY_SIMPLEX, 0.5 * scale
    (width, height), baseline = cv2.getTextSize(text, font, size, 1)
    # The label stands above its box where the image has room for it.
    foot = max(top, height + baseline)
    cv2.rectangle(picture, (left, top), (right, bottom), color, thickness)
    cv2.rectangle(picture, (left, foot - height - baseline), (left + width, foot), color, -1)
    cv2.putText(picture, text, (left, foot - baseline), font, size, (0, 0, 0), 1, cv2.LINE_AA)
