# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The taps of the camera kernel, applied in whole numbers, are what OpenCV computes."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from av_compress.engines.kernels.resizing import (
    linear_column_taps,
    linear_row_taps,
    nearest_taps,
)

# Cameras' sizes and networks': widths and heights, image first.
SIZES = [
    ((1920, 1080), (640, 360)),
    ((1920, 1208), (640, 640)),
    ((1280, 720), (640, 360)),
    ((2880, 1860), (640, 413)),
    ((640, 480), (640, 640)),
    ((640, 480), (1280, 960)),
    ((1440, 928), (480, 300)),
    ((3, 5), (97, 31)),
    ((1, 1), (7, 5)),
    ((2, 2), (1, 1)),
]


def resized(image: np.ndarray, columns: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Resize as a loop over pixels would: along the rows first, what is rounded off in between."""
    pixels = image.astype(int)
    along = pixels[:, columns[:, 0]] * columns[:, 2, None]
    along += pixels[:, columns[:, 1]] * columns[:, 3, None]
    parts = [(rows[:, 2 + i, None, None] * (along[rows[:, i]] >> 4)) >> 16 for i in range(2)]
    return (parts[0] + parts[1] + 2) >> 2


def check(size: tuple[int, int], target: tuple[int, int]) -> None:
    (width, height), seed = size, size[0] * 10007 + target[1]
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    columns, rows = linear_column_taps(width, target[0]), linear_row_taps(height, target[1])
    want = cv2.resize(image, target, interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(resized(image, columns, rows), want)
    columns, rows = nearest_taps(width, target[0]), nearest_taps(height, target[1])
    want = cv2.resize(image, target, interpolation=cv2.INTER_NEAREST)
    np.testing.assert_array_equal(image[rows[:, 0]][:, columns[:, 0]], want)


@pytest.mark.parametrize(("size", "target"), SIZES)
def test_sizes_of_cameras_and_networks(size, target):
    check(size, target)


extents = st.tuples(st.integers(1, 200), st.integers(1, 200))


@given(extents, extents)
def test_any_sizes(size, target):
    check(size, target)


@given(st.integers(1, 5000), st.integers(1, 5000))
def test_taps_lie_in_the_image_and_their_weights_sum_to_one(source, target):
    for make in (nearest_taps, linear_column_taps, linear_row_taps):
        taps = make(source, target)
        assert taps.shape == (target, 4)
        assert taps.dtype == np.int32
        assert taps[:, :2].min() >= 0
        assert taps[:, :2].max() < source
        assert taps[:, 2:].min() >= 0
        assert set(taps[:, 2:].sum(axis=1)) == {2048}


@given(st.integers(1, 3000))
def test_the_same_size_changes_nothing(extent):
    for make in (nearest_taps, linear_column_taps, linear_row_taps):
        taps = make(extent, extent)
        np.testing.assert_array_equal(taps[:, 0], np.arange(extent))
        assert set(taps[:, 2]) == {2048}
