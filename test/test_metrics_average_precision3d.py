# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Average precision in bird's eye view, against pycocotools on upright boxes, and by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from helpers_metrics3d import CAR, PERSON, detections_3d, labels_3d, noisy_results, random_scene

from av_compress.data.content import labels_sha256
from av_compress.metrics.accuracy import InSpace
from av_compress.metrics.average_precision import average_precision
from av_compress.metrics.average_precision3d import (
    bev_average_precision,
    bev_average_precision_against,
)
from av_compress.tasks.base import Detections2D, Detections3D, Labels2D, Visibility

NAMES = ("car", "pedestrian", "cyclist")


def footprints(boxes: np.ndarray) -> np.ndarray:
    """Return the corners x1 y1 x2 y2 of boxes that head along the x axis, 100 to the metre."""
    half = boxes[:, 3:5] / 2
    corners = np.c_[boxes[:, :2] - half, boxes[:, :2] + half]
    return (100 * corners + 5000).astype(np.float32)


@pytest.mark.parametrize("seed", range(4))
def test_boxes_along_the_axes_have_the_precision_of_rectangles(seed: int):
    rng = np.random.default_rng(seed)
    results, labels = [], []
    for _ in range(6):
        rows = random_scene(rng, 8, ignored=0.0)
        rows[:, 6] = 0.0
        found = noisy_results(rng, rows, extra=4)
        found.boxes[:, 6] = 0.0
        # COCO's order of equal scores is that of the boxes, in both.
        results.append(found)
        labels.append(labels_3d(*rows))
    have = bev_average_precision(results, labels, NAMES)
    flat = [Detections2D(footprints(one.boxes), one.scores, one.labels) for one in results]
    true = [
        Labels2D(footprints(one.boxes), one.labels, np.zeros(len(one), bool)) for one in labels
    ]
    want = average_precision(flat, true, NAMES)
    assert 0.2 < have.ap50 < 1
    np.testing.assert_allclose((have.ap, have.ap50, have.ap75), (want.ap, want.ap50, want.ap75))
    assert have.truths == want.truths == 48


def test_what_turns_and_rises_is_compared_from_above():
    """A car that heads the other way is the same; one turned by a right angle overlaps by 2/6."""
    truth = [labels_3d((10, 0, 0, *CAR, 0, 0))]
    reverse = [detections_3d((10, 0, 9, *CAR, math.pi, 0.9, 0))]
    across = [detections_3d((10, 0, 0, *CAR, math.pi / 2, 0.9, 0))]
    assert bev_average_precision(reverse, truth, NAMES).ap == pytest.approx(1)
    assert bev_average_precision(across, truth, NAMES).ap50 == 0


def test_what_is_found_where_an_object_is_ignored_counts_for_nothing():
    ignored = (30, 0, 0, *CAR, 0, 0, 1)
    truth = [labels_3d((10, 0, 0, *CAR, 0, 0), ignored)]
    right, there = (10, 0, 0, *CAR, 0, 0.5, 0), (30, 0, 0, *CAR, 0, 0.9, 0)
    nowhere = (50, 0, 0, *CAR, 0, 0.9, 0)
    assert bev_average_precision([detections_3d(there, right)], truth, NAMES).ap == pytest.approx(
        1
    )
    # Half of what is found is right, at every recall.
    found = bev_average_precision([detections_3d(nowhere, right)], truth, NAMES)
    assert found.ap50 == pytest.approx(0.5)
    assert found.truths == 1
    assert bev_average_precision([Detections3D.empty()], truth, NAMES).ap == 0


def test_a_model_agrees_with_itself_however_little_it_sees():
    """KITTI's 40 recalls would give one object 1 / 40."""
    seen = [detections_3d((10, 0, 0, *CAR, 0, 0.6, 0), (5, 5, 0, *PERSON, 0, 0.2, 1))]
    have = bev_average_precision_against(seen, seen, class_names=NAMES)
    assert (have.ap, have.truths) == (pytest.approx(1), 1)
    lower = bev_average_precision_against(seen, seen, 0.1, class_names=NAMES)
    assert (lower.ap, lower.truths) == (pytest.approx(1), 2)
    assert bev_average_precision_against(seen, [Detections3D.empty()], class_names=NAMES).ap == 0


def test_as_many_results_as_labels():
    with pytest.raises(ValueError, match="1 results, but labels of 0 frames"):
        bev_average_precision([Detections3D.empty()], [], NAMES)


def test_shifts_in_space_are_those_of_footprints():
    judge = InSpace()
    here = detections_3d((10, 0, 0, *CAR, 0, 0.8, 0))
    # By a metre of four: 3 of 5 overlap, which costs 0.4; the score falls by a tenth.
    moved = detections_3d((11, 0, 0, *CAR, 0, 0.7, 0))
    assert judge.shift([here], [here]) == pytest.approx(0)
    assert judge.shift([here], [moved]) == pytest.approx(0.5, abs=1e-6)
    assert judge.shift([here], [Detections3D.empty()]) == pytest.approx(1.8)
    agreement = judge.compare(here, moved, 0.5)
    assert agreement.iou.tolist() == pytest.approx([0.6])
    assert len(judge.compare(here, moved, 0.7).pairs) == 0


def test_vans_are_neither_cars_nor_mistakes():
    judge = InSpace()
    labels = labels_3d((10, 0, 0, *CAR, 0, 0), (20, 0, 0, *CAR, 0, 1))
    mapped = judge.in_classes(labels, ["Van", "Car"], NAMES)
    assert mapped.labels.tolist() == [0, 0]
    assert judge.counting(mapped).tolist() == [False, True]
    assert not judge.counting(replace(mapped, ignored=np.ones(2, bool))).any()


def test_labels_in_space_are_known_by_all_that_is_in_them():
    row = (10, 0, 0, *CAR, 0, 0)
    unknown = np.full((1, 2), np.nan, np.float32)
    seen = Visibility(np.zeros(1, np.int32), np.zeros(1, np.float32), np.ones(1, np.float32))
    variants = [
        labels_3d(row),
        labels_3d((*row[:7], 1)),
        labels_3d((*row, 1)),
        labels_3d(row, velocities=unknown),
        labels_3d(row, visibility=seen),
    ]
    assert len({labels_sha256((one,)) for one in variants}) == len(variants)
    again = labels_3d(row, velocities=unknown.copy())
    assert labels_sha256((again,)) == labels_sha256((variants[3],))
