# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""LiDAR detection tasks for tests, and decoders written out as loops in double precision."""

from __future__ import annotations

import math

import numpy as np

from av_compress.tasks.base import PointCloud
from av_compress.tasks.lidar_detection import LidarDetection

NAMES = ["car", "bus", "cyclist"]
# 12 columns along x, 8 rows along y; no two extents are equal: a mixed-up axis shows.
LOWER, UPPER, SIZE = (0.0, -2.0, -3.0), (4.8, 2.0, 1.0), (0.4, 0.5, 4.0)
COLUMNS, ROWS = 12, 8


def lidar_config(head=None, classes=3, encoder=None, **changes):
    """A small task; `changes` of its input have the prefix `input_`."""
    values = {k.removeprefix("input_"): v for k, v in changes.items() if k.startswith("input_")}
    others = {k: v for k, v in changes.items() if not k.startswith("input_")}
    config = {
        "kind": "lidar_detection",
        "class_names": NAMES[:classes],
        "input": {
            "lower": list(LOWER),
            "upper": list(UPPER),
            "voxel_size": list(SIZE),
            "encoder": {"type": "voxels", "max_points": 4, "max_voxels": 20, **(encoder or {})},
            **values,
        },
        "head": head or {"type": "center", "stride": 2},
        "score_threshold": 0.3,
        "nms": {"type": "none", "max_detections": 100000, "max_candidates": 100000},
    }
    return {**config, **others}


def make(head=None, **changes):
    return LidarDetection.from_config(lidar_config(head, **changes))


def bev_config(head=None, **changes):
    """A task that sees a picture from above: rows along x."""
    config = lidar_config(head or {"type": "bev_keypoints", "stride": 2}, **changes)
    config["input"]["encoder"] = {"type": "bev", **changes.get("encoder", {})}
    return config


def cloud(rows, key="cloud"):
    return PointCloud(np.array(rows, np.float32), key=key)


# What follows is written a second time on purpose: plain loops over doubles, from the papers and
# reference implementations, as the truth for the vectorised decoders. Each returns a list of
# (x, y, z, length, width, height, yaw, score, label[, vx, vy]).


def logistic(value):
    return 1.0 / (1.0 + math.exp(-float(value)))


def identity(value):
    return float(value)


def wrapped(angle):
    while angle > math.pi:
        angle -= 2 * math.pi
    while angle <= -math.pi:
        angle += 2 * math.pi
    return angle


