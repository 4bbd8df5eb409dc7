# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Camera detection tasks for tests, and decoders written out as loops in double precision."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import MISSING
from pathlib import Path

import numpy as np
import yaml

from av_compress.tasks.base import ImageFrame, Labels2D
from av_compress.tasks.camera_detection import CameraDetection

TASKS = Path(__file__).parent / "data" / "tasks"


def task_config(head, classes=3, width=96, height=64, score_threshold=0.3, **changes):
    """A small non-square task: a mixed-up axis shows."""
    config = {
        "kind": "camera_detection",
        "class_names": [f"class {index}" for index in range(classes)],
        "input": {"width": width, "height": height},
        "resize": {"mode": "stretch"},
        "head": head,
        "score_threshold": score_threshold,
        "nms": {"iou_threshold": 1.0, "max_detections": 100000, "max_candidates": 100000},
    }
    return {**config, **changes}


def changed(config, path, value):
    """A copy of a configuration with the value at a dotted path; MISSING takes it out."""
    config = copy.deepcopy(config)
    *parents, key = path.split(".")
    section = config
    for parent in parents:
        section = section.setdefault(parent, {})
    if value is MISSING:
        del section[key]
    else:
        section[key] = value
    return config


def half_exact(array, dtype):
    """Values that both types hold, so that the reference sees what the decoder sees."""
    return np.asarray(array, dtype).astype(np.float64), np.asarray(array, dtype)


def squash_of(activation):
    return logistic if activation == "sigmoid" else identity


def make(head, **changes):
    return CameraDetection.from_config(task_config(head, **changes))


def real_task(name):
    return CameraDetection.from_config(yaml.safe_load((TASKS / f"{name}.yaml").read_text()))


def image_context(task, width, height):
    """The placement of an image of this size."""
    pixels = np.zeros((height, width, 3), np.uint8)
    return task.preprocess(ImageFrame(pixels)).context


