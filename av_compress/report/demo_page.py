# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The demo as one page and as tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from av_compress.fileio import write_text
from av_compress.metrics.coco_protocol import DetectionAP
from av_compress.report.numbers import milliseconds, plural, points
from av_compress.report.page import Fact, Picture, Verdict, render
from av_compress.report.tables import Table

_STAGES = ("input_age", "preprocess", "execute", "postprocess", "publish", "processing_time")
_PARTS = ("p50", "p95", "p99", "max")


@dataclass(frozen=True)
class Served:
    """What a node made of the drive.

    Attributes:
        name: of the sensor.
        node: the detector's name.
        frames: how many were published.
        latencies_ms: from publishing a frame to receiving its detections, of each answer.
        detections: how many there were in all.
        accuracy: of what was published, against what is truly there.
        diagnostics: the node's own figures, as it published them last.
        picture: a frame with what was found in it.
        upright: whether the picture is higher than wide; its tables stand beside it then.
        caption: of the picture.
        links: what it is -> a page or file beside this one.

    """

    name: str
    node: str
    frames: int
    latencies_ms: Sequence[float]
    detections: int
    accuracy: DetectionAP
    diagnostics: Mapping[str, str]
    picture: Picture
    upright: bool
    caption: str
    links: Mapping[str, str]


def write_demo_report(served: Sequence[Served], title: str, path: Path) -> None:
    """Write the page as one HTML file; its links alone need the files beside it."""
    write_text(path, render_demo_report(served, title))


def render_demo_report(served: Sequence[Served], title: str) -> str:
    """Return the page as HTML; equal results give equal text."""
    answered = "; ".join(f"{_answered(one)} by {one.node}" for one in served)
    return render(
        "demo.html.j2",
        title=title,
        verdict=Verdict("good", "Served", f"Answered: {answered}."),
        facts=[fact for one in served for fact in _facts(one)],
        sensors=served,
        tables={one.name: latency_table(one) for one in served},
        classes={one.name: _class_table(one) for one in served},
    )


def served_text(one: Served) -> str:
    """Return a node's figures for the terminal."""
    dropped = one.diagnostics.get("dropped", "?")
    rows = [
        ("frames published", str(one.frames)),
        ("answered", str(len(one.latencies_ms))),
        ("dropped (latest wins)", dropped),
        ("detections", str(one.detections)),
        ("AP50 against the labels", points(one.accuracy.ap50)),
    ]
    return f"{Table((one.node, ''), rows).text()}\n\n{latency_table(one).text()}"


def latency_table(one: Served) -> Table:
    """Tabulate the latency from outside, and the stages as the node tells them."""
    outside = np.percentile(one.latencies_ms, [50, 95, 99, 100])
    rows = [("publish to received", *map(milliseconds, outside.tolist()))]
    for stage in _STAGES:
        keys = [f"{stage}_{part}_ms" for part in _PARTS]
        if all(key in one.diagnostics for key in keys):
            values = (milliseconds(float(one.diagnostics[key])) for key in keys)
            rows.append((f"node: {stage.replace('_', ' ')}", *values))
    return Table(("ms", *_PARTS), rows)


def _answered(one: Served) -> str:
    return f"{len(one.latencies_ms)} of {plural(one.frames, 'frame')}"


def _facts(one: Served) -> list[Fact]:
    median, last = np.percentile(one.latencies_ms, [50, 99]).tolist()
    dropped = one.diagnostics.get("dropped", "?")
    latency = f"{milliseconds(median)} ms"
    return [
        Fact(points(one.accuracy.ap50), f"{one.name}: AP50", "against the labels"),
        Fact(latency, f"{one.name}: latency", f"p50; p99 {milliseconds(last)} ms"),
        Fact(
            f"{len(one.latencies_ms)} / {one.frames}",
            f"{one.name}: answered",
            f"{dropped} dropped",
        ),
    ]


def _class_table(one: Served) -> Table:
    rows = [
        (name, str(entry.truths), points(entry.ap50), points(entry.ap))
        for name, entry in one.accuracy.per_class.items()
    ]
    footer = ("all classes", str(one.accuracy.truths), points(one.accuracy.ap50))
    return Table(
        ("class", "objects", "AP50", "AP"), rows, footer=[(*footer, points(one.accuracy.ap))]
    )
