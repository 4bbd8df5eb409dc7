# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Agreement of two models' results in space."""

from __future__ import annotations

import math

import numpy as np
import pytest
from helpers_metrics3d import CAR, PERSON, detections_3d, noisy_results, random_scene
from hypothesis import given, settings
from hypothesis import strategies as st

from av_compress.metrics.agreement import compare_frame, scoring, summarise
from av_compress.metrics.agreement3d import (
    ByDistance,
    ByOverlap,
    angle_between,
    compare_frame_3d,
)
from av_compress.report.replay_page import class_table
from av_compress.tasks.base import Detections2D, Detections3D
from av_compress.tasks.boxes3d import bev_iou

NAMES = ["car", "person", "cyclist"]


def random_pair(seed):
    rng = np.random.default_rng(seed)
    rows = random_scene(rng, int(rng.integers(0, 12)))
    return [noisy_results(rng, rows, int(rng.integers(0, 4)), spread=0.4) for _ in range(2)]


def loop_match(reference, candidate, near):
    """The matching in plain loops; `near` says how near two boxes are, if at all."""
    taken, pairs = set(), set()
    for index in sorted(range(len(candidate)), key=lambda item: -candidate.scores[item]):
        best, partner = -math.inf, None
        for other in range(len(reference)):
            if other in taken or reference.labels[other] != candidate.labels[index]:
                continue
            closeness = near(candidate.boxes[index], reference.boxes[other])
            if closeness is not None and closeness > best:
                best, partner = closeness, other
        if partner is not None:
            taken.add(partner)
            pairs.add((partner, index))
    return pairs


def overlap(ours, theirs, least):
    iou = float(bev_iou(ours[None], theirs[None])[0, 0])
    return iou if iou >= least else None


def distance(ours, theirs, most):
    apart = math.hypot(float(ours[0]) - float(theirs[0]), float(ours[1]) - float(theirs[1]))
    return -apart if apart <= most else None


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    how=st.sampled_from(
        [
            (ByOverlap(0.3), overlap),
            (ByOverlap(0.5), overlap),
            (ByDistance(0.5), distance),
            (ByDistance(2.0), distance),
        ]
    ),
)
def test_matching_is_the_greedy_one(seed, how):
    nearness, measure = how
    limit = nearness.iou_threshold if isinstance(nearness, ByOverlap) else nearness.most_m
    reference, candidate = random_pair(seed)
    have = compare_frame_3d(reference, candidate, nearness)
    pairs = {(int(first), int(second)) for first, second in have.pairs}
    assert pairs == loop_match(reference, candidate, lambda a, b: measure(a, b, limit))
    assert sorted([*have.pairs[:, 0], *have.missed]) == list(range(len(reference)))
    assert sorted([*have.pairs[:, 1], *have.extra]) == list(range(len(candidate)))
    for row, (first, second) in enumerate(have.pairs):
        before, after = reference.boxes[first].astype(float), candidate.boxes[second].astype(float)
        assert have.iou[row] == bev_iou(after[None], before[None])[0, 0]
        assert have.pose.position[row] == pytest.approx(math.dist(before[:3], after[:3]))
        turned = math.acos(max(-1.0, min(1.0, math.cos(before[6] - after[6]))))
        assert have.pose.yaw[row] == pytest.approx(turned, abs=1e-6)


def test_a_result_agrees_with_itself():
    reference, _ = random_pair(3)
    have = compare_frame_3d(reference, reference)
    assert (len(have.missed), len(have.extra), have.rate) == (0, 0, 1.0)
    np.testing.assert_allclose(have.iou, 1.0)
    np.testing.assert_array_equal(have.pose.position, 0.0)
    np.testing.assert_array_equal(have.pose.yaw, 0.0)


def test_small_objects_match_by_distance_that_do_not_overlap():
    reference = detections_3d((5, 0, 0, *PERSON, 0, 0.8, 1))
    candidate = detections_3d((5, 0.7, 0, *PERSON, 0, 0.8, 1))
    assert len(compare_frame_3d(reference, candidate, ByOverlap(0.1)).pairs) == 0
    have = compare_frame_3d(reference, candidate, ByDistance(1.0))
    assert have.pairs.tolist() == [[0, 0]]
    assert have.iou.tolist() == [0.0]


