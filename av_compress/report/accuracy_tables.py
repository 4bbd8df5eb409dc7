# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Average precision as tables for the terminal, and as JSON values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from av_compress.metrics.coco_protocol import DetectionAP
from av_compress.metrics.kitti import KittiAP
from av_compress.metrics.nuscenes import NuscenesAP, NuscenesErrors
from av_compress.report.numbers import NONE, fixed, points
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


def nuscenes_table(found: NuscenesAP) -> Table:
    """Tabulate by nuScenes' protocol: average precision in points by the distance, and errors."""
    distances = list(found.at)
    rows = [
        (name, f"{one.truths}", *_precisions(one.at, one.ap), *_errors(one.errors))
        for name, one in found.per_class.items()
    ]
    total = ("all classes", f"{found.truths}", *_precisions(found.at, found.ap))
    near = (f"AP {distance:g} m" for distance in distances)
    columns = ("class", "objects", *near, "AP", "ATE m", "ASE", "AOE rad", "AVE m/s")
    return Table(columns, rows, footer=[(*total, *_errors(found.errors))])


def _precisions(at: Mapping[float, float], mean: float) -> list[str]:
    return [points(one) for one in (*at.values(), mean)]


def _errors(errors: NuscenesErrors | None) -> list[str]:
    if errors is None:
        return [NONE] * 4
    told = (errors.translation, errors.scale, errors.orientation, errors.velocity)
    return [fixed(one, 3) for one in told]


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


def nuscenes_json(found: NuscenesAP) -> dict[str, Any]:
    """Return figures by nuScenes' protocol: precision in 0..1, errors in m, rad and m/s."""
    return {
        "map": found.ap,
        "at": _by_distance(found.at),
        "errors": None if found.errors is None else asdict(found.errors),
        "per_class": {
            name: {
                "ap": one.ap,
                "at": _by_distance(one.at),
                "errors": asdict(one.errors),
                "truths": one.truths,
            }
            for name, one in found.per_class.items()
        },
    }


def _by_distance(at: Mapping[float, float]) -> dict[str, float]:
    return {f"{distance:g}": precision for distance, precision in at.items()}
