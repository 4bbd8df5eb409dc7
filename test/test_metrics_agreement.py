# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Agreement of two models' results."""

import numpy as np
import pytest
from helpers_metrics import detections, noisy_detections, random_truth
from helpers_task import loop_iou
from hypothesis import given, settings
from hypothesis import strategies as st

from av_compress.metrics.agreement import compare_frame, summarise
from av_compress.tasks.base import Detections2D

NAMES = ["car", "person", "cyclist"]


def loop_match(reference, candidate, threshold):
    """The matching in plain loops: (reference, candidate) index pairs."""
    taken, pairs = set(), set()
    for index in sorted(range(len(candidate)), key=lambda item: -candidate.scores[item]):
        best, partner = threshold, None
        for other in range(len(reference)):
            if other in taken or reference.labels[other] != candidate.labels[index]:
                continue
            overlap = loop_iou(candidate.boxes[index], reference.boxes[other])
            if overlap > best or (overlap == best and partner is None):
                best, partner = overlap, other
        if partner is not None:
            taken.add(partner)
            pairs.add((partner, index))
    return pairs


def random_pair(seed):
    rng = np.random.default_rng(seed)
    truth = random_truth(rng, int(rng.integers(0, 12)))
    return [noisy_detections(rng, truth, int(rng.integers(0, 5))) for _ in range(2)]


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), threshold=st.sampled_from([0.3, 0.5, 0.75]))
def test_matching_is_the_greedy_one(seed, threshold):
    reference, candidate = random_pair(seed)
    have = compare_frame(reference, candidate, threshold)
    pairs = {(int(first), int(second)) for first, second in have.pairs}
    assert pairs == loop_match(reference, candidate, threshold)
    assert sorted([*have.pairs[:, 0], *have.missed]) == list(range(len(reference)))
    assert sorted([*have.pairs[:, 1], *have.extra]) == list(range(len(candidate)))
    for (first, second), iou, shift, label in zip(
        have.pairs, have.iou, have.score_shift, have.matched_labels
    ):
        np.testing.assert_allclose(iou, loop_iou(reference.boxes[first], candidate.boxes[second]))
        assert shift == float(candidate.scores[second]) - float(reference.scores[first])
        assert reference.labels[first] == candidate.labels[second] == label
    np.testing.assert_array_equal(have.missed_labels, reference.labels[have.missed])
    np.testing.assert_array_equal(have.extra_labels, candidate.labels[have.extra])


@pytest.mark.parametrize("seed", range(5))
def test_a_result_agrees_with_itself(seed):
    reference, _ = random_pair(seed)
    have = compare_frame(reference, reference)
    assert (len(have.missed), len(have.extra), have.rate) == (0, 0, 1.0)
    np.testing.assert_allclose(have.iou, 1.0)
    np.testing.assert_array_equal(have.score_shift, 0.0)


@pytest.mark.parametrize(
    ("reference", "candidate", "missed", "extra", "rate"),
    [
        (detections(), detections(), 0, 0, 1.0),
        (detections((0, 0, 9, 9, 0.5, 0)), detections(), 1, 0, 0.0),
        (detections(), detections((0, 0, 9, 9, 0.5, 0)), 0, 1, 0.0),
        (Detections2D.empty(), Detections2D.empty(), 0, 0, 1.0),
        (detections((0, 0, 9, 9, 0.5, 0)), detections((0, 0, 9, 9, 0.5, 1)), 1, 1, 0.0),
    ],
)
def test_nothing_to_match(reference, candidate, missed, extra, rate):
    have = compare_frame(reference, candidate)
    assert (len(have.pairs), len(have.missed), len(have.extra)) == (0, missed, extra)
    assert have.rate == rate
    assert have.pairs.shape == (0, 2)


def test_an_overlap_of_exactly_the_threshold_matches():
    reference, candidate = detections((0, 0, 10, 10, 1, 0)), detections((0, 0, 10, 5, 1, 0))
    assert len(compare_frame(reference, candidate, 0.5).pairs) == 1
    assert len(compare_frame(reference, candidate, 0.51).pairs) == 0


def test_the_better_score_chooses_first():
    """The better candidate takes the box that it overlaps most, and the other is left over."""
    reference = detections((0, 0, 10, 10, 0.9, 0))
    candidate = detections((0, 0, 10, 10, 0.4, 0), (0, 0, 10, 8, 0.6, 0))
    have = compare_frame(reference, candidate)
    np.testing.assert_array_equal(have.pairs, [[0, 0]])
    np.testing.assert_allclose(have.iou, [0.8])
    np.testing.assert_allclose(have.score_shift, [-0.3], atol=1e-7)
    np.testing.assert_array_equal(have.extra, [1])


def test_summary_worked_by_hand():
    frames = [
        compare_frame(
            detections((0, 0, 10, 10, 0.9, 0), (50, 50, 60, 60, 0.5, 1)),
            detections((0, 0, 10, 8, 0.8, 0), (20, 20, 30, 30, 0.7, 0)),
        ),
        compare_frame(detections((0, 0, 10, 10, 0.5, 0)), detections((0, 0, 10, 10, 0.7, 0))),
        compare_frame(Detections2D.empty(), Detections2D.empty()),
    ]
    have = summarise(frames, NAMES)
    assert (have.frames, have.matched, have.missed, have.extra) == (3, 2, 1, 1)
    assert have.rate == 0.5
    assert have.mean_iou == pytest.approx(0.9)
    assert have.mean_score_shift == pytest.approx(0.05)
    assert have.max_score_shift == pytest.approx(0.2)
    assert list(have.per_class) == ["car", "person"]
    car, person = have.per_class["car"], have.per_class["person"]
    assert (car.matched, car.missed, car.extra) == (2, 0, 1)
    assert (person.matched, person.missed, person.extra) == (0, 1, 0)
    assert (person.mean_iou, person.mean_score_shift, person.max_score_shift) == (None, None, None)


@pytest.mark.parametrize(
    "frames", [[], [compare_frame(Detections2D.empty(), Detections2D.empty())]]
)
def test_summary_of_nothing(frames):
    have = summarise(frames, NAMES)
    assert (have.frames, have.matched, have.missed, have.extra) == (len(frames), 0, 0, 0)
    assert have.rate == 1.0
    assert have.mean_iou is None
    assert have.per_class == {}
