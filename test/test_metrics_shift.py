# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""How far detections have moved: cases worked by hand, and what must hold for all."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from av_compress.metrics.iou import iou_matrix
from av_compress.metrics.shift import detections_shift
from av_compress.tasks.base import Detections2D


def detections(*rows: tuple[float, ...]) -> Detections2D:
    """Make detections of rows x1, y1, x2, y2, score, label."""
    values = np.array(rows, np.float32).reshape(-1, 6)
    return Detections2D(values[:, :4], values[:, 4], values[:, 5].astype(np.int32))


SEEN = detections((0, 0, 10, 10, 0.8, 0), (20, 20, 40, 40, 0.5, 1), (0, 0, 5, 5, 0.1, 0))


def test_what_is_the_same_has_not_moved():
    assert detections_shift([SEEN], [SEEN], iou_matrix) == 0.0
    assert detections_shift([Detections2D.empty()], [Detections2D.empty()], iou_matrix) == 0.0
    assert detections_shift([], [], iou_matrix) == 0.0


def test_boxes_and_scores_that_move_count_in_both_directions():
    # Box 0 overlaps by 90 of 110, box 1 stays and loses 0.1 of its score.
    moved = detections((1, 0, 11, 10, 0.8, 0), (20, 20, 40, 40, 0.4, 1))
    expected = ((1 - 90 / 110) + 0.1) / 2
    assert detections_shift([SEEN], [moved], iou_matrix) == pytest.approx(expected, abs=1e-6)


def test_a_score_that_sinks_below_confidence_still_finds_its_partner():
    low = detections((0, 0, 10, 10, 0.2, 0), (20, 20, 40, 40, 0.5, 1))
    # Three confident detections: box 0 one way alone, box 1 both ways.
    assert detections_shift([SEEN], [low], iou_matrix) == pytest.approx(0.6 / 3, abs=1e-6)


def test_what_is_lost_or_of_another_class_counts_whole():
    assert detections_shift([SEEN], [Detections2D.empty()], iou_matrix) == pytest.approx(
        1 + 1.3 / 2
    )
    renamed = detections((0, 0, 10, 10, 0.8, 3), (20, 20, 40, 40, 0.5, 1))
    assert detections_shift([SEEN], [renamed], iou_matrix) == pytest.approx(
        (1.8 + 0 + 1.8 + 0) / 4
    )


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**16), st.integers(0, 6), st.integers(0, 6))
def test_it_is_symmetric_and_between_0_and_2(seed, first, second):
    rng = np.random.default_rng(seed)

    def some(count: int) -> Detections2D:
        corner = rng.uniform(0, 20, (count, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(1, 10, (count, 2))], axis=1)
        return Detections2D(
            boxes.astype(np.float32),
            rng.uniform(0, 1, count).astype(np.float32),
            rng.integers(0, 2, count).astype(np.int32),
        )

    one, other = [some(first)], [some(second)]
    shift = detections_shift(one, other, iou_matrix)
    assert 0.0 <= shift <= 2.0
    assert shift == pytest.approx(detections_shift(other, one, iou_matrix))
