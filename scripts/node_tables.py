# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Tables of what nodes take, beside the bare model and beside others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markdown_regions import number, table

Result = Mapping[str, Any]


def multi_camera(figures: Result) -> str:
    cameras = figures["cameras"]
    rows = [
        (
            f"ms for {cameras} images, threads: {threads}",
            number(found["batched_ms"]),
            number(found["single_ms"]),
            number(found["time_of_single"]),
        )
        for threads in (1, 2)
        if (found := figures.get(f"threads_{threads}"))
    ]
    each = figures["single_mib_each"]
    mib = (number(figures["batched_mib"], 0), f"{cameras} x {number(each, 0)}")
    rows.append(("MiB", *mib, number(figures["memory_of_single"])))
    return table(("", "one batch", "one by one", "ratio"), rows)


def node_overhead(figures: Result) -> str:
    labels = {
        "camera_detector": "camera_detector",
        "plain_node": "plain node",
        "plain_node_with_profile": "plain node with the shared memory profile",
    }
    runs = dict(figures["runs"])
    if "long_run" in figures:
        labels["long_run"] = f"camera_detector for {figures['long_run']['minutes']:g} minutes"
        runs["long_run"] = figures["long_run"]
    rows = [
        (
            label,
            f"{runs[name]['answered']} of {runs[name]['frames']}",
            *(number(runs[name][key]) for key in ("median_ms", "p95_ms", "p99_ms", "max_ms")),
            number(runs[name]["median_ms"] - figures["bare_median_ms"]),
            f"{runs[name]['rss_first_mb']:.1f} → {runs[name]['rss_last_mb']:.1f}",
        )
        for name, label in labels.items()
        if name in runs
    ]
    headers = (
        "ms",
        "answered",
        "median",
        "p95",
        "p99",
        "max",
        "over the bare model",
        "memory MiB",
    )
    bare = number(figures["bare_median_ms"])
    return (
        f"{figures['images']}; the bare preprocess + run + postprocess takes {bare} ms (median)."
        f"\n\n{table(headers, rows)}"
    )
