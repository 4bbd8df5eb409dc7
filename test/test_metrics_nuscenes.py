# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""nuScenes' metrics: worked by hand, in plain loops, and as the devkit has them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from helpers_metrics3d import (
    CAR,
    PERSON,
    detections_3d,
    labels_3d,
    noisy_results,
    random_scene,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from av_compress.metrics.nuscenes import (
    DETECTION_CVPR_2019,
    NUSCENES_RANGES,
    NuscenesRules,
    nuscenes_average_precision,
)
from av_compress.tasks.base import Detections3D, Labels3D
from av_compress.tasks.scope import Scope

NAMES = ("car", "pedestrian", "barrier", "traffic_cone")
DISTANCES = (0.5, 1.0, 2.0, 4.0)


def car(x: float, *more, y: float = 0.0, yaw: float = 0.0):
    return (x, y, 0, *CAR, yaw, *more)


def figures(found, true, rules=None, name="car"):
    return nuscenes_average_precision([found], [true], NAMES, rules).per_class[name]


def test_every_object_found_and_nothing_else():
    rows = [car(10.0 * index) for index in range(10)]
    found = detections_3d(*[(*row, 0.9 - 0.05 * i, 0) for i, row in enumerate(rows)])
    have = figures(found, labels_3d(*[(*row, 0) for row in rows]))
    assert have.at == dict.fromkeys(DISTANCES, pytest.approx(1.0))
    assert have.ap == pytest.approx(1.0)
    assert (have.errors.translation, have.errors.scale, have.errors.orientation) == (0, 0, 0)
    assert have.errors.velocity is None
    assert have.truths == 10


def test_half_of_the_objects_found():
    have = figures(detections_3d(car(0, 0.9, 0)), labels_3d(car(0, 0), car(20, 0)))
    # Of the recalls 0.11 .. 1, those up to 0.5.
    assert have.ap == pytest.approx(40 / 90)


def test_a_false_alarm_before_the_object():
    have = figures(detections_3d(car(30, 0.9, 0), car(0, 0.8, 0)), labels_3d(car(0, 0)))
    # Precision rises from 0 to a half along the recall, and counts from 0.1 on.
    want = sum(max(0.5 * r / 100 - 0.1, 0) for r in range(11, 101)) / 90 / 0.9
    assert have.ap == pytest.approx(want)


def test_an_object_is_found_within_a_distance():
    have = figures(detections_3d(car(0.7, 0.9, 0)), labels_3d(car(0, 0)))
    assert have.at == {
        0.5: 0.0,
        1.0: pytest.approx(1),
        2.0: pytest.approx(1),
        4.0: pytest.approx(1),
    }
    assert have.ap == pytest.approx(0.75)
    assert have.errors.translation == pytest.approx(0.7)
    # The distance must be below the threshold; heights do not count.
    at = (0, 2.0, 9, *CAR, 0, 0.9, 0)
    assert figures(detections_3d(at), labels_3d(car(0, 0))).at[2.0] == 0.0


