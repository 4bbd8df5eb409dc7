# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Anchor-based heads: YOLOv5 and YOLOv7, and Yolo-FastestV2."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, TypeAlias

import numpy as np

from av_compress.errors import ConfigError
from av_compress.tasks.camera_detection.heads.base import (
    Activation,
    Border,
    Candidates,
    Floats,
    HeadConfig,
    activate,
    cell_grid,
    corners,
    pick_classes,
    raw_threshold,
)
from av_compress.tasks.camera_detection.heads.cells import (
    Block,
    Cells,
    Part,
    Scoring,
    Shapes,
    maps_of,
    rows_of,
)
from av_compress.tasks.camera_detection.heads.family import CellDecoder, Family
from av_compress.tasks.camera_detection.outputs import Form, Wanted

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


def _row_scoring(head: Yolov5Head, border: Border, form: str, shapes: Shapes) -> Scoring:
    blocks = (rows_of("detections", shapes["detections"]),)
    return Scoring(blocks, (5, 5 + border.classes), 4)


def _decode_rows(head: Yolov5Head, border: Border, cells: Cells, threshold: float) -> Candidates:
    """Decode rows of centre and size in pixels, objectness, classes."""
    rows = cells.rows[np.flatnonzero(cells.rows[:, 4] >= threshold)]
    kept, labels, best = pick_classes(rows[:, 4:5] * rows[:, 5:], threshold, head.multi_label)
    return Candidates(corners(rows[kept, :2], rows[kept, 2:4]), best, labels)


def _map_scoring(head: Yolov5Head, border: Border, form: str, shapes: Shapes) -> Scoring:
    blocks = []
    for index, anchors in enumerate(head.anchors):
        role = f"maps[{index}]"
        if form == "grids":
            blocks.append(rows_of(role, shapes[role]))
        else:
            blocks.append(maps_of(role, shapes[role], len(anchors)))
    return Scoring(tuple(blocks), (5, 5 + border.classes), 4, head.map_activation)


def _decode_maps(head: Yolov5Head, border: Border, cells: Cells, threshold: float) -> Candidates:
    near = np.flatnonzero(cells.rows[:, 4] >= raw_threshold(threshold, head.map_activation))
    values = activate(cells.rows[near], head.map_activation)
    near_cells = Cells(cells.form, cells.indices[near], values)
    return _anchored(head, border, near_cells, threshold)


def _fastestv2_forms(head: YoloFastestV2Head, border: Border) -> tuple[Form, ...]:
    last, first = [], []
    for index, (stride, anchors) in enumerate(zip(head.strides, head.anchors)):
        columns, rows = border.cells(stride)
        channels, role = 5 * len(anchors) + border.classes, f"maps[{index}]"
        last.append(Wanted(role, (1, rows, columns, channels)))
        first.append(Wanted(role, (1, channels, rows, columns)))
    return (Form("channels_last", tuple(last)), Form("channels_first", tuple(first)))


def _fastestv2_scoring(
    head: YoloFastestV2Head, border: Border, form: str, shapes: Shapes
) -> Scoring:
    """Describe activated maps: 4 regressions per anchor, objectness per anchor, classes.

    Source: Yolo-FastestV2's reference implementation and its ONNX export.
    """
    blocks = []
    for index, anchors in enumerate(head.anchors):
        role, count = f"maps[{index}]", len(anchors)
        extents = shapes[role][1:]
        if form == "channels_last":
            rows, columns, cell = extents
            channel = 1
        else:
            _, rows, columns = extents
            cell, channel = 1, rows * columns
        parts = (
            Part(role, 4, cell, channel, 0, 4 * channel),
            Part(role, 1, cell, channel, 4 * count * channel, channel),
            Part(role, border.classes, cell, channel, 5 * count * channel),
        )
        blocks.append(Block(rows * columns, parts, count))
    return Scoring(tuple(blocks), (5, 5 + border.classes), 4)


def _decode_fastestv2(
    head: YoloFastestV2Head, border: Border, cells: Cells, threshold: float
) -> Candidates:
    near = np.flatnonzero(cells.rows[:, 4] >= threshold)
    near_cells = Cells(cells.form, cells.indices[near], cells.rows[near])
    return _anchored(head, border, near_cells, threshold)


def _anchored(
    head: Yolov5Head | YoloFastestV2Head, border: Border, cells: Cells, threshold: float
) -> Candidates:
    """Decode rows of x, y, w, h, objectness, classes, each in 0..1.

    Source: YOLOv5's reference implementation: xy = (2 x - 0.5 + cell) * stride,
    wh = (2 w)^2 * anchor, score = objectness * class.
    """
    scores = cells.rows[:, 4:5] * cells.rows[:, 5:]
    kept, labels, best = pick_classes(scores, threshold, head.multi_label)
    indices = cells.indices[kept]
    grid = _anchor_grid(border, head.strides, head.anchors)
    places, strides, anchors = (part[indices] for part in grid)
    regression = cells.rows[kept, :4] * np.float32(2.0)
    centers = (regression[:, :2] - np.float32(0.5) + places) * strides[:, None]
    sizes = regression[:, 2:] ** 2 * anchors
    return Candidates(corners(centers, sizes), best, labels)


@lru_cache(maxsize=32)
def _anchor_grid(
    border: Border, strides: tuple[int, ...], anchors: Anchors
) -> tuple[Floats, Floats, Floats]:
    """Enumerate the anchors of all scales: scale after scale, anchor by anchor, row by row.

    Returns:
        (column, row) [n, 2], stride [n] and anchor's size [n, 2] of each; read-only.

    """
    places, widths, sizes = [], [], []
    for stride, own in zip(strides, anchors):
        grid, steps = cell_grid(border, (stride,))
        places.append(np.tile(grid, (len(own), 1)))
        widths.append(np.tile(steps, len(own)))
        sizes.append(np.repeat(np.array(own, np.float32), len(grid), axis=0))
    parts = np.concatenate(places), np.concatenate(widths), np.concatenate(sizes)
    for part in parts:
        part.setflags(write=False)
    return parts


YOLOV5 = Family(
    Yolov5Head,
    _yolov5_forms,
    {
        "rows": CellDecoder(_row_scoring, _decode_rows),
        "maps": CellDecoder(_map_scoring, _decode_maps),
        "grids": CellDecoder(_map_scoring, _decode_maps),
    },
    note="raw maps need task.head.anchors too",
)
YOLO_FASTESTV2 = Family(
    YoloFastestV2Head,
    _fastestv2_forms,
    {
        form: CellDecoder(_fastestv2_scoring, _decode_fastestv2)
        for form in ("channels_last", "channels_first")
    },
)
