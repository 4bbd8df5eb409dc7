# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""How well a range of INT8 represents a distribution."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

_STEPS = 127


def signal_to_noise_db(
    counts: npt.NDArray[np.int64], bin_width: float, low: float, high: float
) -> float:
    """Return the ratio of power to quantisation error, in decibels; larger is better.

    The scale is symmetric, the larger of `-low` and `high` over 127; values outside of the range
    are clipped. Each bin counts with its centre, the middle one with zero, since what it holds is
    mostly exact zeros.

    Args:
        counts: int64 [2 n + 1]; the middle bin holds |x| < bin_width, the one after it
            bin_width <= x < 2 bin_width.
        bin_width: width of a bin.
        low: smallest value represented.
        high: largest value represented.

    Returns:
        infinity where nothing is lost, or nothing but zeros was seen.

    """
    side = len(counts) // 2
    index = np.arange(-side, side + 1)
    centers = (index + 0.5 * np.sign(index)) * bin_width
    step = max(-low, high) / _STEPS
    represented = np.clip(np.rint(centers / step), -_STEPS, _STEPS) * step
    error = float(counts @ (centers - represented) ** 2)
    power = float(counts @ centers**2)
    return 10.0 * math.log10(power / error) if power > 0.0 and error > 0.0 else math.inf