def test_errors_worked_by_hand():
    true = labels_3d(
        (0, 0, 0, 4, 2, 1.5, 3.0, 0),
        (0, 9, 0, *PERSON, 0, 1),
        (0, 20, 0, 2, 0.5, 1, 0.1, 2),
        (0, 30, 0, 0.3, 0.3, 1, 0, 3),
        velocities=np.array([[1, 2], [np.nan, np.nan], [0, 0], [0, 0]], np.float32),
    )
    found = detections_3d(
        (0.3, 0.4, 0, 4, 2, 3, -3.0, 0.9, 0),
        (0, 9, 0, *PERSON, math.pi, 0.9, 1),
        (0, 20, 0, 2, 0.5, 1, 0.1 + math.pi, 0.9, 2),
        (0, 30, 0, 0.3, 0.3, 2, 1.0, 0.9, 3),
        velocities=[(4, 6), (1, 1), (3, 3), (3, 3)],
    )
    have = nuscenes_average_precision([found], [true], NAMES)
    errors = {name: one.errors for name, one in have.per_class.items()}
    assert errors["car"].translation == pytest.approx(0.5)
    assert errors["car"].scale == pytest.approx(0.5)
    assert errors["car"].orientation == pytest.approx(2 * math.pi - 6, abs=1e-6)
    assert errors["car"].velocity == pytest.approx(5.0)
    assert errors["pedestrian"].orientation == pytest.approx(math.pi)
    # A barrier looks the same from behind, a cone from everywhere; neither moves.
    assert errors["barrier"].orientation == pytest.approx(0.0, abs=1e-6)
    assert errors["barrier"].velocity is None
    assert errors["traffic_cone"].scale == pytest.approx(0.5)
    assert errors["traffic_cone"].orientation is None
    # Nobody knows the pedestrian's velocity.
    assert errors["pedestrian"].velocity is None
    assert have.errors.translation == pytest.approx(0.5 / 4)
    assert have.errors.orientation == pytest.approx((2 * math.pi - 6 + math.pi) / 3, abs=1e-6)
    assert have.errors.velocity == pytest.approx(5.0)
    assert have.truths == 4


def test_errors_are_averaged_along_the_recall():
    """The first of two cars is found exactly, the second, with less confidence, 1 m beside it."""
    found = detections_3d(car(0, 0.8, 0), car(21, 0.4, 0))
    have = figures(found, labels_3d(car(0, 0), car(20, 0)))
    # From recall 0.5 on, the mean rises from 0 to a half as the score falls.
    want = sum(0.5 * max(0.0, (r - 50) / 50) for r in range(11, 101)) / 90
    assert have.errors.translation == pytest.approx(want)


def test_what_is_not_found_has_the_largest_error():
    have = figures(Detections3D.empty(), labels_3d(car(0, 0)))
    assert have.ap == 0.0
    assert (have.errors.translation, have.errors.scale, have.errors.orientation) == (1, 1, 1)
    assert have.errors.velocity is None
    # Five of a hundred: a recall that does not count.
    rows = [car(10.0 * index) for index in range(100)]
    found = detections_3d(*[(*row, 0.9 - 0.1 * i, 0) for i, row in enumerate(rows[:5])])
    have = figures(found, labels_3d(*[(*row, 0) for row in rows]))
    assert (have.ap, have.errors.translation) == (0.0, 1.0)


def test_ignored_objects_are_neither_found_nor_missed():
    true = labels_3d(car(0, 0, 0), car(20, 0, 1))
    for found in (
        detections_3d(car(20.5, 0.9, 0), car(20, 0.85, 0), car(0, 0.8, 0)),
        detections_3d(car(0, 0.8, 0)),
    ):
        have = figures(found, true, NuscenesRules(distances=(1.0,)))
        assert (have.truths, have.ap) == (1, pytest.approx(1.0))
    # A detection that found an object counts, though an ignored one is near.
    beside = labels_3d(car(0, 0, 0), car(0.5, 0, 1))
    assert figures(detections_3d(car(0, 0.8, 0)), beside).ap == pytest.approx(1.0)


def test_what_lies_too_far_away_does_not_count():
    true = labels_3d(car(30, 0), car(49, 0, y=10), (45, 0, 0, *PERSON, 0, 1))
    found = detections_3d(car(30, 0.9, 0), car(49, 0.8, 0, y=-10), car(60, 0.7, 0))
    have = nuscenes_average_precision(
        [found], [true], NAMES, NuscenesRules(ranges=NUSCENES_RANGES)
    )
    assert list(have.per_class) == ["car"]
    assert have.per_class["car"].truths == 1
    assert have.ap == pytest.approx(1.0)
    assert nuscenes_average_precision([found], [true], NAMES).truths == 3


