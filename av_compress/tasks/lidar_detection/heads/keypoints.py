# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Keypoint heads on a picture from above: SFA3D."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from av_compress.tasks.camera_detection.heads.base import Activation, activate
from av_compress.tasks.camera_detection.outputs import Form, Wanted
from av_compress.tasks.lidar_detection.heads.base import (
    Candidates,
    Family,
    LidarHead,
    Plane,
    YawForm,
    ZForm,
    joined,
    labels_of,
)
from av_compress.tasks.lidar_detection.heads.peaks import boxes_of, find_peaks
from av_compress.tensors import Array

# SFA3D's names, and how many channels each has.
_ROLES = {"cen_offset": 2, "direction": 2, "z_coor": 1, "dim": 3}


@dataclass(frozen=True, kw_only=True)
class KeypointHead(LidarHead):
    """A keypoint head. Offset and direction have one shape: one of them must bear its role's name.

    Attributes:
        stride: of the maps, in cells of the input's grid.
        activation: what turns the heatmap into probabilities.
        offset_activation: what turns offsets into cells.
        z_form: whether z is that of a box's centre or bottom.
        yaw_form: what the angle is, see `make_boxes`.

    """

    type: ClassVar[str] = "bev_keypoints"
    stride: int = 4
    activation: Activation = "sigmoid"
    offset_activation: Activation = "sigmoid"
    z_form: ZForm = "bottom"
    yaw_form: YawForm = "clockwise"


def _forms(head: KeypointHead, plane: Plane) -> tuple[Form, ...]:
    cells = plane.cells(head.stride)
    wanted = []
    for group, names in enumerate(head.group_names(plane.class_names)):
        wanted.append(Wanted(head.role("hm_cen", group), (1, len(names), *cells)))
        wanted += [
            Wanted(head.role(role, group), (1, count, *cells)) for role, count in _ROLES.items()
        ]
    return (Form("maps", tuple(wanted)),)


def _decode(
    head: KeypointHead, plane: Plane, form: str, outputs: Mapping[str, Array], threshold: float
) -> Candidates:
    """Decode peaks of the heatmap.

    Source: SFA3D (Nguyen, Super Fast and Accurate 3D Object Detection, 2020), reference
    implementation: heatmap and offsets (along columns, along rows) are raw; the direction is sin,
    cos of an angle that turns the other way; z is over the range's lower bound, and the labels'
    is that of the bottom; height, width and length are in metres.
    """
    parts = []
    for group, names in enumerate(head.group_names(plane.class_names)):
        heatmap = outputs[head.role("hm_cen", group)][0]
        peaks = find_peaks(heatmap, threshold, head.activation, local=True)
        read = {role: peaks.read(outputs[head.role(role, group)]) for role in _ROLES}
        offset = activate(read["cen_offset"].astype("float32"), head.offset_activation)
        values = {
            **dict(zip(("dx", "dy"), offset.astype("float64"))),
            **dict(zip(("sin", "cos"), read["direction"])),
            **dict(zip(("height", "width", "length"), read["dim"])),
            "z": read["z_coor"][0] + plane.grid.lower[2],
        }
        labels = labels_of(names, plane.class_names)
        forms = (head.z_form, head.yaw_form)
        parts.append(boxes_of(peaks, values, plane, head.stride, forms, labels))
    return joined(parts)


FAMILY = Family(
    KeypointHead, _forms, _decode, note="offset and direction are told apart by their names"
)
