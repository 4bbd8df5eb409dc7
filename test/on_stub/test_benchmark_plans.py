# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Timing plans: stand-in for TensorRT, real PyCUDA, stub of the driver.

What it takes is the stub's own clock; no figure here is of a GPU.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers_cuda_stub import Stub
from helpers_trt_stub import install
from helpers_trust import sign, verify, write_keys
from test_bundle import write_bundle
from test_open_plan import as_form, as_tensorrt_8, compiled
from trt_stand_in import VERSIONS

from av_compress.build.compile import compile_bundle
from av_compress.cli.main import main
from av_compress.engines.bundle import load_bundle
from av_compress.engines.cuda import list_devices
from av_compress.engines.plans.measured import load_times
from av_compress.engines.plans.options import CompileOptions
from av_compress.engines.tensorrt.engine import TensorRTEngine
from av_compress.errors import EngineError
from av_compress.validate.benchmark.measure import BenchmarkOptions, OverlappingRuns, measure
from av_compress.validate.benchmark.runs import make_runs

SHORT = ("--iterations", "6", "--seconds", "0", "--warm-up", "0")


@pytest.fixture
def bundle(stub: Stub, tmp_path: Path) -> Path:
    stub.set_capability(0, 8, 9)
    return as_form(write_bundle(tmp_path / "bundle"), "tensorrt")


def figures(root: Path, *arguments: str) -> dict:
    path = root.parent / "figures.json"
    assert main(["benchmark", str(root), *SHORT, "--json", str(path), *arguments]) == 0
    return json.loads(path.read_text())


@pytest.mark.parametrize("version", VERSIONS)
def test_a_plan_is_timed_beside_onnxruntime_and_its_times_are_kept(
    bundle: Path, monkeypatch, capsys, version: str
):
    control = install(monkeypatch, version)
    backend = "tensorrt_rtx" if version.startswith("rtx") else "tensorrt"
    if version == "8.6":
        as_tensorrt_8(bundle)
    made = compiled(bundle, backend)
    found = figures(bundle, "--backend", "onnxruntime", "--backend", backend, "--layers")
    _, plan = found["models"]
    assert plan["name"].endswith(f"plan {made.record.target.key}")
    assert plan["sha256"] == made.record.sha256
    assert [one["in_flight"] for one in plan["throughput"]] == [1, 2]
    assert plan["runs"] == 6
    assert found["machine"]["compute_capability"] == "8.9"
    store = load_bundle(bundle).plans()
    (kept,) = load_times(store, made.record)
    assert kept.machine["compute_capability"] == "8.9"
    assert kept.latency_ms["p50"] == plan["latencies"]["total"]["p50_ms"]
    assert set(kept.frames_per_s) == {"1", "2"}
    assert len(plan["layers"]) == len({layer["name"] for layer in plan["layers"]}) > 0
    capsys.readouterr()
    assert main(["inspect", str(bundle)]) == 0
    assert f"took:      {kept.latency_ms['p50']:.2f} ms" in capsys.readouterr().out
    assert not control.faults


def test_copies_are_timed_from_page_locked_memory_and_nothing_else(
    stub: Stub, bundle: Path, monkeypatch
):
    install(monkeypatch, "10.3")
    compiled(bundle, "tensorrt")
    engine = load_bundle(bundle).open_engine("tensorrt")
    assert isinstance(engine, TensorRTEngine)
    tensors = {"image": np.zeros((1, 3, 8, 8), np.float32)}
    runs = make_runs(engine, [tensors, tensors], 1)
    assert isinstance(runs, OverlappingRuns)
    stub.clear()
    timing = runs.once()
    # The stub's clock: a copy takes 1000 ns and a tenth of a nanosecond a byte.
    assert timing.h2d_ns == 1000 + tensors["image"].nbytes // 10
    assert stub.count("pageable copy") == 0
    assert stub.count("cuEventSynchronize") == 1
    measure([runs], BenchmarkOptions(iterations=7, seconds=0, warm_up_ms=0))
    # All came back: another run is allowed.
    engine.run(tensors)
    with pytest.raises(EngineError, match="does not accept"):
        make_runs(engine, [{"image": np.zeros((1, 3, 8, 9), np.float32)}], 1)
    engine.close()


