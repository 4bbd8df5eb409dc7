# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Anchor-based heads: YOLOv5 and YOLOv7, and Yolo-FastestV2."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import numpy as np

from av_compress.errors import ConfigError
from av_compress.tasks.camera_detection.heads.base import (
    Activation,
    Border,
    Candidates,
    Family,
    Floats,
    HeadConfig,
    Indices,
    activate,
    corners,
    pick_classes,
    raw_threshold,
)
from av_compress.tasks.camera_detection.outputs import Form, Wanted
from av_compress.tensors import Array

Anchors: TypeAlias = tuple[tuple[tuple[float, float], ...], ...]


@dataclass(frozen=True, kw_only=True)
class Yolov5Head(HeadConfig):
    """A YOLOv5 or YOLOv7 head.

    Attributes:
        strides: of the scales, in the order of the maps.
        anchors: for each stride its anchors, each (width, height) in pixels of the input; raw
            maps cannot be decoded without them.
        map_activation: what turns raw maps into 0..1; rows are decoded by the model itself.
        multi_label: a box yields a candidate for each class over the threshold.

    """

    type: ClassVar[str] = "yolov5"
    strides: tuple[int, ...] = (8, 16, 32)
    anchors: Anchors = ()
    map_activation: Activation = "sigmoid"
    multi_label: bool = False

    def __post_init__(self) -> None:
        """Check that every stride has its anchors."""
        _check_anchors(self.anchors, self.strides)


@dataclass(frozen=True, kw_only=True)
class YoloFastestV2Head(HeadConfig):
    """A Yolo-FastestV2 head, whose anchors share the classes of their cell.

    Attributes:
        strides: of the scales, in the order of the maps.
        anchors: for each stride its anchors, each (width, height) in pixels of the input.
        multi_label: a box yields a candidate for each class over the threshold.

    """

    type: ClassVar[str] = "yolo_fastestv2"
    anchors: Anchors
    strides: tuple[int, ...] = (16, 32)
    multi_label: bool = False

    def __post_init__(self) -> None:
        """Check that every stride has its anchors."""
        _check_anchors(self.anchors, self.strides)


@dataclass(frozen=True)
class _Picked:
    """Predictions of one scale whose objectness passes.

    Attributes:
        regression: [n, 4], activated x, y, w, h.
        scores: [n, classes].
        anchors: [n], index of the anchor.
        rows: [n], row of the cell.
        columns: [n], column of the cell.

    """

    regression: Floats
    scores: Floats
    anchors: Indices
    rows: Indices
    columns: Indices


def _check_anchors(anchors: Anchors, strides: tuple[int, ...]) -> None:
    if anchors and len(anchors) != len(strides):
        raise ConfigError(
            f"task.head.anchors: {len(anchors)} lists are not allowed; "
            f"allowed: one for each of the {len(strides)} strides"
        )


def _yolov5_forms(head: Yolov5Head, border: Border) -> tuple[Form, ...]:
    channels = 5 + border.classes
    if not head.anchors:
        return (Form("rows", (Wanted("detections", (1, None, channels)),)),)
    boxes, maps, grids = 0, [], []
    for index, (stride, anchors) in enumerate(zip(head.strides, head.anchors)):
        columns, rows = border.cells(stride)
        count, role = len(anchors), f"maps[{index}]"
        boxes += count * rows * columns
        maps.append(Wanted(role, (1, count * channels, rows, columns)))
        grids.append(Wanted(role, (1, count, rows, columns, channels)))
    return (
        Form("rows", (Wanted("detections", (1, boxes, channels)),)),
        Form("maps", tuple(maps)),
        Form("grids", tuple(grids)),
    )


