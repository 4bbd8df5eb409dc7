# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Replay and evaluation of a plan: stand-in for TensorRT, real PyCUDA, stub of the driver."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers_cuda_stub import Stub
from helpers_serving import build_demo_bundle, put_demo_detector
from helpers_trt_stub import install

from av_compress.cli.main import main
from av_compress.data.demo.drive import Drive, write_bag, write_dataset


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """Return a folder with a bag, labelled images, and a bundle with a form for TensorRT."""
    folder = tmp_path_factory.mktemp("plans")
    put_demo_detector(folder)
    write_dataset([Drive(960, 2.0, 2.0)], folder / "images")
    write_bag(Drive(961, 1.0, 5.0), folder / "drive")
    build_demo_bundle(folder, "bundle", emitters=["tensorrt"])
    return folder


@pytest.mark.parametrize(
    ("backend", "version"), [("tensorrt", "10.3"), ("tensorrt_rtx", "rtx-1.7")]
)
def test_a_plan_is_replayed_and_measured(
    stub: Stub, world: Path, tmp_path: Path, monkeypatch, capsys, backend: str, version: str
):
    install(monkeypatch, version)
    stub.set_capability(0, 8, 9)
    bundle, figures = str(world / "bundle"), tmp_path / "figures.json"
    assert main(["compile", bundle, "--backend", backend]) == 0
    replay = ["replay", str(world / "drive"), "--bundle", bundle, "--backend", backend]
    reference = ["--reference", bundle, "--min-matched", "1.0", "--max-extra", "0"]
    assert main([*replay, *reference, "--json", str(figures)]) == 0
    content = json.loads(figures.read_text())
    # ONNX Runtime computes both: what differs is the way there.
    assert content["agreement"]["matched"] > 10
    assert content["agreement"]["mean_iou"] == pytest.approx(1.0)
    assert "TensorRT" in content["candidate"]["engine"]
    assert main([*replay, "--emitter", "tensorrt"]) == 2
    assert "an emitter is chosen for onnxruntime alone" in capsys.readouterr().err
    assert main([*replay, "--device", "7"]) == 2
    assert "7" in capsys.readouterr().err


def test_average_precision_of_a_plan_is_that_of_its_model(
    stub: Stub, world: Path, tmp_path: Path, monkeypatch
):
    install(monkeypatch, "10.13")
    bundle = str(world / "bundle")
    assert main(["compile", bundle, "--backend", "tensorrt"]) == 0
    figures = {}
    data = ["--data", str(world / "images" / "annotations.json")]
    for backend in ("onnxruntime", "tensorrt"):
        path = tmp_path / f"{backend}.json"
        command = ["evaluate", "--bundle", bundle, *data, "--backend", backend]
        assert main([*command, "--json", str(path)]) == 0
        figures[backend] = json.loads(path.read_text())
    assert figures["tensorrt"]["bundle"]["backend"] == "tensorrt"
    assert "plan " in figures["tensorrt"]["engine"]
    assert figures["tensorrt"]["ap"] == figures["onnxruntime"]["ap"] > 0.1


def test_without_a_plan_a_replay_names_the_command(stub: Stub, world: Path, monkeypatch, capsys):
    install(monkeypatch, "11.4")
    replay = ["replay", str(world / "drive"), "--bundle", str(world / "bundle")]
    assert main([*replay, "--backend", "tensorrt"]) == 1
    assert "av-compress compile" in capsys.readouterr().err
