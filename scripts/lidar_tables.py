# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Tables of the benchmark of a LiDAR detector in INT8."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markdown_regions import number, table

Result = Mapping[str, Any]

METRICS = {
    "agreement_ap50": "AP50 against FP32",
    "agreement_ap": "AP against FP32",
    "ap50": "AP50 on labels",
    "kitti_r40": "KITTI's on labels",
}


def int8_clouds(figures: Result) -> str:
    """Tabulate what each recipe loses over ways to cut the frames, and how much is chance."""
    recipes = sorted(figures["recipes"].items(), key=lambda item: item[1]["place"])
    rows = [(name, share(found), *map(cell(found), METRICS)) for name, found in recipes]
    spread = [
        (name, *(f"{number(one['mean'])} ± {number(one['deviation'])}" for one in by_half(found)))
        for name, found in recipes
    ]
    of_fp32 = ", ".join(f"{label} {number(figures['fp32'][m])}" for m, label in METRICS.items())
    return "\n\n".join(
        [
            f"Points lost on all {figures['frames']} frames, each judged by a build that was "
            f"calibrated on four others: mean of {figures['pairs']} ways to cut the frames in "
            "halves, (worst), and the 95 % interval over ways to cut and frames. Less than zero "
            f"is a gain. FP32 makes {figures['detections']} detections over a score of 0.25, and "
            f"there are {figures['objects']} labelled objects. FP32's own: {of_fp32}.",
            table(("recipe", "in INT8, least", *METRICS.values()), rows),
            "The same on the four frames of single halves, mean and standard deviation of "
            f"{2 * figures['pairs']}:",
            table(("recipe", *METRICS.values()), spread),
        ]
    )


def share(found: Result) -> str:
    return f"{100 * found['int8_mac_share']['least']:.1f} %"


def cell(found: Result) -> Any:
    def of(metric: str) -> str:
        one, (low, high) = found["pairs"][metric], found["interval"][metric]
        lost = f"{number(one['mean'])} ({number(one['worst'])})"
        return f"{lost}, {number(low)} to {number(high)}"

    return of


def by_half(found: Result) -> list[Result]:
    return [found["splits"][metric] for metric in METRICS]
