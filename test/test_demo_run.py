# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The demo, with the real nodes over the real middleware."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers_node import require_ros

from av_compress.cli.main import main

ROOT = Path(__file__).parent.parent


# Two models are built and served.
@pytest.mark.timeout(660)
def test_a_short_demo_works_from_end_to_end(tmp_path: Path):
    require_ros("vision_msgs")
    output = tmp_path / "demo"
    command = [sys.executable, "-m", "av_compress", "demo", "--output", str(output)]
    done = subprocess.run(
        [*command, "--seconds", "2"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    received = json.loads((output / "received.json").read_text())
    assert set(received) == {"camera_detector", "lidar_detector"}
    for one in received.values():
        assert one["frames"] == 20
        assert len(one["answers"]) >= 15
        assert float(one["diagnostics"]["processing_time_p50_ms"]) > 0
    widths = [
        {len(found["box"]) for answer in one["answers"] for found in answer["detections"]}
        for one in (received["camera_detector"], received["lidar_detector"])
    ]
    assert widths == [{4}, {7}]
    for prefix in ("", "lidar_"):
        names = ("bundle/report.html", "replay/report.html", "detections.png", "detections.mcap")
        for name in names:
            assert (output / f"{prefix}{name}").stat().st_size > 1000, name
    page = (output / "report.html").read_text()
    for target in re.findall('href="([^"#:]+)"', page):
        assert (output / target).is_file(), target
    # A picture and a table of latencies for each sensor.
    assert page.count("data:image/jpeg") == 2
    assert page.count("publish to received") == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--seed", "1000"], "--seed 1000 is not allowed; allowed: 0 to 899"),
        (["--seconds", "0"], "--seconds 0 is not allowed"),
    ],
)
def test_arguments_out_of_range(tmp_path: Path, capsys, arguments, words):
    assert main(["demo", "--output", str(tmp_path / "demo"), *arguments]) == 2
    assert words in capsys.readouterr().err


def test_a_folder_that_is_something_else_is_left_alone(tmp_path: Path, capsys):
    (tmp_path / "letter.txt").write_text("dear")
    assert main(["demo", "--output", str(tmp_path)]) == 2
    assert "is no earlier demo" in capsys.readouterr().err
    assert (tmp_path / "letter.txt").read_text() == "dear"
