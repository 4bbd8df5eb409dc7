# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Centre heads: CenterPoint and what follows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import numpy as np

from av_compress.errors import ConfigError
from av_compress.tasks.camera_detection.heads.base import Activation
from av_compress.tasks.camera_detection.outputs import Form, Wanted
from av_compress.tasks.lidar_detection.heads.base import (
    Candidates,
    Doubles,
    Family,
    LidarHead,
    Plane,
    YawForm,
    ZForm,
    frozen,
    joined,
    labels_of,
)
from av_compress.tasks.lidar_detection.heads.peaks import boxes_of, find_peaks
from av_compress.tensors import Array

Maps: TypeAlias = tuple[tuple[str, tuple[str, ...]], ...]

_SIZES = ("length", "width", "height")
CHANNELS = (
    *("dx", "dy", "z"),
    *_SIZES,
    *(f"log_{name}" for name in _SIZES),
    *("sin", "cos", "vx", "vy"),
)
# The order of OpenPCDet's and mmdetection3d's boxes, under CenterPoint's names.
_MAPS: Maps = (
    ("dim", tuple(f"log_{name}" for name in _SIZES)),
    ("height", ("z",)),
    ("reg", ("dx", "dy")),
    ("rot", ("sin", "cos")),
)


@dataclass(frozen=True, kw_only=True)
class CenterHead(LidarHead):
    """A centre head.

    Attributes:
        stride: of the maps, in cells of the input's grid.
        activation: what turns heatmaps into probabilities.
        peaks: only cells that none around exceeds; false: all cells, with their best class.
        maps: (role, channels) of the outputs beside the heatmaps, see `CHANNELS`: one output of
            all channels, or several. Each group of outputs has all of them.
        z_form: whether z is that of a box's centre or bottom.
        yaw_form: what the angle is, see `make_boxes`.

    """

    type: ClassVar[str] = "center"
    stride: int = 4
    activation: Activation = "sigmoid"
    peaks: bool = True
    maps: Maps = _MAPS
    z_form: ZForm = "center"
    yaw_form: YawForm = "counter_clockwise"

    def __post_init__(self) -> None:
        """Check that the maps make a box.

        Raises:
            ConfigError: a channel is missing, or stands there twice.

        """
        channels = [name.removeprefix("log_") for _, names in self.maps for name in names]
        twice = sorted({name for name in channels if channels.count(name) > 1})
        wanted = ["dx", "dy", "z", *_SIZES, "sin", "cos"]
        wanted += ["vx", "vy"] if {"vx", "vy"} & set(channels) else []
        missing = [name for name in wanted if name not in channels]
        if twice or missing:
            what = f"{twice[0]} is there twice" if twice else f"{missing[0]} is missing"
            raise ConfigError(f"task.head.maps: {what}; wanted: {', '.join(wanted)}, each once")
        if any(role == "heatmap" for role, _ in self.maps):
            raise ConfigError("task.head.maps: 'heatmap' is not allowed; it holds the classes")

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> LidarHead:
        """Make it of validated JSON values; see `LidarHead.from_config`."""
        maps = config.get("maps")
        if maps is None:
            return super().from_config(config)
        pairs = sorted((role, frozen(names)) for role, names in maps.items())
        return super().from_config({**config, "maps": tuple(pairs)})

    def to_config(self) -> dict[str, Any]:
        """Return JSON values."""
        return {**super().to_config(), "maps": dict(self.maps)}


def _forms(head: CenterHead, plane: Plane) -> tuple[Form, ...]:
    cells = plane.cells(head.stride)
    wanted = []
    for group, names in enumerate(head.group_names(plane.class_names)):
        wanted.append(Wanted(head.role("heatmap", group), (1, len(names), *cells)))
        wanted += [
            Wanted(head.role(role, group), (1, len(channels), *cells))
            for role, channels in head.maps
        ]
    return (Form("maps", tuple(wanted)),)


def _decode(
    head: CenterHead, plane: Plane, form: str, outputs: Mapping[str, Array], threshold: float
) -> Candidates:
    """Decode cells of heatmaps.

    Source: Yin et al., Center-based 3D Object Detection and Tracking (2021), section 4, and its
    reference implementation: x = (column + dx) * stride * size + lower, y likewise; sizes as
    logarithms; yaw = atan2(sin, cos).
    """
    parts = []
    for group, names in enumerate(head.group_names(plane.class_names)):
        heatmap = outputs[head.role("heatmap", group)][0]
        peaks = find_peaks(heatmap, threshold, head.activation, head.peaks)
        values: dict[str, Doubles] = {}
        for role, channels in head.maps:
            values |= dict(zip(channels, peaks.read(outputs[head.role(role, group)])))
        values |= {
            name: np.exp(values[f"log_{name}"]) for name in _SIZES if f"log_{name}" in values
        }
        labels = labels_of(names, plane.class_names)
        forms = (head.z_form, head.yaw_form)
        parts.append(boxes_of(peaks, values, plane, head.stride, forms, labels))
    return joined(parts)


FAMILY = Family(CenterHead, _forms, _decode, note="task.head.maps says which channels each has")
