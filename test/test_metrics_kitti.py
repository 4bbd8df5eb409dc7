# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""KITTI's average precision: worked by hand, in plain loops, and as the development kit has it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from helpers_metrics3d import CAR, PERSON, detections_3d, labels_3d, noisy_results, random_scene
from hypothesis import given, settings
from hypothesis import strategies as st

from av_compress.data.kitti import CLASS_NAMES, KittiFolder
from av_compress.metrics.kitti import KittiRules, Precision, kitti_average_precision
from av_compress.metrics.labels3d import KITTI_NEIGHBOURS, map_labels_3d
from av_compress.tasks.base import Detections3D, Visibility
from av_compress.tasks.boxes3d import bev_iou, iou_3d

NAMES = ("Car", "Pedestrian", "Cyclist")


def seen(*rows):
    """Rows of (occlusion, truncation, height)."""
    table = np.array(rows, np.float64).reshape(-1, 3)
    return Visibility(
        table[:, 0].astype(np.int32), table[:, 1].astype(np.float32), table[:, 2].astype("f4")
    )


def row_of_cars(count: int):
    return [(10.0 * index, 0, 0, *CAR, 0, 0) for index in range(count)]


def with_scores(rows, scores):
    return detections_3d(*[(*row[:7], score, row[7]) for row, score in zip(rows, scores)])


def car_ap(results, labels, **more):
    return kitti_average_precision(results, labels, NAMES, **more)["all"].per_class["Car"]


def test_every_object_found_and_nothing_else():
    rows = row_of_cars(80)
    have = car_ap([with_scores(rows, np.linspace(1, 0.1, 80))], [labels_3d(*rows)])
    assert have.bev == have.volume == Precision(1.0, 1.0)
    assert (have.truths, have.iou) == (80, 0.7)


def test_few_objects_reach_few_recalls():
    """As in the kit: of 40 objects, the last recall is reached by none; of one, not even 1/40."""
    rows = row_of_cars(40)
    have = car_ap([with_scores(rows, np.linspace(1, 0.1, 40))], [labels_3d(*rows)])
    assert have.bev == Precision(pytest.approx(39 / 40), pytest.approx(10 / 11))
    have = car_ap([with_scores(rows[:1], [0.9])], [labels_3d(*rows[:1])])
    assert have.bev == Precision(0.0, pytest.approx(1 / 11))


def test_half_found_behind_as_many_false_alarms():
    rows = row_of_cars(80)
    wrong = [(*row[:1], 50.0, *row[2:]) for row in rows[:40]]
    found = with_scores([*wrong, *rows[:40]], [0.95] * 40 + [0.9] * 40)
    have = car_ap([found], [labels_3d(*rows)])
    # Recalls 0, 1/40 .. 20/40 with a precision of a half.
    assert have.bev == Precision(pytest.approx(0.25), pytest.approx(3 / 11))


def test_precision_is_the_best_at_this_recall_or_more():
    rows = row_of_cars(80)
    wrong = [(-30.0, 50, 0, *CAR, 0, 0)]
    # One false alarm before all others: the precision rises to 80 / 81.
    found = with_scores([*wrong, *rows], np.linspace(1, 0.1, 81))
    have = car_ap([found], [labels_3d(*rows)])
    assert have.bev.r40 == pytest.approx(80 / 81)


def test_height_counts_in_space_alone():
    rows = row_of_cars(80)
    above = [(row[0], row[1], 0.5, *row[3:]) for row in rows]
    have = car_ap([with_scores(above, [0.9] * 80)], [labels_3d(*rows)])
    # 0.5 of 1.5 m: an overlap of 1 / 2 in space.
    assert have.bev.r40 == 1.0
    assert have.volume.r40 == 0.0
    rules = KittiRules({"car": 0.49})
    assert (
        car_ap([with_scores(above, [0.9] * 80)], [labels_3d(*rows)], rules=rules).volume.r40 == 1
    )