def coco_labels(folder, split):
    """File names and labels of the recorded COCO images, and the class names of the labels."""
    data = json.loads((folder / "camera" / "coco" / f"instances_{split}.json").read_text())
    names = [category["name"] for category in data["categories"]]
    indices = {category["id"]: index for index, category in enumerate(data["categories"])}
    files, labels = [], []
    for image in data["images"]:
        own = [item for item in data["annotations"] if item["image_id"] == image["id"]]
        boxes = np.array([item["bbox"] for item in own], np.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        classes = np.array([indices[item["category_id"]] for item in own], np.int32)
        crowd = np.array([item["iscrowd"] for item in own], np.bool_)
        files.append(folder / "camera" / "coco" / image["file_name"])
        labels.append(Labels2D(boxes, classes, crowd))
    return files, labels, names


# What follows is written a second time on purpose: plain loops over doubles, from the papers and
# reference implementations, as the truth for the vectorised decoders. Each returns a list of
# (x1, y1, x2, y2, score, label) in pixels of the input.


def logistic(value):
    return 1.0 / (1.0 + math.exp(-float(value)))


def identity(value):
    return float(value)


def from_center(cx, cy, width, height):
    return cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2


def over(box, scores, threshold, multi_label):
    """Candidates of one box, from its score per class."""
    labels = (
        range(len(scores)) if multi_label else [max(range(len(scores)), key=scores.__getitem__)]
    )
    return [(*box, scores[label], label) for label in labels if scores[label] >= threshold]


def scale_cells(width, height, strides):
    for stride in strides:
        for row in range(math.ceil(height / stride)):
            for column in range(math.ceil(width / stride)):
                yield stride, row, column


def loop_yolox(array, size, strides, threshold, encoding, squash, multi_label):
    found = []
    for values, (stride, row, column) in zip(array[0], scale_cells(*size, strides)):
        x, y, w, h, objectness, *classes = map(float, values)
        if encoding == "grid":
            x, y = (x + column) * stride, (y + row) * stride
            w, h = math.exp(w) * stride, math.exp(h) * stride
        scores = [squash(objectness) * squash(value) for value in classes]
        found += over(from_center(x, y, w, h), scores, threshold, multi_label)
    return found


def expectation(logits):
    weights = [math.exp(float(value)) for value in logits]
    return sum(index * weight for index, weight in enumerate(weights)) / sum(weights)


def loop_sides(scores, sides, size, strides, threshold, offset, squash, multi_label):
    """NanoDet and YOLOv8: scores [n, classes], sides [n, 4, bins]; offset(stride) in pixels."""
    found = []
    cells = scale_cells(*size, strides)
    for values, distributions, (stride, row, column) in zip(scores, sides, cells):
        left, top, right, bottom = (expectation(logits) * stride for logits in distributions)
        x, y = column * stride + offset(stride), row * stride + offset(stride)
        box = (x - left, y - top, x + right, y + bottom)
        found += over(box, [squash(value) for value in values], threshold, multi_label)
    return found


def loop_anchors(maps, strides, anchors, threshold, squash, multi_label):
    """YOLOv5: maps [anchors, 5 + classes, h, w] per scale."""
    found = []
    for array, stride, sizes in zip(maps, strides, anchors):
        _, _, rows, columns = array.shape
        for anchor, (anchor_width, anchor_height) in enumerate(sizes):
            for row in range(rows):
                for column in range(columns):
                    values = [squash(value) for value in array[anchor, :, row, column]]
                    x, y, w, h, objectness, *classes = values
                    box = from_center(
                        (2 * x - 0.5 + column) * stride,
                        (2 * y - 0.5 + row) * stride,
                        (2 * w) ** 2 * anchor_width,
                        (2 * h) ** 2 * anchor_height,
                    )
                    scores = [objectness * value for value in classes]
                    found += over(box, scores, threshold, multi_label)
    return found


def loop_fastestdet(array, stride, power, threshold, multi_label):
    found = []
    rows, columns = array.shape[2:]
    for row in range(rows):
        for column in range(columns):
            objectness, x, y, w, h, *classes = map(float, array[0, :, row, column])
            box = from_center(
                (column + math.tanh(x)) * stride,
                (row + math.tanh(y)) * stride,
                logistic(w) * columns * stride,
                logistic(h) * rows * stride,
            )
            scores = [objectness**power * value ** (1 - power) for value in classes]
            found += over(box, scores, threshold, multi_label)
    return found


def loop_centernet(heatmap, size, offset, stride, threshold, squash, unit):
    found = []
    _, classes, rows, columns = heatmap.shape
    for label in range(classes):
        for row in range(rows):
            for column in range(columns):
                value = float(heatmap[0, label, row, column])
                around = heatmap[
                    0, label, max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2
                ]
                if value < float(around.max()) or squash(value) < threshold:
                    continue
                x, y = (0.0, 0.0) if offset is None else map(float, offset[0, :, row, column])
                w, h = (float(part) * unit for part in size[0, :, row, column])
                box = from_center((column + x) * stride, (row + y) * stride, w, h)
                found.append((*box, squash(value), label))
    return found


def loop_suppression(boxes, scores, labels, iou_threshold, class_aware):
    """Greedy suppression; returns the indices kept, best first, ties in order."""
    kept = []
    for index in sorted(range(len(scores)), key=lambda item: -scores[item]):
        rivals = [other for other in kept if labels[other] == labels[index] or not class_aware]
        if all(loop_iou(boxes[index], boxes[other]) <= iou_threshold for other in rivals):
            kept.append(index)
    return kept


def loop_iou(first, second):
    first, second = [float(value) for value in first], [float(value) for value in second]
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    shared = max(width, 0.0) * max(height, 0.0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    union = sum(areas) - shared
    return shared / union if union > 0 else 0.0


def assert_same(candidates, expected, pixels=1e-3):
    """Compare candidates with (x1, y1, x2, y2, score, label) tuples, in any order."""
    expected = [row for row in expected if row[2] > row[0] and row[3] > row[1]]
    found = [
        (*map(float, box), float(score), int(label))
        for box, score, label in zip(candidates.boxes, candidates.scores, candidates.labels)
    ]
    assert len(found) == len(expected)
    assert expected, "a comparison of nothing proves nothing"
    key = lambda row: (row[5], round(row[4], 4), round(row[0], 1), round(row[1], 1))  # noqa: E731
    for have, want in zip(sorted(found, key=key), sorted(expected, key=key)):
        assert have[5] == want[5]
        np.testing.assert_allclose(have[4], want[4], atol=1e-5)
        np.testing.assert_allclose(have[:4], want[:4], atol=pixels, rtol=1e-5)
