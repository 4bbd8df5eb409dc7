# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Which pixels a resized one is made of, and with what weights: OpenCV's, to the last bit."""

from __future__ import annotations

from functools import lru_cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

# int32 [n, 4]: first and second pixel, weight of the first and of the second.
Taps: TypeAlias = npt.NDArray[np.int32]

# OpenCV's INTER_RESIZE_COEF_SCALE: weights are whole numbers of 11 bits.
_ONE = np.float32(2048)


@lru_cache(maxsize=64)
def nearest_taps(source: int, target: int) -> Taps:
    """Return the taps of cv2.INTER_NEAREST along an axis; second pixel and weight are unused.

    Args:
        source: pixels of the image.
        target: pixels of the resized one.

    """
    # The reciprocal of a ratio is what OpenCV computes; the ratio itself may differ by a bit.
    first = np.floor(np.arange(target) * (1.0 / (target / source))).astype(np.int64)
    first = np.minimum(first, source - 1)
    return _frozen(first, first, np.full(target, _ONE), np.zeros(target))


@lru_cache(maxsize=64)
def linear_column_taps(source: int, target: int) -> Taps:
    """Return the taps of cv2.INTER_LINEAR for 8-bit images along their rows.

    Beyond the outermost pixels, all the weight is theirs.
    """
    first, part = _linear(source, target)
    part[(first < 0) | (first >= source - 1)] = 0
    first = np.clip(first, 0, source - 1)
    second = np.minimum(first + 1, source - 1)
    return _frozen(first, second, *_weights(part))


@lru_cache(maxsize=64)
def linear_row_taps(source: int, target: int) -> Taps:
    """Return the taps of cv2.INTER_LINEAR for 8-bit images along their columns.

    Beyond the outermost pixels both are the outermost, and keep their weights: what is rounded
    off is rounded off twice.
    """
    first, part = _linear(source, target)
    second = np.clip(first + 1, 0, source - 1)
    return _frozen(np.clip(first, 0, source - 1), second, *_weights(part))


def _linear(source: int, target: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Return the pixel before each place, and how far behind it the place lies."""
    scale = 1.0 / (target / source)
    place = ((np.arange(target) + 0.5) * scale - 0.5).astype(np.float32)
    first = np.floor(place)
    return first.astype(np.int64), place - first


def _weights(
    part: npt.NDArray[np.float32],
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    # Halves go to the even neighbour.
    return np.rint((np.float32(1) - part) * _ONE), np.rint(part * _ONE)


def _frozen(*columns: npt.NDArray[np.number]) -> Taps:
    taps = np.stack(columns, axis=1).astype(np.int32)
    taps.flags.writeable = False
    return taps
