# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Suppression against a greedy loop in double precision."""

import numpy as np
import pytest
from helpers_task import image_context, loop_iou, loop_suppression, make
from hypothesis import assume, given, settings
from hypothesis import strategies as st

LIMITS = {"max_detections": 1000, "max_candidates": 1000}


def rows(boxes, scores, labels):
    return {"d": np.column_stack([boxes, scores, labels]).astype(np.float32)[None]}


def random_boxes(seed, count):
    rng = np.random.default_rng(seed)
    centers, sizes = rng.uniform(0, 60, (count, 2)), rng.uniform(4, 40, (count, 2))
    boxes = np.concatenate([centers - sizes / 2, centers + sizes / 2], axis=1).astype(np.float32)
    # Few different scores, so that ties occur.
    scores = (rng.integers(1, 8, count) / 8.0).astype(np.float32)
    return boxes, scores, rng.integers(0, 3, count)


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(0, 60),
    threshold=st.sampled_from([0.0, 0.1, 0.3, 0.45, 0.6, 0.9]),
    class_aware=st.booleans(),
    limit=st.sampled_from([1, 3, 10, 1000]),
)
def test_suppression_is_greedy(seed, count, threshold, class_aware, limit):
    boxes, scores, labels = random_boxes(seed, count)
    overlaps = [loop_iou(a, b) for i, a in enumerate(boxes) for b in boxes[:i]]
    assume(all(abs(overlap - threshold) > 1e-5 for overlap in overlaps if overlap))
    nms = {"iou_threshold": threshold, "class_aware": class_aware, "max_candidates": 1000}
    task = make({"type": "decoded"}, score_threshold=0.01, nms={**nms, "max_detections": limit})
    found = task.decode(rows(boxes, scores, labels))
    want = loop_suppression(boxes, scores, labels, threshold, class_aware)[:limit]
    np.testing.assert_array_equal(found.boxes, boxes[want])
    np.testing.assert_array_equal(found.scores, scores[want])
    np.testing.assert_array_equal(found.labels, labels[want])


def test_worked_by_hand():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 5], [0, 0, 10, 10], [50, 50, 60, 60]])
    scores, labels = np.array([0.5, 0.9, 0.7, 0.3]), np.array([0, 0, 1, 0])
    # Boxes 0 and 1 overlap by exactly one half.
    for threshold, aware, want in [
        (0.5, True, [1, 2, 0, 3]),
        (0.49, True, [1, 2, 3]),
        (0.49, False, [1, 3]),
        (1.0, True, [1, 2, 0, 3]),
    ]:
        nms = {"iou_threshold": threshold, "class_aware": aware}
        task = make({"type": "decoded"}, score_threshold=0.2, nms=nms)
        found = task.decode(rows(boxes, scores, labels))
        np.testing.assert_array_equal(found.boxes, boxes[want])


def test_only_the_best_candidates_enter():
    """The third box would survive, were it looked at."""
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [50, 50, 60, 60]])
    task = make(
        {"type": "decoded"},
        score_threshold=0.2,
        nms={"iou_threshold": 0.5, "max_candidates": 2},
    )
    found = task.decode(rows(boxes, [0.9, 0.8, 0.3], [0, 0, 0]))
    np.testing.assert_array_equal(found.boxes, boxes[:1])


@pytest.mark.parametrize("count", [1, 39, 40, 41, 161, 999])
def test_a_crowd_of_copies_leaves_room_for_the_rest(count):
    """However many copies of the best box come first, the search goes on behind them."""
    boxes = np.concatenate([np.tile([[0, 0, 10, 10]], (count, 1)), [[50, 50, 60, 60]]])
    scores = np.linspace(0.9, 0.5, count + 1)
    task = make(
        {"type": "decoded"},
        score_threshold=0.2,
        nms={"iou_threshold": 0.5, "max_detections": 10, "max_candidates": 5000},
    )
    found = task.decode(rows(boxes, scores, np.zeros(count + 1)))
    np.testing.assert_array_equal(found.boxes, [[0, 0, 10, 10], [50, 50, 60, 60]])


def test_huge_boxes_do_not_blur_the_others():
    """One box of absurd size must not cost the others the digits that tell them apart."""
    boxes = np.array(
        [[-1e30, -1e30, 1e30, 1e30], [10, 10, 20, 20], [10, 10, 20, 20], [40, 10, 50, 20]]
    )
    task = make({"type": "decoded"}, nms={"iou_threshold": 0.5})
    outputs = rows(boxes, [0.9, 0.8, 0.7, 0.6], [0, 1, 2, 1])
    result = task.postprocess(outputs, image_context(task, 96, 64))
    np.testing.assert_allclose(result.boxes, np.clip(boxes, 0, [96, 64, 96, 64]), rtol=1e-6)


def test_the_same_input_gives_the_same_bytes():
    boxes, scores, labels = random_boxes(5, 200)
    task = make({"type": "decoded"}, score_threshold=0.01, nms={"iou_threshold": 0.5, **LIMITS})
    context = image_context(task, 100, 90)
    first, second = (task.postprocess(rows(boxes, scores, labels), context) for _ in range(2))
    assert first.boxes.tobytes() == second.boxes.tobytes()
    assert first.scores.tobytes() == second.scores.tobytes()
    assert (np.diff(first.scores) <= 0).all()


def test_the_score_threshold_includes_its_own_value():
    boxes = np.array([[0, 0, 10, 10], [20, 20, 30, 30]])
    task = make({"type": "decoded"}, score_threshold=0.5)
    found = task.decode(rows(boxes, [0.5, 0.49], [0, 0]))
    np.testing.assert_array_equal(found.boxes, boxes[:1])
    assert len(task.with_score_threshold(0.4).decode(rows(boxes, [0.5, 0.49], [0, 0])).scores) == 2
