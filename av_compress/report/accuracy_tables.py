# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Average precision as tables for the terminal, and as JSON values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from av_compress.metrics.coco_protocol import DetectionAP
from av_compress.metrics.kitti import KittiAP
from av_compress.report.numbers import points
from av_compress.report.tables import Table


def accuracy_table(accuracy: DetectionAP) -> Table:
    """Tabulate average precision by the COCO protocol, in points, class by class."""
    rows = [
        (name, f"{one.truths}", points(one.ap50), points(one.ap))
        for name, one in accuracy.per_class.items()
    ]
    total = ("all classes", f"{accuracy.truths}", points(accuracy.ap50), points(accuracy.ap))
    return Table(("class", "objects", "AP50", "AP"), rows, footer=[total])


def kitti_table(levels: Mapping[str, KittiAP]) -> Table:
    """Tabulate average precision by KITTI's protocol at 40 recalls, in points.

    Args:
        levels: difficulty -> figures.

    """
    names = list(dict.fromkeys(name for level in levels.values() for name in level.per_class))
    rows = [
        (name, level, f"{one.truths}", f"{one.iou:g}", points(one.bev.r40), points(one.volume.r40))
        for name in names
        for level, found in levels.items()
        if (one := found.per_class.get(name)) is not None
    ]
    footer = [
        ("all classes", level, f"{found.truths}", "", points(found.bev), points(found.volume))
        for level, found in levels.items()
    ]
    columns = ("class", "difficulty", "objects", "IoU", "BEV AP R40", "3D AP R40")
    return Table(columns, rows, footer=footer, left=2)


def accuracy_json(accuracy: DetectionAP) -> dict[str, Any]:
    """Return average precision by the COCO protocol, in 0..1."""
    return {
        "ap": accuracy.ap,
        "ap50": accuracy.ap50,
        "ap75": accuracy.ap75,
        "per_class": {
            name: {"ap": one.ap, "ap50": one.ap50, "truths": one.truths}
            for name, one in accuracy.per_class.items()
        },
    }


def kitti_json(levels: Mapping[str, KittiAP]) -> dict[str, Any]:
    """Return average precision by KITTI's protocol, in 0..1; difficulty -> figures."""
    return {
        level: {
            "bev": found.bev,
            "3d": found.volume,
            "per_class": {
                name: {
                    "bev": {"r40": one.bev.r40, "r11": one.bev.r11},
                    "3d": {"r40": one.volume.r40, "r11": one.volume.r11},
                    "truths": one.truths,
                    "iou": one.iou,
                }
                for name, one in found.per_class.items()
            },
        }
        for level, found in levels.items()
    }