def test_limits_are_inside():
    reference = detections_3d((0, 0, 0, 2, 2, 1, 0, 0.8, 0))
    half = detections_3d((0, 0, 0, 1, 2, 1, 0, 0.8, 0))
    assert len(compare_frame_3d(reference, half, ByOverlap(0.5)).pairs) == 1
    moved = detections_3d((3, 4, 9, 2, 2, 1, 0, 0.8, 0))
    assert len(compare_frame_3d(reference, moved, ByDistance(5.0)).pairs) == 1
    assert len(compare_frame_3d(reference, moved, ByDistance(4.999)).pairs) == 0


def test_summary_worked_by_hand():
    reference = detections_3d(
        (10, 0, 0, *CAR, 0.1, 0.9, 0), (30, 5, 0, *CAR, 3.1, 0.8, 0), (5, 5, 0, *PERSON, 0, 0.4, 1)
    )
    candidate = detections_3d(
        (10, 0, 0.5, *CAR, -0.1, 0.8, 0),
        (30.3, 5, 0.4, *CAR, 3.1 - math.pi, 0.7, 0),
        (50, 5, 0, *CAR, 0, 0.2, 0),
    )
    frames = [compare_frame_3d(reference, candidate, ByDistance(1.0))]
    frames.append(compare_frame_3d(Detections3D.empty(), Detections3D.empty(), ByDistance(1.0)))
    have = summarise(frames, NAMES)
    assert (have.frames, have.matched, have.missed, have.extra) == (2, 2, 1, 1)
    assert have.mean_score_shift == pytest.approx(-0.1)
    assert have.pose.mean_position == pytest.approx(0.5)
    assert have.pose.max_position == pytest.approx(0.5)
    assert have.pose.mean_yaw == pytest.approx((0.2 + math.pi) / 2, abs=1e-6)
    assert have.pose.max_yaw == pytest.approx(math.pi, abs=1e-6)
    assert have.per_class["car"].pose == have.pose
    assert have.per_class["person"].pose is None
    # From a score of 0.45 on, neither the person nor the far car counts.
    kept = scoring(frames[0], reference, candidate, 0.45)
    assert (len(kept.pairs), len(kept.missed), len(kept.extra)) == (2, 0, 0)
    kept = scoring(frames[0], reference, candidate, 0.85)
    assert kept.pairs.tolist() == [[0, 0]]
    assert kept.pose.position.tolist() == [frames[0].pose.position[0]]
    assert kept.pose.yaw.tolist() == [frames[0].pose.yaw[0]]


def test_tables_show_how_far_boxes_have_moved_where_they_lie_in_space():
    reference = detections_3d((10, 0, 0, *CAR, 0, 0.9, 0), (5, 5, 0, *PERSON, 0, 0.4, 1))
    candidate = detections_3d((10.3, 0.4, 0, *CAR, math.pi, 0.8, 0))
    agreement = summarise([compare_frame_3d(reference, candidate)], NAMES)
    table = class_table(agreement)
    assert table.headers[-4:] == ("moved m", "most", "turned deg", "most")
    assert [row[-4:] for row in table.rows] == [
        ("0.500", "0.500", "180.0", "180.0"),
        ("–", "–", "–", "–"),
    ]
    assert table.footer[0][-4:] == ("0.500", "0.500", "180.0", "180.0")
    flat = summarise([compare_frame(Detections2D.empty(), Detections2D.empty())], NAMES)
    assert class_table(flat).headers[-1] == "most"
    assert len(class_table(flat).headers) == len(table.headers) - 4


@pytest.mark.parametrize(
    ("first", "second", "period", "angle"),
    [
        (0.0, 0.5, 2 * math.pi, 0.5),
        (3.0, -3.0, 2 * math.pi, 2 * math.pi - 6.0),
        (0.0, math.pi, 2 * math.pi, math.pi),
        (0.0, math.pi, math.pi, 0.0),
        (0.1, math.pi - 0.1, math.pi, 0.2),
        (7.0, 0.5, 2 * math.pi, abs(6.5 - 2 * math.pi)),
    ],
)
def test_angles_worked_by_hand(first, second, period, angle):
    both = np.array([first]), np.array([second])
    assert angle_between(*both, period)[0] == pytest.approx(angle)
    assert angle_between(*both[::-1], period)[0] == pytest.approx(angle)