def test_without_a_plan_the_reason_and_the_command_are_told(bundle: Path, monkeypatch, capsys):
    install(monkeypatch, "10.3")
    assert main(["benchmark", str(bundle), *SHORT, "--backend", "tensorrt"]) == 1
    said = capsys.readouterr().err
    assert "it holds no plan of tensorrt" in said
    assert f"run: av-compress compile {bundle} --backend tensorrt" in said
    # Not demanded, it is left out with the same words.
    found = figures(bundle)
    reasons = {one["name"]: one["reason"] for one in found["left_out"]}
    assert "it holds no plan of tensorrt" in reasons["bundle with tensorrt"]
    assert not list(bundle.glob("plans/*.times"))


def test_a_card_that_is_not_there_is_refused(bundle: Path, monkeypatch, capsys):
    install(monkeypatch, "10.3")
    compiled(bundle, "tensorrt")
    assert main(["benchmark", str(bundle), *SHORT, "--device", "7"]) == 2
    assert "there is no GPU '7'" in capsys.readouterr().err


def test_the_card_is_chosen_by_its_uuid(stub: Stub, bundle: Path, monkeypatch, capsys):
    stub.set_devices(2)
    stub.set_capability(1, 8, 9)
    install(monkeypatch, "10.3")
    uuid = list_devices()[1].uuid
    made = compile_bundle(
        load_bundle(bundle), "tensorrt", CompileOptions(), lambda label: None, device=uuid
    )
    found = figures(bundle, "--backend", "tensorrt", "--device", uuid)
    assert found["models"][0]["name"].endswith(f"plan {made.record.target.key}")
    assert found["machine"]["gpu"] == list_devices()[1].name
    capsys.readouterr()
    assert main(["benchmark", str(bundle), *SHORT, "--backend", "tensorrt"]) == 1
    said = capsys.readouterr().err
    assert f"it was compiled on {list_devices()[1].name}" in said
    assert "--device" not in said


def test_times_do_not_break_a_signature(bundle: Path, tmp_path: Path, monkeypatch, capsys):
    install(monkeypatch, "10.3")
    compiled(bundle, "tensorrt")
    key = write_keys(tmp_path, "mine")
    sign(bundle, key)
    assert verify(bundle, key) == 0
    figures(bundle)
    assert list(bundle.glob("plans/*.times"))
    assert verify(bundle, key) == 0
    sign(bundle, key)
    assert verify(bundle, key) == 0


def test_times_that_cannot_be_kept_are_a_warning(bundle: Path, monkeypatch, capsys):
    install(monkeypatch, "10.3")
    made = compiled(bundle, "tensorrt")
    path = made.path.with_suffix(".times")
    path.write_text("damaged")
    assert main(["benchmark", str(bundle), *SHORT]) == 0
    said = capsys.readouterr().err
    assert "is not kept beside it" in said
    assert "remove it, or measure again" in said
    assert path.read_text() == "damaged"
    assert main(["inspect", str(bundle)]) == 0
    assert f"took:      {path} cannot be used" in capsys.readouterr().out


def test_layers_are_told_by_the_profiler_without_a_graph(stub: Stub, bundle: Path, monkeypatch):
    control = install(monkeypatch, "10.13")
    compiled(bundle, "tensorrt")
    engine = load_bundle(bundle).open_engine("tensorrt")
    assert isinstance(engine, TensorRTEngine)
    tensors = {"image": np.zeros((1, 3, 8, 8), np.float32)}
    engine.run(tensors)
    stub.clear()
    before = control.calls["IExecutionContext.execute_async_v3"]
    layers = engine.profile(tensors, 5)
    assert control.calls["IExecutionContext.execute_async_v3"] == before + 5
    assert stub.count("cuGraphLaunch") == 1
    assert [layer.name for layer in layers]
    assert all(layer.kind for layer in layers)
    # Afterwards it serves as before.
    assert set(engine.run(tensors).outputs) == {"boxes", "scores"}
    assert stub.count("cuGraphLaunch") == 2
    engine.submit(tensors)
    with pytest.raises(EngineError, match="not collected"):
        engine.profile(tensors, 1)
    engine.collect()
    engine.close()
    assert not control.faults
