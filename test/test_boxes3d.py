# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Overlap of turned boxes: worked by hand, by counting points, and suppression by brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from av_compress.tasks.boxes3d import (
    bev_iou,
    corners,
    iou_3d,
    suppress_by_distance,
    suppress_by_iou,
)

# A square of 2 m and the same turned by 45 degrees share a regular octagon with an inradius of 1.
OCTAGON = 8 * math.tan(math.pi / 8)
SQUARE = (0.0, 0.0, 0.0, 2.0, 2.0, 2.0, 0.0)


def one(ours, theirs, measure=bev_iou) -> float:
    return float(measure(np.array([ours]), np.array([theirs]))[0, 0])


@pytest.mark.parametrize(
    ("theirs", "iou"),
    [
        (SQUARE, 1.0),
        ((0, 0, 9, 2, 2, 2, 0), 1.0),
        ((1, 0, 0, 2, 2, 2, 0), 2 / 6),
        ((2, 0, 0, 2, 2, 2, 0), 0.0),
        ((0, 0, 0, 2, 2, 2, math.pi / 2), 1.0),
        ((0, 0, 0, 2, 2, 2, -math.pi), 1.0),
        (
            (0, 0, 0, 2, 2, 2, math.pi / 4),
            OCTAGON / (8 - OCTAGON),
        ),
        ((0, 0, 0, 1, 1, 1, 0.3), 1 / 4),
        ((0, 0, 0, 0, 2, 1, 0), 0.0),
        ((50, 0, 0, 2, 2, 2, 0), 0.0),
    ],
)
def test_footprints_worked_by_hand(theirs, iou):
    assert one(SQUARE, theirs) == pytest.approx(iou, abs=1e-12)
    assert one(theirs, SQUARE) == pytest.approx(iou, abs=1e-12)


@pytest.mark.parametrize(
    ("theirs", "iou"),
    [
        (SQUARE, 1.0),
        ((0, 0, 1, 2, 2, 2, 0), 4 / 12),
        ((0, 0, 2, 2, 2, 2, 0), 0.0),
        ((0, 0, 9, 2, 2, 2, 0), 0.0),
        ((1, 0, 1, 2, 2, 2, 0), 2 / 14),
    ],
)
def test_volumes_worked_by_hand(theirs, iou):
    assert one(SQUARE, theirs, iou_3d) == pytest.approx(iou, abs=1e-12)


def test_corners_go_round_counter_clockwise_from_the_front_left():
    found = corners(np.array([[10, 20, 0, 4, 2, 1, math.pi / 2]]))
    np.testing.assert_allclose(found[0], [[9, 22], [9, 18], [11, 18], [11, 22]], atol=1e-12)


BOXES = st.tuples(
    st.floats(-3, 3), st.floats(-3, 3), st.floats(-1, 1), st.floats(0.2, 4), st.floats(0.2, 4),
    st.floats(0.2, 3), st.floats(-7, 7),
)  # fmt: skip


def inside(points: np.ndarray, box) -> np.ndarray:
    x, y, _, length, width, _, yaw = box
    dx, dy = points[:, 0] - x, points[:, 1] - y
    along = dx * math.cos(yaw) + dy * math.sin(yaw)
    across = -dx * math.sin(yaw) + dy * math.cos(yaw)
    return (abs(along) <= length / 2) & (abs(across) <= width / 2)


@settings(max_examples=60, deadline=None)
@given(BOXES, BOXES)
def test_the_overlap_is_what_counting_points_says(ours, theirs):
    grid = np.stack(np.meshgrid(*[np.linspace(-6, 6, 481)] * 2), -1).reshape(-1, 2)
    in_ours, in_theirs = inside(grid, ours), inside(grid, theirs)
    union = (in_ours | in_theirs).sum()
    counted = (in_ours & in_theirs).sum() / union if union else 0.0
    assert one(ours, theirs) == pytest.approx(counted, abs=0.05)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(BOXES, st.integers(0, 1)), max_size=12), st.floats(0.05, 0.9))
def test_suppression_is_greedy(found, threshold):
    boxes = np.array([box for box, _ in found], np.float64).reshape(-1, 7)
    labels = np.array([label for _, label in found], np.int32)
    kept: list[int] = []
    for row in range(len(boxes)):
        rivals = [other for other in kept if labels[other] == labels[row]]
        if all(one(boxes[other], boxes[row]) <= threshold for other in rivals):
            kept.append(row)
    assert suppress_by_iou(boxes, labels, threshold).tolist() == kept


def test_circles_suppress_within_their_class_and_radius():
    centers = np.array([[0, 0], [0.9, 0], [1.1, 0], [0.5, 0], [2.0, 0]])
    labels = np.array([0, 0, 0, 1, 0], np.int32)
    # 0.9 lies within 1 m of the first; 2.0 within 1 m of 1.1, which is kept.
    assert suppress_by_distance(centers, labels, np.array([1.0, 5.0])).tolist() == [0, 2, 3]


def test_nothing_overlaps_nothing():
    none = np.zeros((0, 7))
    assert bev_iou(none, np.array([SQUARE])).shape == (0, 1)
    assert iou_3d(np.array([SQUARE]), none).shape == (1, 0)
    assert suppress_by_iou(none, np.zeros(0, np.int32), 0.5).tolist() == []