def test_ranges_are_measured_from_the_scopes_origin():
    true = labels_3d(car(49, 0), car(-49, 0), car(20, 0))
    found = detections_3d(car(20, 0.9, 0), car(49, 0.8, 0), car(-49, 0.7, 0))
    for origin, truths in (((0, 0), 3), ((2, 0), 2), ((-2, 0), 2), ((0, 30), 1)):
        have = nuscenes_average_precision(
            [found], [true], NAMES, DETECTION_CVPR_2019, [Scope(np.array(origin, float))]
        )
        assert have.truths == truths
        # What counts no more is no false alarm either.
        assert have.ap == pytest.approx(1.0)


def test_bicycles_in_racks_do_not_count_and_cars_do():
    names = ("bicycle", "car")
    # 6 m long, turned by a right angle; the second place is inside, the third beside it.
    scope = Scope(racks=np.array([[10, 0, 0, 6, 1, 2, math.pi / 2]]))
    places = [(0.0, 0.0), (10.4, 2.9), (10.6, 2.9)]
    rows = [(x, y, 0.9, 1.7, 0.6, 1.2, 0) for x, y in places]
    for label, truths in enumerate((2, 3)):
        true = labels_3d(*[(*row, label) for row in rows])
        found = detections_3d(*[(*row, 0.9, label) for row in rows])
        have = nuscenes_average_precision([found], [true], names, scopes=[scope])
        assert have.truths == truths
        assert have.ap == pytest.approx(1.0)
    # Nor does one that lies over it.
    over = labels_3d((10, 0, 1.1, 1.7, 0.6, 1.2, 0, 0))
    none = Detections3D.empty()
    assert nuscenes_average_precision([none], [over], names, scopes=[scope]).truths == 1


def test_the_published_configuration():
    """detection_cvpr_2019 of nuscenes-devkit 1.2, and what its evaluation leaves out."""
    rules = DETECTION_CVPR_2019
    assert dict(rules.ranges) == {
        **{"car": 50, "truck": 50, "bus": 50, "trailer": 50, "construction_vehicle": 50},
        **{"pedestrian": 40, "motorcycle": 40, "bicycle": 40, "traffic_cone": 30, "barrier": 30},
    }
    assert tuple(rules.distances) == (0.5, 1.0, 2.0, 4.0)
    assert (rules.error_distance, rules.min_recall, rules.min_precision) == (2.0, 0.1, 0.1)
    assert rules.yaw_periods == {"barrier": math.pi}
    assert rules.without_yaw == {"traffic_cone"}
    assert rules.without_velocity == {"traffic_cone", "barrier"}
    assert rules.racked == {"bicycle", "motorcycle"}


def test_nothing_at_all():
    have = nuscenes_average_precision([], [], NAMES)
    assert (have.ap, have.errors, have.truths) == (0.0, None, 0)
    with pytest.raises(ValueError, match="0 results, but labels of 1 frames"):
        nuscenes_average_precision([], [labels_3d()], NAMES)
    with pytest.raises(ValueError, match="1 scopes, but labels of 0 frames"):
        nuscenes_average_precision([], [], NAMES, scopes=[Scope()])


def random_frames(seed: int, ignored: float = 0.0) -> tuple[list[Detections3D], list[Labels3D]]:
    rng, hiding = np.random.default_rng(seed), np.random.default_rng(seed + 1)
    results, labels = [], []
    for _ in range(int(rng.integers(1, 8))):
        rows = random_scene(rng, int(rng.integers(0, 25)), classes=4)
        rows = rows[rows[:, 0].argsort()]
        rows[:, :2] *= rng.choice([1, 2, 4])
        spread = float(rng.choice([0.15, 0.6, 1.5]))
        found = noisy_results(rng, rows, int(rng.integers(0, 6)), classes=4, spread=spread)
        scores = np.sort(rng.uniform(0.01, 1, len(found)))[::-1]
        results.append(
            replace(
                found,
                scores=scores.astype(np.float32),
                velocities=rng.normal(0, 2, (len(found), 2)).astype(np.float32),
            )
        )
        true = labels_3d(*rows[:, :8])
        velocities = rng.normal(0, 2, (len(rows), 2)).astype(np.float32)
        velocities[rng.uniform(size=len(rows)) < 0.2] = np.nan
        hidden = hiding.uniform(size=len(rows)) < ignored
        labels.append(replace(true, ignored=hidden, velocities=velocities))
    return results, labels