def test_an_overlap_must_exceed_the_threshold():
    rows = [(10.0 * index, 0, 0, 2, 2, 2, 0, 2) for index in range(80)]
    half = [(*row[:3], 1, 2, 2, *row[6:]) for row in rows]
    for least, ap in ((0.5, 0.0), (0.4999, 1.0)):
        found = kitti_average_precision(
            [with_scores(half, [0.9] * 80)], [labels_3d(*rows)], NAMES, KittiRules({}, least)
        )
        assert found["all"].per_class["Cyclist"].bev.r40 == ap


def test_a_second_detection_of_an_object_is_wrong():
    rows = row_of_cars(80)
    found = with_scores([*rows, *rows], [0.9] * 160)
    assert car_ap([found], [labels_3d(*rows)]).bev.r40 == pytest.approx(0.5)


def test_ignored_objects_are_neither_found_nor_missed():
    rows = row_of_cars(80)
    extra = [(10.0 * index, 50, 0, *CAR, 0, 0, 1) for index in range(20)]
    labels = labels_3d(*rows, *extra)
    for found in ([*rows, *extra], rows):
        have = car_ap([with_scores(found, [0.9] * len(found))], [labels])
        assert have.bev == Precision(1.0, 1.0)
        assert have.truths == 80


def test_neighbours_are_ignored_and_other_classes_are_not():
    source = labels_3d(*row_of_cars(80), (0, 50, 0, *CAR, 0, 1), (20, 50, 0, *CAR, 0, 2))
    labels = map_labels_3d(source, CLASS_NAMES, NAMES, KITTI_NEIGHBOURS)
    cars = row_of_cars(80)
    van, truck = (0, 50, 0, *CAR, 0, 0), (20, 50, 0, *CAR, 0, 0)
    assert car_ap([with_scores([*cars, van], [0.9] * 81)], [labels]).bev.r40 == 1.0
    have = car_ap([with_scores([*cars, truck], [0.9] * 81)], [labels])
    assert have.bev.r40 == pytest.approx(80 / 81)


def test_difficulties_count_what_a_camera_sees():
    rows = row_of_cars(6)
    visibility = seen(
        (0, 0.0, 40.0), (0, 0.15, 39.9), (1, 0.3, 25.0), (2, 0.0, 99.0), (0, 0.5, 99.0), (3, 0, 99)
    )
    labels = replace(labels_3d(*rows), visibility=visibility)
    have = kitti_average_precision([Detections3D.empty()], [labels], NAMES)
    truths = {level: found.truths for level, found in have.items()}
    assert truths == {"easy": 1, "moderate": 3, "hard": 5}
    assert (have["easy"].bev, have["hard"].volume) == (0.0, 0.0)


def test_detections_that_are_small_in_the_image_are_not_false_alarms():
    rows = row_of_cars(80)
    labels = replace(labels_3d(*rows), visibility=seen(*[(0, 0, 30)] * 80))
    wrong = [(10.0 * index, 50, 0, *CAR, 0, 0) for index in range(80)]
    found = with_scores([*wrong, *rows], [0.95] * 80 + [0.9] * 80)
    heights = np.array([24.9] * 80 + [30.0] * 80)
    have = kitti_average_precision([found], [labels], NAMES, heights=[heights])
    assert have["moderate"].bev == 1.0
    assert have["easy"].per_class == {}
    have = kitti_average_precision([found], [labels], NAMES)
    assert have["moderate"].bev == pytest.approx(0.5)


def test_one_frame_without_visibility_takes_all_grades_away():
    graded = replace(labels_3d(*row_of_cars(1)), visibility=seen((3, 0.9, 1.0)))
    have = kitti_average_precision(
        [Detections3D.empty()] * 2, [graded, labels_3d(*row_of_cars(1))], NAMES
    )
    assert list(have) == ["all"]
    assert have["all"].truths == 2


def test_nothing_at_all():
    have = kitti_average_precision([], [], NAMES)
    assert (have["all"].bev, have["all"].volume, have["all"].truths) == (0.0, 0.0, 0)
    with pytest.raises(ValueError, match="1 results, but labels of 0 frames"):
        kitti_average_precision([Detections3D.empty()], [], NAMES)


