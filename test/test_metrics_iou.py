# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Overlap of boxes against areas counted pixel by pixel."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from av_compress.metrics.iou import box_areas, iou_matrix

edge = st.integers(0, 12)
box = st.tuples(edge, edge, edge, edge)
boxes = st.lists(box, max_size=5).map(lambda rows: np.array(rows, np.float32).reshape(-1, 4))


def cells(corners):
    x1, y1, x2, y2 = map(int, corners)
    return {(x, y) for x in range(x1, x2) for y in range(y1, y2)}


@given(first=boxes, second=boxes)
def test_overlap_is_shared_area_by_joint_area(first, second):
    overlaps = iou_matrix(first, second)
    assert overlaps.shape == (len(first), len(second))
    for row, one in zip(overlaps, first):
        for value, other in zip(row, second):
            joint = len(cells(one) | cells(other))
            want = len(cells(one) & cells(other)) / joint if joint else 0.0
            np.testing.assert_allclose(value, want, rtol=1e-12)


@given(first=boxes)
def test_areas(first):
    np.testing.assert_array_equal(box_areas(first), [len(cells(one)) for one in first])


def test_half_a_pixel_counts_and_float32_does_not_round_it_away():
    big = np.array([[0, 0, 4096.5, 4096]], np.float32)
    small = np.array([[0, 0, 4096, 4096]], np.float32)
    np.testing.assert_allclose(iou_matrix(big, small), [[4096 / 4096.5]], rtol=1e-12)