# What nuscenes-devkit 1.2 says of random_frames(5): average precision at 0.5, 1, 2 and 4 m, and
# errors of translation, scale, orientation and velocity.
DEVKIT = {
    "car": ((0.0, 0.0061, 0.195637, 0.831571), (1.385142, 0.146691, 0.385838, 3.488737)),
    "pedestrian": (
        (0.0, 0.018424, 0.281786, 0.716525),
        (1.187545, 0.163869, 1.031219, 2.695802),
    ),
    "barrier": ((0.0, 0.021046, 0.168869, 0.800348), (1.065052, 0.105008, 0.039869, None)),
    "traffic_cone": ((0.0, 0.002806, 0.211698, 0.82834), (1.394148, 0.101471, None, None)),
}


def test_the_devkit_comes_to_the_same():
    have = nuscenes_average_precision(*random_frames(5), NAMES)
    assert have.per_class.keys() == DEVKIT.keys()
    for name, (precision, errors) in DEVKIT.items():
        one = have.per_class[name]
        assert tuple(one.at.values()) == pytest.approx(precision, abs=1e-6)
        found = (
            one.errors.translation,
            one.errors.scale,
            one.errors.orientation,
            one.errors.velocity,
        )
        for got, want in zip(found, errors):
            assert got == (None if want is None else pytest.approx(want, abs=1e-6))


def loop_matches(results, labels, label, distance):
    """All detections of a class that count, the best first: score, and what it found or None."""
    ranked = [
        (float(result.scores[d]), frame, d)
        for frame, result in enumerate(results)
        for d in range(len(result))
        if result.labels[d] == label
    ]
    taken, found = set(), []
    for score, frame, d in sorted(ranked, key=lambda one: -one[0]):
        box, true = results[frame].boxes[d].astype(float), labels[frame]
        near = [
            (math.dist(box[:2], true.boxes[g, :2].astype(float)), g)
            for g in range(len(true))
            if true.labels[g] == label and (frame, g) not in taken
        ]
        near = sorted(one for one in near if one[0] < distance)
        own = [g for _, g in near if not true.ignored[g]]
        if own:
            taken.add((frame, own[0]))
            found.append((score, (frame, d, own[0])))
        elif not near:
            found.append((score, None))
    return found


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), ignored=st.sampled_from([0.0, 0.3]))
def test_loops_come_to_the_same(seed, ignored):
    results, labels = random_frames(seed, ignored)
    have = nuscenes_average_precision(results, labels, NAMES)
    for label, name in enumerate(NAMES):
        truths = sum(int(((f.labels == label) & ~f.ignored).sum()) for f in labels)
        assert (name in have.per_class) == (truths > 0)
        if not truths:
            continue
        one = have.per_class[name]
        for distance in DISTANCES:
            found = loop_matches(results, labels, label, distance)
            recall, precision, right = [], [], 0
            for rank, (_, what) in enumerate(found, 1):
                right += what is not None
                recall.append(right / truths)
                precision.append(right / rank)
            worth = 0.0
            for wanted in np.linspace(0, 1, 101)[11:]:
                if right and wanted <= recall[-1]:
                    worth += max(0.0, np.interp(wanted, recall, precision) - 0.1) / 0.9
            assert one.at[distance] == pytest.approx(worth / 90, abs=1e-9)
        found = [what for _, what in loop_matches(results, labels, label, 2.0) if what]
        if len(found) == truths == 1:
            frame, d, g = found[0]
            box, true = results[frame].boxes[d], labels[frame].boxes[g]
            assert one.errors.translation == pytest.approx(math.dist(box[:2], true[:2]))
