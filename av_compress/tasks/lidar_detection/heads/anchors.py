# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Anchor heads: SECOND and PointPillars, as OpenPCDet and mmdetection3d have them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from av_compress.errors import ConfigError
from av_compress.tasks.camera_detection.heads.base import (
    Activation,
    activate,
    pick_classes,
    raw_threshold,
)
from av_compress.tasks.camera_detection.outputs import Form, Wanted
from av_compress.tasks.lidar_detection.heads.base import (
    Candidates,
    Doubles,
    Family,
    Indices,
    LidarHead,
    Plane,
    YawForm,
    frozen,
    joined,
    labels_of,
    make_boxes,
)
from av_compress.tensors import Array

_QUARTER = 1.5707963267948966
CODES = ("x", "y", "z", "length", "width", "height", "yaw", "sin", "cos", "vx", "vy")
_NEEDED = CODES[:6]


@dataclass(frozen=True)
class Anchor:
    """Anchors of one size, one for each rotation, in every cell.

    Attributes:
        class_name: of the objects that it is for: it decides in which group it stands.
        size: length, width, height in metres.
        bottom: height of its bottom in metres.
        rotations: radians.

    """

    class_name: str
    size: tuple[float, float, float]
    bottom: float
    rotations: tuple[float, ...] = (0.0, _QUARTER)


@dataclass(frozen=True, kw_only=True)
class AnchorHead(LidarHead):
    """An anchor head.

    Attributes:
        anchors: in the order of the outputs' channels.
        stride: of the maps, in cells of the input's grid.
        activation: what turns classes into probabilities.
        alignment: whether the outermost anchors lie on the `edges` of the extent, or all in the
            `centers` of their cells.
        extent: smallest x, y and largest x, y of the anchors in metres; by default the range's.
        coding: what each of an anchor's regressions is, see `CODES`; either yaw, or sin and cos.
        direction_bins: into how many directions the turn is divided; 0: the yaw tells all.
        direction_offset: where the first one begins, in radians.
        direction_limit_offset: see `_turned`.
        multi_label: an anchor yields a candidate for each class over the threshold.
        yaw_form: what the angle is, see `make_boxes`.

    """

    type: ClassVar[str] = "anchors"
    anchors: tuple[Anchor, ...]
    stride: int = 2
    activation: Activation = "sigmoid"
    alignment: Literal["edges", "centers"] = "edges"
    extent: tuple[float, float, float, float] | None = None
    coding: tuple[str, ...] = CODES[:7]
    direction_bins: int = 2
    direction_offset: float = 0.78539
    direction_limit_offset: float = 0.0
    multi_label: bool = False
    yaw_form: YawForm = "counter_clockwise"

    def __post_init__(self) -> None:
        """Check that the regressions make a box.

        Raises:
            ConfigError: one is missing, or the extent is empty.

        """
        angles = ("sin", "cos") if "sin" in self.coding or "cos" in self.coding else ("yaw",)
        speeds = ("vx", "vy") if {"vx", "vy"} & set(self.coding) else ()
        if sorted(self.coding) != sorted((*_NEEDED, *angles, *speeds)):
            raise ConfigError(
                f"task.head.coding: {', '.join(self.coding)} are not allowed; allowed, in any "
                f"order: {', '.join(_NEEDED)}, yaw or sin and cos, and perhaps vx and vy"
            )
        if self.extent and not (
            self.extent[0] < self.extent[2] and self.extent[1] < self.extent[3]
        ):
            raise ConfigError(
                f"task.head.extent: {list(self.extent)} is not allowed; allowed: smallest x, y, "
                "then larger ones"
            )

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> LidarHead:
        """Make it of validated JSON values; see `LidarHead.from_config`."""
        anchors = tuple(
            Anchor(**{key: frozen(value) for key, value in entry.items()})
            for entry in config["anchors"]
        )
        return super().from_config({**config, "anchors": anchors})

    def check(self, class_names: Sequence[str]) -> None:
        """Hold the configuration against the task's classes; see `LidarHead.check`."""
        for index, anchor in enumerate(self.anchors):
            if anchor.class_name not in class_names:
                raise ConfigError(
                    f"task.head.anchors[{index}].class_name: {anchor.class_name!r} is not "
                    f"allowed; allowed: {', '.join(class_names)}"
                )
        for names in self.group_names(class_names):
            if not len(self.of_group(names)):
                raise ConfigError(f"task.head.anchors: there is none for {', '.join(names)}")

    def of_group(self, names: Sequence[str]) -> Doubles:
        """Return a cell's anchors for a group of classes.

        Returns:
            float64 [anchors, 5]: length, width, height, height of the centre, yaw.

        """
        found = [
            (*anchor.size, anchor.bottom + anchor.size[2] / 2, yaw)
            for anchor in self.anchors
            if anchor.class_name in names
            for yaw in anchor.rotations
        ]
        return np.array(found, np.float64).reshape(-1, 5)


