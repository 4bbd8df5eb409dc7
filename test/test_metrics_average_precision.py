# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Average precision: hand-worked, and against pycocotools used the long way round."""

import contextlib
import io
import json

import numpy as np
import pytest
from helpers_metrics import detections, labels, noisy_detections, random_truth
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from av_compress.metrics.average_precision import (
    average_precision,
    average_precision_against,
    confident,
    map_labels,
)
from av_compress.tasks.base import Detections2D

NAMES = ["car", "person", "cyclist"]


def coco_stats(results, truths, path):
    """AP, AP50 and AP75 from files, all area ranges and limits as COCO has them."""
    images, annotations, found = [], [], []
    for index, (result, truth) in enumerate(zip(results, truths)):
        images.append({"id": index + 10})
        for box, label, crowd in zip(truth.boxes, truth.labels, truth.crowd):
            x1, y1, x2, y2 = map(float, box)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": index + 10,
                    "category_id": int(label) + 5,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "iscrowd": int(crowd),
                }
            )
        for box, label, score in zip(result.boxes, result.labels, result.scores):
            x1, y1, x2, y2 = map(float, box)
            found.append(
                {
                    "image_id": index + 10,
                    "category_id": int(label) + 5,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "score": float(score),
                }
            )
    categories = [{"id": index + 5, "name": name} for index, name in enumerate(NAMES)]
    data = {"images": images, "annotations": annotations, "categories": categories}
    (path / "truth.json").write_text(json.dumps(data))
    (path / "found.json").write_text(json.dumps(found))
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(path / "truth.json"))
        evaluation = COCOeval(truth, truth.loadRes(str(path / "found.json")), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats[:3]


@pytest.mark.parametrize("seed", range(6))
def test_like_pycocotools_from_files(seed, tmp_path):
    rng = np.random.default_rng(seed)
    truths = [random_truth(rng, int(rng.integers(0, 9))) for _ in range(12)]
    results = [noisy_detections(rng, truth, int(rng.integers(0, 6))) for truth in truths]
    have = average_precision(results, truths, NAMES)
    want = coco_stats(results, truths, tmp_path)
    np.testing.assert_allclose((have.ap, have.ap50, have.ap75), want, rtol=1e-12)
    assert 0.1 < have.ap < have.ap50 < 1.0
    mean = np.mean([entry.ap for entry in have.per_class.values()])
    np.testing.assert_allclose(have.ap, mean, rtol=1e-12)
    assert have.truths == sum(int((~truth.crowd).sum()) for truth in truths)


def test_only_the_best_hundred_detections_of_an_image_count(tmp_path):
    truth = labels((0, 0, 10, 10, 0))
    rows = [(200 + 20 * i, 0, 210 + 20 * i, 10, 0.9 - i / 1000, 0) for i in range(100)]
    results = [detections(*rows, (0, 0, 10, 10, 0.1, 0))]
    assert average_precision(results, [truth], NAMES).ap50 == 0.0
    assert coco_stats(results, [truth], tmp_path)[1] == 0.0
    fewer = [detections(*rows[:99], (0, 0, 10, 10, 0.1, 0))]
    np.testing.assert_allclose(average_precision(fewer, [truth], NAMES).ap50, 0.01)


def test_worked_by_hand():
    """Two cars, the better detection misses, the other hits by an overlap of 0.8.

    Precision is 1/2 up to recall 1/2, nothing beyond: 51 of 101 recalls at 0.5. The overlap passes
    the 7 thresholds 0.50 .. 0.80.
    """
    truth = [labels((0, 0, 10, 10, 0), (50, 50, 60, 60, 0))]
    results = [detections((0, 0, 10, 8, 0.6, 0), (80, 80, 90, 90, 0.7, 0))]
    have = average_precision(results, truth, NAMES)
    one = 0.5 * 51 / 101
    np.testing.assert_allclose((have.ap50, have.ap75, have.ap), (one, one, one * 0.7), rtol=1e-9)
    assert set(have.per_class) == {"car"}
    assert have.per_class["car"].truths == 2


def test_classes_without_truth_do_not_count():
    truth = [labels((0, 0, 10, 10, 1))]
    hit = (0, 0, 10, 10, 0.5, 1)
    assert average_precision([detections(hit)], truth, NAMES).ap == pytest.approx(1.0)
    with_false_car = [detections(hit, (0, 0, 10, 10, 0.9, 0))]
    have = average_precision(with_false_car, truth, NAMES)
    assert have.ap == pytest.approx(1.0)
    assert list(have.per_class) == ["person"]


def test_a_crowd_is_neither_found_nor_missed():
    truth = [labels((0, 0, 10, 10, 0), (50, 50, 90, 90, 0, 1))]
    inside = detections((0, 0, 10, 10, 0.5, 0), (55, 55, 60, 60, 0.9, 0), (60, 60, 66, 66, 0.8, 0))
    have = average_precision([inside], truth, NAMES)
    assert have.ap == pytest.approx(1.0)
    assert have.truths == 1


@pytest.mark.parametrize("truths", [[], [labels()], [labels((0, 0, 9, 9, 0, 1))]])
def test_without_truths_there_is_nothing_to_average(truths):
    results = [detections((0, 0, 9, 9, 0.9, 0))] * len(truths)
    have = average_precision(results, truths, NAMES)
    assert (have.ap, have.ap50, have.ap75, have.truths) == (0.0, 0.0, 0.0, 0)
    assert have.per_class == {}


def test_no_detections_at_all():
    have = average_precision([Detections2D.empty()] * 2, [labels((0, 0, 9, 9, 2))] * 2, NAMES)
    assert (have.ap, have.truths) == (0.0, 2)


def test_results_and_labels_must_match():
    with pytest.raises(ValueError, match="1 results, but labels of 2 frames"):
        average_precision([Detections2D.empty()], [labels(), labels()], NAMES)


def test_nothing_is_printed(capsys):
    average_precision([detections((0, 0, 9, 9, 1, 0))], [labels((0, 0, 9, 9, 0))], NAMES)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_against_another_model_only_its_confident_detections_are_truth():
    reference = [detections((0, 0, 10, 10, 0.8, 0), (30, 30, 40, 40, 0.25, 1))]
    assert len(confident(reference[0], 0.25)) == 1
    same = average_precision_against(reference, reference, class_names=NAMES)
    assert (same.ap, same.truths) == (pytest.approx(1.0), 1)
    lower = average_precision_against(reference, reference, min_score=0.2, class_names=NAMES)
    assert lower.truths == 2
    # An overlap of 0.7: found at 5 of the 10 thresholds.
    shifted = [detections((0, 0, 10, 7, 0.3, 0))]
    have = average_precision_against(reference, shifted, class_names=NAMES)
    assert (have.ap50, have.ap75, have.ap) == (pytest.approx(1.0), 0.0, pytest.approx(0.5))


def test_labels_are_translated_by_name():
    source = labels((0, 0, 1, 1, 0), (0, 0, 2, 2, 1), (0, 0, 3, 3, 2, 1))
    mapped = map_labels(source, ["person", "zebra", "car"], NAMES)
    np.testing.assert_array_equal(mapped.labels, [1, 0])
    np.testing.assert_array_equal(mapped.boxes[:, 2], [1, 3])
    np.testing.assert_array_equal(mapped.crowd, [False, True])
    assert mapped.labels.dtype == np.int32
    nothing = map_labels(labels(), [], NAMES)
    assert len(nothing) == 0
