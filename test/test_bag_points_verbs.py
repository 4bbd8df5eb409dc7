# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The command line reads the fields, units and clocks of clouds that its options name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers_sweeps import KIND, SINGLE_TASK, messages, stamp, write_age_bundle

from av_compress.cli.main import main
from av_compress.data.bag_writer import BagWriter

FRONT = "/front/points"


def write_timed(path: Path) -> Path:
    """Write two clouds of one LiDAR, with times that count milliseconds from the epoch."""
    kind = np.dtype([*KIND.descr[:3], ("when", "<f8")])
    with BagWriter(path) as writer:
        for second in (0.0, 0.1):
            points = np.zeros(3, kind)
            points["x"] = (3.5, 8.5, 8.5)
            points["when"] = stamp(second) / 1e6 - np.array([250.0, 125.0, 62.5])
            writer.write_cloud(FRONT, points, stamp(second), "front")
    return path


def test_times_are_of_the_field_unit_and_clock_that_are_named(tmp_path: Path, capsys):
    path = write_timed(tmp_path / "bag")
    bundle = str(write_age_bundle(tmp_path / "bundle", SINGLE_TASK))
    read = ["--time-field", "when", "--intensity", "none", "--ring-field", "none"]
    command = ["replay", str(path), "--bundle", bundle, *read]
    assert main(command) == 1
    assert "set --time-unit or --clock to what it is" in capsys.readouterr().err
    out = tmp_path / "out"
    right = ["--time-unit", "ms", "--clock", "epoch"]
    assert main([*command, *right, "--output", str(out)]) == 0
    found = [one for topic, one in messages(out) if topic == f"{FRONT}/detections"]
    assert len(found) == 2
    for one in found:
        scores = {
            round(hit.bbox.center.position.x, 3): hit.results[0].hypothesis.score
            for hit in one.detections
        }
        assert scores == pytest.approx({3.5: 0.25, 8.5: 0.125}, abs=1e-3)
    # Without a time nothing is old.
    assert main([*command[:-5], "none", *read[2:], "--output", str(tmp_path / "none")]) == 0
    for topic, one in messages(tmp_path / "none"):
        assert topic != f"{FRONT}/detections" or not one.detections
    for verb in (["benchmark", bundle, "--iterations", "2", "--seconds", "0"], ["diff", bundle]):
        data = [*verb, *([bundle] if verb[0] == "diff" else []), "--data", str(path), *read]
        assert main([*data, *right]) == 0, verb