def is_peak(heatmap, label, row, column):
    around = heatmap[label, max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
    return heatmap[label, row, column] >= around.max()


def loop_center(heatmap, values, stride, threshold, squash, peaks, labels):
    """CenterPoint: heatmap [classes, h, w], values name -> [h, w]."""
    found = []
    classes, rows, columns = heatmap.shape
    for label in range(classes):
        for row in range(rows):
            for column in range(columns):
                score = squash(heatmap[label, row, column])
                best = heatmap[:, row, column].argmax() == label
                chosen = is_peak(heatmap, label, row, column) if peaks else best
                if not chosen or score < threshold:
                    continue
                at = {name: float(array[row, column]) for name, array in values.items()}
                x = (column + at["dx"]) * stride * SIZE[0] + LOWER[0]
                y = (row + at["dy"]) * stride * SIZE[1] + LOWER[1]
                sizes = [
                    at[name] if name in at else math.exp(at[f"log_{name}"])
                    for name in ("length", "width", "height")
                ]
                speed = [at["vx"], at["vy"]] if "vx" in at else []
                yaw = math.atan2(at["sin"], at["cos"])
                found.append((x, y, at["z"], *sizes, yaw, score, labels[label], *speed))
    return found


def loop_sfa3d(maps, stride, threshold):
    """SFA3D: rows along x; the picture's height and width in cells are those of the range."""
    found = []
    heatmap = maps["hm_cen"]
    classes, rows, columns = heatmap.shape
    bound_x, bound_y = UPPER[0] - LOWER[0], UPPER[1] - LOWER[1]
    for label in range(classes):
        for row in range(rows):
            for column in range(columns):
                score = logistic(heatmap[label, row, column])
                if not is_peak(heatmap, label, row, column) or score < threshold:
                    continue
                picture_x = (column + logistic(maps["cen_offset"][0, row, column])) * stride
                picture_y = (row + logistic(maps["cen_offset"][1, row, column])) * stride
                sin, cos = map(float, maps["direction"][:, row, column])
                height, width, length = map(float, maps["dim"][:, row, column])
                x = picture_y / COLUMNS * bound_x + LOWER[0]
                y = picture_x / ROWS * bound_y + LOWER[1]
                bottom = float(maps["z_coor"][0, row, column]) + LOWER[2]
                yaw = -math.atan2(sin, cos)
                z = bottom + height / 2
                found.append((x, y, z, length, width, height, wrapped(yaw), score, label))
    return found


def loop_anchors(outputs, anchors, grid, coding, threshold, options):
    """OpenPCDet: outputs role -> [h, w, anchors, values]; anchors (l, w, h, bottom, yaw)."""
    found = []
    rows, columns, count, classes = outputs["classes"].shape
    low_x, low_y, high_x, high_y = grid
    for row in range(rows):
        for column in range(columns):
            for index in range(count):
                scores = [logistic(value) for value in outputs["classes"][row, column, index]]
                labels = [max(range(classes), key=scores.__getitem__)]
                if options["multi_label"]:
                    labels = list(range(classes))
                labels = [label for label in labels if scores[label] >= threshold]
                if not labels:
                    continue
                length, width, height, bottom, turn = anchors[index]
                if options["alignment"] == "edges":
                    at_x = low_x + column * (high_x - low_x) / (columns - 1)
                    at_y = low_y + row * (high_y - low_y) / (rows - 1)
                else:
                    at_x = low_x + (column + 0.5) * (high_x - low_x) / columns
                    at_y = low_y + (row + 0.5) * (high_y - low_y) / rows
                code = dict(zip(coding, map(float, outputs["boxes"][row, column, index])))
                diagonal = math.sqrt(length**2 + width**2)
                middle = bottom + height / 2
                if "yaw" in code:
                    yaw = code["yaw"] + turn
                else:
                    yaw = math.atan2(code["sin"] + math.sin(turn), code["cos"] + math.cos(turn))
                if "directions" in outputs:
                    logits = list(outputs["directions"][row, column, index])
                    period = 2 * math.pi / len(logits)
                    turned = yaw - options["offset"]
                    turned -= math.floor(turned / period + options["limit"]) * period
                    yaw = turned + options["offset"] + period * logits.index(max(logits))
                box = (
                    code["x"] * diagonal + at_x,
                    code["y"] * diagonal + at_y,
                    code["z"] * height + middle,
                    math.exp(code["length"]) * length,
                    math.exp(code["width"]) * width,
                    math.exp(code["height"]) * height,
                    wrapped(yaw),
                )
                speed = [code["vx"], code["vy"]] if "vx" in code else []
                found += [(*box, scores[label], label, *speed) for label in labels]
    return found


def rows_of(found):
    """Candidates or detections as rows, like those of the loops."""
    parts = [found.boxes, found.scores[:, None], found.labels[:, None]]
    if found.velocities is not None:
        parts.append(found.velocities)
    return np.concatenate(parts, axis=1).astype(np.float64)


def assert_same(found, expected, metres=1e-4):
    """Compare candidates with rows of the loops, in any order; angles by the turn between them."""
    have, want = rows_of(found), np.array(expected, np.float64)
    assert len(want), "a comparison of nothing proves nothing"
    assert have.shape == want.shape
    key = lambda rows: np.lexsort(np.round(rows[:, [1, 0, 7, 8]], 3).T)  # noqa: E731
    have, want = have[key(have)], want[key(want)]
    np.testing.assert_array_equal(have[:, 8], want[:, 8])
    np.testing.assert_allclose(have[:, 7], want[:, 7], atol=1e-5)
    np.testing.assert_allclose(have[:, :6], want[:, :6], atol=metres, rtol=1e-5)
    turn = have[:, 6] - want[:, 6]
    np.testing.assert_allclose(np.arctan2(np.sin(turn), np.cos(turn)), 0, atol=1e-5)
    assert (have[:, 6] > -np.float32(np.pi)).all()
    assert (have[:, 6] <= np.float32(np.pi)).all()
    np.testing.assert_allclose(have[:, 9:], want[:, 9:], atol=1e-5)
