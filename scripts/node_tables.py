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


LATENCIES = ("median_ms", "p95_ms", "p99_ms", "max_ms")
HEADERS = ("ms", "answered", "median", "p95", "p99", "max")


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
    return f"{_bare(figures, 'images')}\n\n{_overhead(figures, labels, runs)}"


def lidar_node(figures: Result) -> str:
    labels = {
        "lidar_detector": "lidar_detector",
        "plain_node": "plain node",
        "plain_node_with_profile": "plain node with the shared memory profile",
    }
    rows = [
        (
            name,
            f"{run['answered']} of {run['frames']}",
            *(number(run[key]) for key in LATENCIES),
            str(run["counts"]["dropped"]),
            str(run["lost"]),
        )
        for name, run in figures["side_by_side"].items()
    ]
    both = table((*HEADERS, "dropped for a newer one", "lost"), rows)
    return (
        f"{_bare(figures, 'clouds')}\n\n{_overhead(figures, labels, figures['runs'])}\n\n"
        f"Both nodes at once, with {figures['images']} besides:\n\n{both}"
    )


def side_by_side(figures: Result) -> str:
    runs = figures["side_by_side"].values()
    return " and ".join(f"{run['answered']} of {run['frames']}" for run in runs)


def _bare(figures: Result, what: str) -> str:
    bare = number(figures["bare_median_ms"])
    return f"{figures[what]}; the bare preprocess + run + postprocess takes {bare} ms (median)."


def _overhead(figures: Result, labels: Mapping[str, str], runs: Mapping[str, Result]) -> str:
    rows = [
        (
            label,
            f"{runs[name]['answered']} of {runs[name]['frames']}",
            *(number(runs[name][key]) for key in LATENCIES),
            number(runs[name]["median_ms"] - figures["bare_median_ms"]),
            f"{runs[name]['rss_first_mb']:.1f} → {runs[name]['rss_last_mb']:.1f}",
        )
        for name, label in labels.items()
        if name in runs
    ]
    return table((*HEADERS, "over the bare model", "memory MiB"), rows)
