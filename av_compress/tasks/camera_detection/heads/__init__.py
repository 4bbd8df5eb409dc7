# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What a detector's outputs mean, one family of heads per module, chosen by configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from av_compress.tasks.camera_detection.heads import (
    anchored,
    centernet,
    decoded,
    fastestdet,
    nanodet,
    yolov8,
    yolox,
)
from av_compress.tasks.camera_detection.heads.base import Border, Candidates, HeadConfig
from av_compress.tasks.camera_detection.heads.cells import CellOutputs, Cells, Scoring
from av_compress.tasks.camera_detection.heads.family import CellDecoder, Family

FAMILIES: Mapping[str, Family[Any]] = {
    family.config.type: family
    for family in (
        yolox.FAMILY,
        anchored.YOLOV5,
        anchored.YOLO_FASTESTV2,
        yolov8.FAMILY,
        nanodet.FAMILY,
        fastestdet.FAMILY,
        centernet.FAMILY,
        decoded.FAMILY,
    )
}


def parse_head(config: Mapping[str, Any]) -> HeadConfig:
    """Make the configuration of the head that `config["type"]` names, from validated JSON."""
    options = {key: _frozen(value) for key, value in config.items() if key != "type"}
    outputs = tuple(
        (role, _frozen(name)) for role, name in sorted(config.get("outputs", {}).items())
    )
    head: HeadConfig = FAMILIES[config["type"]].config(**{**options, "outputs": outputs})
    return head


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value


__all__ = [
    "FAMILIES",
    "Border",
    "Candidates",
    "CellDecoder",
    "CellOutputs",
    "Cells",
    "Family",
    "HeadConfig",
    "Scoring",
    "parse_head",
]