def _yolov5_decode(
    head: Yolov5Head, border: Border, form: str, outputs: Mapping[str, Array], threshold: float
) -> Candidates:
    """Decode rows in pixels, or raw maps with anchors.

    Source: YOLOv5's reference implementation: xy = (2 s(x) - 0.5 + cell) * stride,
    wh = (2 s(w))^2 * anchor, score = s(objectness) * s(class).
    """
    if form == "rows":
        rows = outputs["detections"][0]
        rows = rows[np.flatnonzero(rows[:, 4] >= threshold)]
        kept, labels, best = pick_classes(rows[:, 4:5] * rows[:, 5:], threshold, head.multi_label)
        return Candidates(corners(rows[kept, :2], rows[kept, 2:4]), best, labels)
    parts = []
    for index, (stride, anchors) in enumerate(zip(head.strides, head.anchors)):
        array = outputs[f"maps[{index}]"][0]
        if form == "grids":
            array = np.moveaxis(array, -1, 1)
        else:
            array = array.reshape(len(anchors), 5 + border.classes, *array.shape[1:])
        picked = _pick_raw(array, head.map_activation, threshold)
        parts.append(_anchored(picked, stride, anchors, threshold, head.multi_label))
    return _joined(parts)


def _pick_raw(array: Floats, activation: Activation, threshold: float) -> _Picked:
    """Pick from [anchors, 5 + classes, h, w]."""
    near = np.nonzero(array[:, 4] >= raw_threshold(threshold, activation))
    anchors, rows, columns = near
    values = activate(array[anchors, :, rows, columns], activation)
    return _Picked(values[:, :4], values[:, 4:5] * values[:, 5:], anchors, rows, columns)


def _fastestv2_forms(head: YoloFastestV2Head, border: Border) -> tuple[Form, ...]:
    last, first = [], []
    for index, (stride, anchors) in enumerate(zip(head.strides, head.anchors)):
        columns, rows = border.cells(stride)
        channels, role = 5 * len(anchors) + border.classes, f"maps[{index}]"
        last.append(Wanted(role, (1, rows, columns, channels)))
        first.append(Wanted(role, (1, channels, rows, columns)))
    return (Form("channels_last", tuple(last)), Form("channels_first", tuple(first)))


def _fastestv2_decode(
    head: YoloFastestV2Head,
    border: Border,
    form: str,
    outputs: Mapping[str, Array],
    threshold: float,
) -> Candidates:
    """Decode activated maps: 4 regressions per anchor, objectness per anchor, classes.

    Source: Yolo-FastestV2's reference implementation and its ONNX export; boxes as in YOLOv5.
    """
    parts = []
    for index, (stride, anchors) in enumerate(zip(head.strides, head.anchors)):
        array = outputs[f"maps[{index}]"][0]
        array = np.moveaxis(array, -1, 0) if form == "channels_last" else array
        picked = _pick_shared(array, len(anchors), threshold)
        parts.append(_anchored(picked, stride, anchors, threshold, head.multi_label))
    return _joined(parts)


def _pick_shared(array: Floats, count: int, threshold: float) -> _Picked:
    """Pick from [5 * anchors + classes, h, w]."""
    anchors, rows, columns = np.nonzero(array[4 * count : 5 * count] >= threshold)
    boxes = array[: 4 * count].reshape(count, 4, *array.shape[1:])
    objectness = array[4 * count + anchors, rows, columns]
    classes = array[5 * count :, rows, columns].T
    return _Picked(
        boxes[anchors, :, rows, columns], objectness[:, None] * classes, anchors, rows, columns
    )


def _anchored(
    picked: _Picked,
    stride: int,
    anchors: tuple[tuple[float, float], ...],
    threshold: float,
    multi_label: bool,
) -> Candidates:
    kept, labels, best = pick_classes(picked.scores, threshold, multi_label)
    cells = np.stack([picked.columns[kept], picked.rows[kept]], axis=1).astype(np.float32)
    regression = picked.regression[kept] * np.float32(2.0)
    centers = (regression[:, :2] - np.float32(0.5) + cells) * np.float32(stride)
    sizes = regression[:, 2:] ** 2 * np.array(anchors, np.float32)[picked.anchors[kept]]
    return Candidates(corners(centers, sizes), best, labels)


def _joined(parts: list[Candidates]) -> Candidates:
    return Candidates(
        np.concatenate([part.boxes for part in parts]),
        np.concatenate([part.scores for part in parts]),
        np.concatenate([part.labels for part in parts]),
    )


YOLOV5 = Family(
    Yolov5Head, _yolov5_forms, _yolov5_decode, note="raw maps need task.head.anchors too"
)
YOLO_FASTESTV2 = Family(YoloFastestV2Head, _fastestv2_forms, _fastestv2_decode)