def test_labels_are_mapped_by_name():
    source = labels_3d(*[(index, 0, 0, *PERSON, 0, index) for index in range(len(CLASS_NAMES))])
    source = replace(
        source,
        visibility=seen(*[(0, 0, index) for index in range(8)]),
        velocities=np.arange(16, dtype=np.float32).reshape(8, 2),
    )
    have = map_labels_3d(source, CLASS_NAMES, ["cyclist", "CAR", "van"], KITTI_NEIGHBOURS)
    # Car; Van as a van and as a neighbour of cars; Cyclist.
    assert have.labels.tolist() == [1, 2, 1, 0]
    assert have.ignored.tolist() == [False, False, True, False]
    assert have.boxes[:, 0].tolist() == [0, 1, 1, 5]
    assert have.visibility.heights.tolist() == [0, 1, 1, 5]
    assert have.velocities[:, 0].tolist() == [0, 2, 2, 10]
    none = map_labels_3d(source, CLASS_NAMES, ["bicycle"])
    assert (len(none), none.boxes.shape) == (0, (0, 7))


def loop_counts(frames, least, threshold):
    """Right and wrong detections, missed objects, and the scores of the right: plain loops.

    Without a threshold the best score is taken, with one the largest overlap.
    """
    right, wrong, missed, scores = 0, 0, 0, []
    for overlaps, found, small, ignored in frames:
        alive = {d for d in range(len(found)) if threshold is None or found[d] >= threshold}
        for g in range(len(ignored)):
            near = [d for d in sorted(alive) if overlaps[g][d] > least]
            if threshold is None:
                best = max(near, key=lambda d: found[d], default=None)
            else:
                large = [d for d in near if not small[d]]
                best = max(large, key=lambda d: overlaps[g][d], default=near[0] if near else None)
            if best is None:
                missed += not ignored[g]
                continue
            alive.discard(best)
            if not (ignored[g] or small[best]):
                right += 1
                scores.append(found[best])
        wrong += sum(not small[d] for d in alive)
    return right, wrong, missed, scores


def loop_precision(frames, least):
    truths = sum(not one for _, _, _, ignored in frames for one in ignored)
    hits = sorted(loop_counts(frames, least, None)[3], reverse=True)
    curve, recall = [], 0.0
    for index, score in enumerate(hits):
        here, then = (index + 1) / truths, (index + 2) / truths
        # The next one comes nearer to the recall that is looked for.
        if index + 1 < len(hits) and then - recall < recall - here:
            continue
        right, wrong, _, _ = loop_counts(frames, least, score)
        curve.append(right / (right + wrong) if right + wrong else 0.0)
        recall += 1 / 40
    curve += [0.0] * (41 - len(curve))
    best = [max(curve[index:]) for index in range(41)]
    return sum(best[1:]) / 40, sum(best[::4]) / 11


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), level=st.sampled_from(["easy", "moderate", "hard"]))
def test_loops_come_to_the_same(seed, level):
    rng = np.random.default_rng(seed)
    results, labels, heights, frames = [], [], [], {name: ([], []) for name in NAMES}
    limits = {"easy": (40, 0, 0.15), "moderate": (25, 1, 0.3), "hard": (25, 2, 0.5)}[level]
    for _ in range(int(rng.integers(1, 6))):
        rows = random_scene(rng, int(rng.integers(0, 12)))
        marks = [
            (o, t, h)
            for o, t, h in zip(
                rng.choice([0, 0, 1, 2, 3], len(rows)),
                rng.choice([0, 0, 0.15, 0.3, 0.5, 0.7], len(rows)),
                rng.choice([20, 25, 39, 40, 80], len(rows)),
            )
        ]
        truth = replace(labels_3d(*rows), visibility=seen(*marks))
        result = noisy_results(rng, rows, int(rng.integers(0, 4)))
        sizes = rng.choice([24.9, 25, 39.9, 90], len(result))
        results.append(result)
        labels.append(truth)
        heights.append(sizes)
        for label, name in enumerate(NAMES):
            theirs, ours = truth.labels == label, result.labels == label
            hidden = [
                bool(gone) or o > limits[1] or t > limits[2] or h < limits[0]
                for gone, (o, t, h), own in zip(truth.ignored, marks, theirs)
                if own
            ]
            for measure, group in zip((bev_iou, iou_3d), frames[name]):
                overlaps = measure(truth.boxes[theirs], result.boxes[ours])
                small = sizes[ours] < limits[0]
                group.append((overlaps, result.scores[ours].tolist(), small, hidden))
    have = kitti_average_precision(results, labels, NAMES, heights=heights)[level]
    for name in NAMES:
        counted = any(not one for frame in frames[name][0] for one in frame[3])
        assert (name in have.per_class) == counted
        if counted:
            found = have.per_class[name]
            for got, group in zip((found.bev, found.volume), frames[name]):
                r40, r11 = loop_precision(group, found.iou)
                assert (got.r40, got.r11) == (pytest.approx(r40), pytest.approx(r11))