@dataclass(frozen=True)
class _Picked:
    """Anchors that may hold an object.

    Attributes:
        anchors: [n], index of the cell's anchor.
        rows: [n], row of the cell.
        columns: [n], column of the cell.

    """

    anchors: Indices
    rows: Indices
    columns: Indices

    def take(self, kept: Indices) -> _Picked:
        return _Picked(self.anchors[kept], self.rows[kept], self.columns[kept])

    def read(self, form: str, array: Array, anchors: int) -> Doubles:
        """Return what an output holds there, as float64 [n, values of an anchor]."""
        if form == "channels_last":
            maps = array[0].reshape(*array.shape[1:3], anchors, -1)
            return np.asarray(maps[self.rows, self.columns, self.anchors], np.float64)
        maps = array[0].reshape(anchors, -1, *array.shape[2:])
        return np.asarray(maps[self.anchors, :, self.rows, self.columns], np.float64)


def _forms(head: AnchorHead, plane: Plane) -> tuple[Form, ...]:
    last: list[Wanted] = []
    first: list[Wanted] = []
    cells = plane.cells(head.stride)
    for group, names in enumerate(head.group_names(plane.class_names)):
        values = {"classes": len(names), "boxes": len(head.coding)}
        if head.direction_bins:
            values["directions"] = head.direction_bins
        for role, count in values.items():
            channels = len(head.of_group(names)) * count
            last.append(Wanted(head.role(role, group), (1, *cells, channels)))
            first.append(Wanted(head.role(role, group), (1, channels, *cells)))
    return (Form("channels_last", tuple(last)), Form("channels_first", tuple(first)))


def _decode(
    head: AnchorHead, plane: Plane, form: str, outputs: Mapping[str, Array], threshold: float
) -> Candidates:
    """Decode the regressions of anchors whose best class passes.

    Channels are anchor by anchor: those of the first class with each rotation, then the next.

    Source: Yan et al., SECOND (2018), section 3.1.5, OpenPCDet's ResidualCoder and mmdetection3d's
    DeltaXYZWLHRBBoxCoder: x = dx * diagonal + x', y likewise, with the diagonal of the anchor's
    footprint; z = dz * height' + z' of the centres; sizes e^d * size'; yaw = d + yaw', or
    atan2(dsin + sin yaw', dcos + cos yaw').
    """
    parts = []
    for group, names in enumerate(head.group_names(plane.class_names)):
        anchors = head.of_group(names)
        classes = outputs[head.role("classes", group)]
        picked = _pick(head, form, classes, len(anchors), threshold)
        scores = activate(
            picked.read(form, classes, len(anchors)).astype(np.float32), head.activation
        )
        rows, labels, best = pick_classes(scores, threshold, head.multi_label)
        picked = picked.take(rows)
        codes = picked.read(form, outputs[head.role("boxes", group)], len(anchors))
        values = dict(zip(head.coding, codes.T))
        decoded = _residuals(values, anchors[picked.anchors], _places(head, plane, picked))
        if head.direction_bins:
            logits = picked.read(form, outputs[head.role("directions", group)], len(anchors))
            decoded["yaw"] = _turned(head, decoded["yaw"], logits.argmax(axis=1))
        speeds = (
            np.stack([values["vx"], values["vy"]], axis=1).astype(np.float32)
            if "vx" in values
            else None
        )
        boxes = make_boxes(decoded, "center", head.yaw_form)
        parts.append(Candidates(boxes, best, labels_of(names, plane.class_names)[labels], speeds))
    return joined(parts)


