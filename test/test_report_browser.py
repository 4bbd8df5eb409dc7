# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Pages in a real browser: everything loads, nothing runs over, nothing is complained about."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from dataclasses import replace

import cv2
import pytest
from helpers_metrics3d import CAR, PERSON, detections_3d
from helpers_report import build_report, fallen_back, refused, replay_result

from av_compress.metrics.agreement import summarise
from av_compress.metrics.agreement3d import compare_frame_3d
from av_compress.metrics.replay import GateOutcome
from av_compress.report.build_page import render_build_report
from av_compress.report.replay_page import render_replay_report

NAMES = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)

pytestmark = pytest.mark.skipif(
    BROWSER is None, reason=f"no browser on the PATH ({', '.join(NAMES)})"
)


def lidar_replay() -> str:
    """Render a replay of boxes in space: its table has the most columns."""
    result = replay_result(worst=0)
    truth = detections_3d((10, 3, 0, *CAR, 0.1, 0.9, 0), (20, -4, 0, *PERSON, 0, 0.5, 1))
    moved = detections_3d((10.2, 3, 0, *CAR, 0.2, 0.8, 0), (40, -4, 0, *PERSON, 0, 0.6, 2))
    agreement = compare_frame_3d(truth, moved)
    frames = tuple(
        replace(one, result=moved, reference=truth, agreement=agreement) for one in result.frames
    )
    whole = summarise([agreement] * len(frames), result.class_names)
    return render_replay_report(replace(result, frames=frames, agreement=whole))


PAGES = {
    "lidar replay": lidar_replay,
    "replay": lambda: render_replay_report(
        replay_result(gates=(GateOutcome("matched", 0.7, 0.9, "min"),), bad=3)
    ),
    "build": lambda: render_build_report(build_report()),
    "fallen build": lambda: render_build_report(fallen_back()),
    "refused build": lambda: render_build_report(refused()),
}
VERDICTS = {
    "lidar replay": "rgb(91, 101, 112)",
    "replay": "rgb(179, 38, 30)",
    "build": "rgb(31, 107, 65)",
    "fallen build": "rgb(138, 90, 0)",
    "refused build": "rgb(179, 38, 30)",
}

# Asks the browser what it made of the page; not part of any page.
PROBE = """<script>addEventListener("load", () => {
  const images = [...document.images];
  const root = document.documentElement;
  document.body.dataset.probe = JSON.stringify({
    images: images.length,
    broken: images.filter((image) => !image.complete || image.naturalWidth === 0).length,
    overflow: root.scrollWidth - root.clientWidth,
    hidden: Math.max(...[...document.querySelectorAll(".wide:not(.names *)")].map(
      (table) => table.scrollWidth - table.clientWidth)),
    requests: performance.getEntriesByType("resource").map((entry) => entry.name.slice(0, 5)),
    verdict: getComputedStyle(document.querySelector(".verdict")).borderLeftColor,
    lost: [...document.links].filter((link) => !document.querySelector(link.hash)).length,
    links: document.links.length,
    paper: getComputedStyle(root).backgroundColor,
    ink: getComputedStyle(root).color,
    alerts: document.querySelectorAll("main script").length,
  });
});</script>"""


def browse(tmp_path, page: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = tmp_path / "page.html"
    path.write_text(page, encoding="utf-8")
    flags = (
        "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --hide-scrollbars "
        "--disable-background-networking --disable-component-update --disable-sync "
        "--enable-logging=stderr --virtual-time-budget=5000"
    )
    return subprocess.run(
        [
            BROWSER,
            *flags.split(),
            f"--user-data-dir={tmp_path / 'profile'}",
            *arguments,
            path.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=90,
        check=True,
    )


def probed(tmp_path, name: str, *arguments: str) -> dict:
    """Load a page and ask the browser what it made of it; nothing may have been complained of."""
    page = PAGES[name]().replace("</head>", f"{PROBE}</head>")
    shown = browse(tmp_path, page, "--dump-dom", *arguments)
    assert "CONSOLE" not in shown.stderr
    return json.loads(html.unescape(re.search('data-probe="([^"]*)"', shown.stdout)[1]))


@pytest.mark.parametrize(
    ("name", "width"),
    [*((name, 1280) for name in PAGES), ("replay", 500), ("fallen build", 400)],
)
def test_a_browser_shows_everything(tmp_path, name, width):
    probe = probed(tmp_path, name, f"--window-size={width},900")
    assert probe["images"] >= 4
    assert probe["broken"] == 0
    assert probe["overflow"] <= 0
    assert set(probe["requests"]) <= {"data:"}
    assert probe["alerts"] == 0
    assert probe["lost"] == 0
    assert probe["links"] >= (7 if "build" in name else 0)
    assert probe["verdict"] == VERDICTS[name]


def test_the_widest_table_fits_the_page(tmp_path):
    assert probed(tmp_path, "lidar replay", "--window-size=1280,900")["hidden"] <= 0


@pytest.mark.parametrize(("scheme", "dark"), [(0, True), (1, False)])
def test_a_page_is_as_dark_as_its_reader_wants(tmp_path, scheme, dark):
    probe = probed(tmp_path, "fallen build", f"--blink-settings=preferredColorScheme={scheme}")
    paper, ink = (
        sum(map(int, re.findall(r"\d+", probe[key])[:3])) / 3 for key in ("paper", "ink")
    )
    assert (paper < 60 and ink > 200) if dark else (paper > 250 and ink < 60)


def test_a_page_can_be_printed_and_seen(tmp_path):
    page = PAGES["build"]()
    browse(tmp_path, page, f"--print-to-pdf={tmp_path / 'page.pdf'}")
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")
    browse(tmp_path, page, f"--screenshot={tmp_path / 'page.png'}", "--window-size=1200,900")
    shot = cv2.imread(str(tmp_path / "page.png"))
    assert shot.shape == (900, 1200, 3)
    # The verdict's green bar stands at the left of the text column.
    assert (shot == (65, 107, 31)).all(axis=-1).any()