# What the development kit's own program says of the same files, its polygons replaced:
# difficulty, class -> bird's eye view at 40 and at 11 recalls, space at 40 and at 11.
KIT = {
    ("easy", "Car"): (0.0656, 0.1174, 0.0361, 0.0455),
    ("easy", "Pedestrian"): (0.0, 0.0182, 0.0, 0.0),
    ("moderate", "Car"): (0.1214, 0.1299, 0.0341, 0.0455),
    ("moderate", "Pedestrian"): (0.0, 0.0182, 0.0, 0.0),
    ("moderate", "Cyclist"): (0.0, 0.0, 0.0, 0.0),
    ("hard", "Car"): (0.1623, 0.1993, 0.0424, 0.0758),
    ("hard", "Pedestrian"): (0.0016, 0.0182, 0.0, 0.0),
    ("hard", "Cyclist"): (0.0, 0.0, 0.0, 0.0),
}


@pytest.fixture(scope="module")
def real(shared_data):
    folder = shared_data / "lidar"
    recorded = folder / "tiny_reference_detections_fov.json"
    if not recorded.is_file():
        pytest.skip(f"KITTI frames and detections are absent: {folder}")
    source = KittiFolder(folder / "kitti", "camera")
    found = json.loads(recorded.read_text())
    results = [detections_3d(*found[source.key(index)]) for index in range(len(source))]
    labels = [
        map_labels_3d(source.labels(index), source.class_names, NAMES, KITTI_NEIGHBOURS)
        for index in range(len(source))
    ]
    heights = [
        source.calibration(index).heights(result.boxes, source.image_size(index))
        for index, result in enumerate(results)
    ]
    return results, labels, heights


@pytest.mark.shared_data
def test_real_detections_score_as_the_development_kit_says(real):
    results, labels, heights = real
    have = kitti_average_precision(results, labels, NAMES, heights=heights)
    found = {
        (level, name): (one.bev.r40, one.bev.r11, one.volume.r40, one.volume.r11)
        for level, whole in have.items()
        for name, one in whole.per_class.items()
    }
    assert found.keys() == KIT.keys()
    for key, want in KIT.items():
        assert found[key] == pytest.approx(want, abs=6e-5), key


@pytest.mark.shared_data
def test_real_cars_are_found_half_covered(real):
    results, labels, heights = real
    half = kitti_average_precision(results, labels, NAMES, KittiRules({}), heights)
    cars = [half[level].per_class["Car"] for level in ("easy", "moderate", "hard")]
    assert [one.truths for one in cars] == [9, 15, 17]
    # As few as they are, more than 9/40, 15/40 and 17/40 cannot be reached.
    for one, most in zip(cars, (9 / 40, 15 / 40, 17 / 40)):
        assert 0.6 * most < one.volume.r40 <= most


@pytest.mark.shared_data
def test_real_labels_found_again_are_perfect(real):
    """Eight frames ten times over: enough objects for every recall."""
    _, labels, _ = real
    perfect = [
        Detections3D(one.boxes, np.ones(len(one), np.float32), one.labels) for one in labels
    ]
    have = kitti_average_precision(perfect * 10, labels * 10, NAMES)
    for level in ("easy", "moderate", "hard"):
        assert have[level].per_class["Car"].volume.r40 == 1.0