def _pick(head: AnchorHead, form: str, classes: Array, anchors: int, threshold: float) -> _Picked:
    """Find the anchors one of whose classes may pass: no other is looked at again."""
    over = np.flatnonzero(classes >= raw_threshold(threshold, head.activation))
    if form == "channels_last":
        shape = (*classes.shape[1:3], anchors, classes.shape[3] // anchors)
        rows, columns, numbers, _ = np.unravel_index(over, shape)
    else:
        shape = (anchors, classes.shape[1] // anchors, *classes.shape[2:])
        numbers, _, rows, columns = np.unravel_index(over, shape)
    found = np.unique(np.stack([rows, columns, numbers]), axis=1)
    return _Picked(found[2], found[0], found[1])


def _places(head: AnchorHead, plane: Plane, picked: _Picked) -> tuple[Doubles, Doubles]:
    """Return x and y of anchors.

    Source: OpenPCDet's AnchorGenerator (`align_center` false and true), mmdetection3d's
    Anchor3DRangeGenerator and AlignedAnchor3DRangeGenerator.
    """
    rows, columns = plane.cells(head.stride)
    lower, upper = plane.grid.lower, plane.grid.upper
    left, near, right, far = head.extent or (*lower[:2], *upper[:2])
    by_axis = [(picked.columns, columns), (picked.rows, rows)]
    along_x, along_y = by_axis if plane.rows_along == "y" else by_axis[::-1]
    return (
        _spread(*along_x, left, right, head.alignment),
        _spread(*along_y, near, far, head.alignment),
    )


def _spread(numbers: Indices, count: int, low: float, high: float, alignment: str) -> Doubles:
    if alignment == "centers":
        return np.asarray(low + (numbers + 0.5) * ((high - low) / count))
    return np.asarray(low + numbers * ((high - low) / max(1, count - 1)))


def _residuals(
    values: Mapping[str, Doubles], anchors: Doubles, places: tuple[Doubles, Doubles]
) -> dict[str, Doubles]:
    length, width, height, middle, yaw = anchors.T
    diagonal = np.hypot(length, width)
    if "yaw" in values:
        turned = values["yaw"] + yaw
    else:
        turned = np.arctan2(values["sin"] + np.sin(yaw), values["cos"] + np.cos(yaw))
    return {
        "x": values["x"] * diagonal + places[0],
        "y": values["y"] * diagonal + places[1],
        "z": values["z"] * height + middle,
        "length": np.exp(values["length"]) * length,
        "width": np.exp(values["width"]) * width,
        "height": np.exp(values["height"]) * height,
        "yaw": turned,
    }


def _turned(head: AnchorHead, yaw: Doubles, bins: Indices) -> Doubles:
    """Bring angles into the direction that the classifier says.

    Source: OpenPCDet's AnchorHeadTemplate, mmdetection3d's Anchor3DHead: with the period of a bin,
    r = yaw - offset is brought to r - floor(r / period + limit offset) * period; the yaw is then
    r + offset + bin * period.
    """
    period = 2 * np.pi / head.direction_bins
    turn = yaw - head.direction_offset
    turn = turn - np.floor(turn / period + head.direction_limit_offset) * period
    return np.asarray(turn + head.direction_offset + period * bins)


FAMILY = Family(
    AnchorHead, _forms, _decode, note="channels are those of task.head.anchors, each rotation one"
)
