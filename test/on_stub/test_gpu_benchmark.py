# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""benchmarks/gpu.py over the stub and the stand-in: that it runs. No figure of it is kept."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from helpers_cuda_stub import TEST, Stub
from helpers_trt_stub import install
from test_bundle import write_bundle
from test_open_plan import as_form

BENCHMARKS = TEST.parent / "benchmarks"


@pytest.fixture
def measured(stub: Stub, monkeypatch):
    """Run the script; return its exit code and what it would have written."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gpu

    written = {}
    monkeypatch.setenv("AV_COMPRESS_CACHE", "set by the script")
    monkeypatch.setattr(gpu, "save_results", lambda name, figures, _: written.update(figures))
    monkeypatch.setattr(gpu, "COPIED", 1 << 10)

    def run(*arguments: str) -> tuple[int, dict]:
        monkeypatch.setattr(sys, "argv", ["gpu.py", *arguments])
        return gpu.main(), written

    return run


def test_what_a_card_takes_and_what_it_refuses(stub: Stub, measured, tmp_path: Path, monkeypatch):
    stub.set_capability(0, 8, 9)
    root = as_form(write_bundle(tmp_path / "tiny"), "tensorrt")
    control = install(monkeypatch, "10.3")
    install(monkeypatch, "rtx-1.7")
    stub.set_capability(0, 8, 7)
    code, written = measured("--bundle", str(root), "--seconds", "0")
    assert code == 0
    assert written["card"]["compute_capability"] == "8.7"
    assert set(written["copies"]) == {
        f"{kind}_{way}_gb_per_s" for kind in ("page_locked", "other") for way in ("in", "out")
    }
    found = written["bundles"]["tiny"]
    (model,) = found["tensorrt"]["models"]
    assert model["name"].startswith("tiny/tensorrt, plan ")
    assert {"compile_s", "compile_again_s", "load_s", "load_again_s"} <= set(found["tensorrt"])
    # TensorRT for RTX has no such capability, and ONNX Runtime no such provider.
    assert "compute capability" in found["tensorrt_rtx"]["refused"]
    assert "CUDAExecutionProvider is not in this ONNX Runtime" in found["onnxruntime"]["refused"]
    assert "/tmp" not in str(found)
    assert not (root / "plans").exists()
    assert not control.faults


def test_without_a_card_nothing_is_written(stub: Stub, measured, tmp_path: Path, capsys):
    stub.set_devices(0)
    code, written = measured("--bundle", str(tmp_path))
    assert (code, written) == (2, {})
    assert capsys.readouterr().err == "there is no NVIDIA card here: nothing was measured\n"


def test_what_is_no_bundle_is_told(measured, tmp_path: Path, capsys):
    code, written = measured("--bundle", str(tmp_path), "--seconds", "0")
    assert (code, written) == (1, {})
    assert "is not a bundle" in capsys.readouterr().err
