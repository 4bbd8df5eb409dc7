# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Measured figures reach the pages as they were measured, and absent ones are said to be."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers_figures import copy_project, render, write_results


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> Path:
    """Return a project whose pages hold the figures of every benchmark."""
    project = copy_project(tmp_path_factory.mktemp("project"))
    write_results(project)
    assert render(project, "--check") == 1
    assert render(project) == 0
    assert render(project, "--check") == 0
    return project


def lines_of(project: Path, page: str) -> list[str]:
    return (project / page).read_text(encoding="utf-8").splitlines()


def test_figures_that_are_absent_are_said_to_be(tmp_path: Path):
    project = copy_project(tmp_path)
    assert render(project) == 0
    text = (project / "docs/benchmarks.md").read_text(encoding="utf-8")
    measured = ("fidelity", "sampling", "thresholds", "observers", "cpu_peers", "build", "peers")
    measured += ("compile", "multi_camera", "load")
    for name in (*measured, "node_overhead", "lidar_node"):
        assert f"Not measured yet: `python benchmarks/{name}.py`." in text
    assert "Not measured: no card was at hand." in text
    assert (project / "README.md").read_text().count("not measured yet") == 18


def test_figures_of_speed_are_as_they_were_measured(pages: Path):
    lines = lines_of(pages, "docs/benchmarks.md")
    assert "| ours (98 % INT8) | 41.29 | 2.38 x |  |  |  |" in lines
    assert "| FP32 | 98.31 | 1.00 x |  |  |  |" in lines
    latencies = "20.50 | 22.00 | 23.00 | 24.00"
    assert f"| lidar_detector | 299 of 300 | {latencies} | 6.25 | 200.0 → 200.5 |" in lines
    assert "| spconv, pillars alone | 2.50 | 0.62 |" in lines
    assert "| 10 sweeps brought together | 23.46 |" in lines
    assert f"| lidar_detector | 290 of 300 | {latencies} | 1 | 9 |" in lines
    assert "| ours, searched | 5.00 | 1.80 x | 49.00 | 99.00 | 89.00 |" in lines
    assert "| OpenVINO: not installed: no network |  |  |  |  |  |" in lines
    assert "| ms for 4 images, threads: 1 | 7.50 | 10.00 | 0.75 |" in lines
    assert "| MiB | 124 | 4 x 100 | 0.31 |" in lines
    assert "| 128 | 300 | 580 | refused |" in lines
    assert "| `tensorrt` form | 58 | 9.3 | 293 | 4.3 x | 1 / 38 |" in lines


def test_figures_of_accuracy_are_as_they_were_measured(pages: Path):
    lines = lines_of(pages, "docs/benchmarks.md")
    # Beside a peer stands what ours reaches with at least its share, within a tenth of a percent.
    nncf = "| NNCF | 95.1 % | 80.0 % | 0.00 | 80.00 | 70.00 | 96.00 | 86.00 |"
    assert nncf in lines
    assert "- ModelOpt: no memory" in lines
    tensorrt = (
        "| tensorrt, default, mse | 85 % | 49.50 | 0.50 | 24.75 | 99.50 | 89.50 | 79.50 | 69.50 |"
    )
    assert tensorrt in lines
    assert any(
        line.startswith("| cpu, default, mse | 85 % | 50.00 | 0.00 | 25.00 |") for line in lines
    )
    assert (
        "`python benchmarks/fidelity.py` on 2 cores of CPU X with AVX2, 7.5 GiB; "
        "python 3.11.7, numpy 2.0.0." in lines
    )


def test_figures_of_calibration_are_as_they_were_measured(pages: Path):
    lines = lines_of(pages, "docs/benchmarks.md")
    sampled = "| first | bag | 4 | 90.00 | 91.00 | 89.50 (88.00 to 93.25) | 92.50 |"
    assert sampled in lines
    means = (
        "Mean over all rows: stride 90.00, coverage 91.00, random 89.50. Mean squared error of "
        "the raw outputs, % of their variance: stride 1.23, coverage 1.23, random 1.54."
    )
    assert means in lines
    assert "| first | 95.0 % | best | 99.00 | 94.00 | 1.23 |" in lines
    moved = "| first | 95.0 % | mse, raised by up to 3 % | 96.00 to 99.00 | 92.00 to 95.00 |"
    assert f"{moved} 1.01 to 2.12 |" in lines
    assert "| first | entropy 2, mse 3 | 5 of 71 | 10.40 | 3.15 | 4 |" in lines


