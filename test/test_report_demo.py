# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The demo's page and tables hold what was served."""

from __future__ import annotations

import re

import numpy as np
import pytest
from helpers_report import EVIL, Page

from av_compress.metrics.coco_protocol import ClassAP, DetectionAP
from av_compress.report.demo_page import Served, latency_table, render_demo_report, served_text
from av_compress.report.page import jpeg_picture


def served(name: str = "LiDAR", caption: str = "Frame 3.") -> Served:
    return Served(
        name=name,
        node=f"{name.lower()}_detector",
        frames=4,
        latencies_ms=(10.0, 20.0, 30.0),
        detections=17,
        accuracy=DetectionAP(0.5, 0.75, 0.6, {"car": ClassAP(0.5, 0.75, 40)}),
        diagnostics={
            "dropped": "1",
            **{f"execute_{part}_ms": "7.250" for part in ("p50", "p95", "p99", "max")},
            "preprocess_p50_ms": "1.0",
        },
        picture=jpeg_picture(np.zeros((4, 6, 3), np.uint8), "A frame with its detections."),
        upright=name == "LiDAR",
        caption=caption,
        links={"How it was built": "bundle/report.html"},
    )


def test_latencies_are_those_measured_and_those_told():
    rows = latency_table(served()).rows
    # Linear percentiles of 10, 20, 30; a stage that is not told whole is left out.
    assert rows == [
        ("publish to received", "20.0", "29.0", "29.8", "30.0"),
        ("node: execute", "7.25", "7.25", "7.25", "7.25"),
    ]


def test_the_terminal_is_told_what_was_answered_and_found():
    text = served_text(served())
    for words in ("published +4", "answered +3", "wins\\) +1", "detections +17", "labels +75.00"):
        assert re.search(words, text), words


@pytest.mark.parametrize("names", [("LiDAR",), ("camera", "LiDAR")])
def test_the_page_shows_every_sensor(names: tuple[str, ...]):
    page = Page(render_demo_report([served(name, EVIL) for name in names], "Drive 7"))
    assert len(page.pictures("image/jpeg")) == len(names)
    for name in names:
        assert f"{name}: AP50" in page.visible
        assert f"3 of 4 frames by {name.lower()}_detector" in page.visible
    assert "<script" not in page.text
    assert EVIL in page.visible
    links = [attributes.get("href") for tag, attributes in page.elements if tag == "a"]
    assert links == ["bundle/report.html"] * len(names)
    assert "://" not in page.text