def test_figures_of_plans_and_cards_are_as_they_were_measured(pages: Path):
    lines = lines_of(pages, "docs/benchmarks.md")
    assert "| first | INT8 | 1.25 | 70 | 12 | 3.50 | 0.50 |" in lines
    assert "| verified load | 0.0123 | 0.346 |" in lines
    assert "| compiled again | 0.0045 | 0.400 |" in lines
    assert "3.0 MiB of plan and 0.5 MiB of models; medians of 20 runs." in lines
    on_card = "| demo | demo/tensorrt, plan 0123 | 61.50 | 4.00 | 0.50 | 0.25 | 1.500 | 3.000 |"
    assert f"{on_card} 0.250 | 1.000 | 0.125 | 600 | 900 |" in lines
    assert any(line.startswith("| demo | tensorrt_rtx: no \\| card |  |") for line in lines)
    copied = "page-locked 12.3 in and 11.0 out, other memory 6.0 in and 5.0 out."
    assert f"Orin, compute capability 8.7, power mode MAXN. Copies in GB/s: {copied}" in lines
    made = "1 of 2 compilations went through, for compute capability 8.6, 8.9, in at most 1.2 s"
    became = "Of 4 weighted nodes that were to be INT8 or FP8, 1 became float."
    assert any(line.startswith(made) and became in line for line in lines)


def test_the_summary_holds_the_worst_of_each(pages: Path):
    summary = lines_of(pages, "README.md")
    assert (
        "| AP50 lost on the worst real detector, `tensorrt` form | 0.50 (first) | ≤ 1.0 |"
        in summary
    )
    assert "| AP50 lost on the worst real detector, `cpu` form | 0.75 (first) | ≤ 1.0 |" in summary
    speed = "speed of the `cpu` form on a YOLOv8n-like network, FP32 = 1"
    assert f"| {speed} | 2.38 x | ≥ 1.5 x |" in summary
    assert (
        "| the same on the slowest of the real detectors | 1.80 x (first) | ≥ 1.5 x |" in summary
    )
    assert "| peak memory of a whole build, 128 samples | 580 MiB | ≤ 1536 MiB |" in summary
    measured = "4.3 x (`tensorrt` form), 2.6 x (both forms)"
    assert f"| calibration's speed, ONNX Runtime Entropy = 1 | {measured} | ≥ 4 x |" in summary
    # The better of the peer's methods, on the model where that loses most.
    peer = "AP50 lost by ONNX Runtime's `quantize_static` on its worst"
    assert any(line.startswith(f"| {peer} | 20.00 (") for line in summary)


def test_figures_of_clouds_are_as_they_were_measured(pages: Path):
    clouds = lines_of(pages, "docs/lidar.md")
    rest = "0.25 (1.25), 2.00 to 3.00 | 0.25 (1.25), -1.00 to 0.00 | 0.25 (1.25), 0.00 to 0.00 |"
    first = clouds.index(f"| rules | 90.0 % | 0.25 (1.25), -0.50 to 1.00 | {rest}")
    assert clouds[first + 1].startswith("| searched | 80.0 % | 1.25 (2.25), ")
    assert f"| rules |{' -1.50 ± 0.50 |' * 4}" in clouds
    assert any("AP50 on labels 26.70, KITTI's on labels 12.34." in line for line in clouds)


def test_figures_of_kinds_of_quantisation_are_as_they_were_measured(pages: Path):
    kinds = lines_of(pages, "docs/quantization.md")
    assert "| FP32 | 0 % | 2 | 100 % |  | 100.00 | 99.00 |" in kinds
    assert kinds.index("| FP16 | 50 % | 1 | 50 % |  | 99.00 | 99.00 |") > kinds.index(
        "| FP32 | 0 % | 2 | 100 % |  | 100.00 | 99.00 |"
    )
    assert "| product | 2.50 x |" in kinds
