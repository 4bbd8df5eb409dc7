# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""From a bundle to a running plan: stand-in for TensorRT, real PyCUDA, stub of the driver."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from helpers_cuda_stub import LIBRARY, Stub
from helpers_trt_stub import install
from test_bundle import edit, write_bundle

from av_compress.build.compile import Compilation, compile_bundle
from av_compress.cli.main import main
from av_compress.engines.bundle import load_bundle
from av_compress.engines.cuda import CudaError, list_devices
from av_compress.engines.plans.choose import Runner, choose_plan
from av_compress.engines.plans.options import CompileOptions
from av_compress.engines.tensorrt.default import default_backend
from av_compress.errors import AvCompressError, BundleError, EngineError, UsageError
from av_compress.tasks.base import ImageFrame

FRAME = ImageFrame(np.zeros((16, 16, 3), np.uint8))
VERSIONS = {"tensorrt": ("8.6", "10.0", "10.3", "10.13", "10.16", "11.0", "11.4")}


def as_form(root: Path, emitter: str) -> Path:
    """Call the bundle's one artefact another form."""

    def change(manifest: dict) -> None:
        manifest["artefacts"] = {emitter: manifest["artefacts"]["cpu"]}

    edit(root, change)
    return root


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return as_form(write_bundle(tmp_path / "bundle"), "tensorrt")


def compiled(root: Path, backend: str, **options) -> Compilation:
    if backend == "tensorrt_rtx":
        options.setdefault("capabilities", ("8.9",))
    return compile_bundle(
        load_bundle(root), backend, CompileOptions(**options), lambda label: None
    )


def refusal(root: Path, backend: str = "tensorrt") -> str:
    with pytest.raises(EngineError) as caught:
        load_bundle(root).open_engine(backend)
    return str(caught.value)


@pytest.mark.parametrize("version", [*VERSIONS["tensorrt"], "rtx-1.7"])
def test_a_plan_serves_frames(stub: Stub, bundle: Path, monkeypatch, version: str):
    control = install(monkeypatch, version)
    backend = "tensorrt_rtx" if version.startswith("rtx") else "tensorrt"
    if version == "8.6":
        as_tensorrt_8(bundle)
    stub.set_capability(0, 8, 9)
    made = compiled(bundle, backend)
    pipeline = load_bundle(bundle).open_pipeline(backend)
    processed = pipeline.process(FRAME)
    np.testing.assert_allclose(processed.result.boxes, [[2, 4, 10, 12]], atol=1e-5)
    assert set(processed.spans) == {"preprocess", "h2d", "execute", "d2h", "postprocess"}
    pipeline.close()
    assert not control.faults
    if backend == "tensorrt":
        assert made.record.machine["compute_capability"] == "8.9"
        assert made.record.timing_cache


def as_tensorrt_8(root: Path) -> None:
    def change(manifest: dict) -> None:
        manifest["artefacts"] = {"tensorrt_8": manifest["artefacts"]["tensorrt"]}

    edit(root, change)


def test_an_unchanged_bundle_is_found_on_the_same_card_alone(
    stub: Stub, bundle: Path, monkeypatch
):
    install(monkeypatch, "10.3")
    assert not compiled(bundle, "tensorrt").found
    assert compiled(bundle, "tensorrt").found
    stub.set_capability(0, 8, 7)
    assert not compiled(bundle, "tensorrt").found


def test_without_a_plan_the_command_is_named(stub: Stub, bundle: Path, monkeypatch):
    install(monkeypatch, "10.3")
    said = refusal(bundle)
    assert "it holds no plan of tensorrt" in said
    assert f"run: av-compress compile {bundle} --backend tensorrt" in said
    install(monkeypatch, "rtx-1.7")
    stub.set_capability(0, 8, 6)
    assert said.count("--compute-capability") == 0
    assert "--compute-capability 8.6" in refusal(bundle, "tensorrt_rtx")


def test_each_plan_that_does_not_fit_says_why(stub: Stub, bundle: Path, monkeypatch):
    stub.set_capability(0, 8, 9)
    install(monkeypatch, "10.3")
    made = compiled(bundle, "tensorrt")
    install(monkeypatch, "10.13")
    assert "it was compiled by version 10.3" in refusal(bundle)
    install(monkeypatch, "10.3")
    stub.set_capability(0, 8, 7)
    said = refusal(bundle)
    assert "it was compiled on " in said
    assert "(8.9), this is" in said
    stub.set_capability(0, 8, 9)
    load_bundle(bundle).open_engine("tensorrt").close()
    made.path.write_bytes(made.path.read_bytes()[:-1])
    assert "it was changed or damaged" in refusal(bundle)
    made.path.unlink()
    assert "cannot be read" in refusal(bundle)


def test_a_plan_of_another_model_does_not_fit(stub: Stub, bundle: Path, monkeypatch):
    install(monkeypatch, "10.3")
    made = compiled(bundle, "tensorrt")
    record = made.path.with_suffix(".json")
    content = json.loads(record.read_text())
    content["target"]["artefact_sha256"] = "0" * 64
    record.write_text(json.dumps(content))
    with pytest.raises(EngineError):
        load_bundle(bundle).open_engine("tensorrt")


def test_capabilities_decide_for_rtx(stub: Stub, bundle: Path, monkeypatch):
    install(monkeypatch, "rtx-1.7")
    compiled(bundle, "tensorrt_rtx", capabilities=("8.6", "8.9"))
    stub.set_capability(0, 12, 0)
    assert "for compute capability 8.6, 8.9, this card has 12.0" in refusal(bundle, "tensorrt_rtx")
    stub.set_capability(0, 8, 6)
    load_bundle(bundle).open_engine("tensorrt_rtx").close()


def test_a_refused_artefact_is_not_served_as_a_plan(stub: Stub, tmp_path: Path, monkeypatch):
    root = as_form(write_bundle(tmp_path / "refused", passed=False), "tensorrt")
    install(monkeypatch, "10.3")
    compiled(root, "tensorrt")
    with pytest.raises(BundleError, match="failed its gate"):
        load_bundle(root).open_engine("tensorrt")


def test_machines_without_a_card_say_what_is_missing(stub: Stub, bundle: Path, monkeypatch):
    install(monkeypatch, "rtx-1.7")
    compiled(bundle, "tensorrt_rtx")
    stub.set_devices(0)
    with pytest.raises(CudaError) as caught:
        load_bundle(bundle).open_engine("tensorrt_rtx")
    assert caught.value.reason == "no_device"
    # Compiling ahead of time needs none.
    assert compiled(bundle, "tensorrt_rtx").found


def test_another_card_than_there_is_is_refused(stub: Stub, bundle: Path, monkeypatch):
    install(monkeypatch, "10.3")
    compiled(bundle, "tensorrt")
    with pytest.raises(UsageError):
        load_bundle(bundle).open_engine("tensorrt", device=7)


def test_of_several_plans_the_latest_serves(stub: Stub, bundle: Path, monkeypatch):
    install(monkeypatch, "10.3")
    plans = [compiled(bundle, "tensorrt", optimization_level=level) for level in (1, 5)]
    for level, plan in zip((1, 5), plans):
        # What is asked for again is the latest again; files' times say nothing.
        for other in plans:
            os.utime(other.path, ns=(0, 10**9 * (1 if other is plan else 2)))
        latest = compiled(bundle, "tensorrt", optimization_level=level)
        assert latest.found
        store = load_bundle(bundle).plans()
        artefacts = {"tensorrt": latest.record.target.artefact_sha256}
        runner = Runner("tensorrt", latest.record.target.version, latest.record.target.card, "8.9")
        assert choose_plan(bundle, store, runner, artefacts) == latest.record
        with closing(load_bundle(bundle).open_engine("tensorrt")) as engine:
            assert latest.record.target.key in engine.description


def test_without_pycuda_nothing_is_compiled_that_no_card_could_run(
    bundle: Path, monkeypatch, capsys
):
    install(monkeypatch, "10.3")
    monkeypatch.setitem(sys.modules, "pycuda", None)
    monkeypatch.setitem(sys.modules, "pycuda.driver", None)
    assert main(["compile", str(bundle)]) == 1
    assert "pip install 'av_compress[cuda]'" in capsys.readouterr().err
    assert not (bundle / "plans").exists()


def test_hardware_compatibility_by_the_names_of_the_version(
    stub: Stub, bundle: Path, monkeypatch, capsys
):
    stub.set_capability(0, 8, 9)
    level = ["--hardware-compatibility", "same_compute_capability"]
    install(monkeypatch, "10.3")
    assert main(["compile", str(bundle), *level]) == 2
    said = capsys.readouterr().err
    assert "no compatibility level SAME_COMPUTE_CAPABILITY; it has: AMPERE_PLUS, NONE" in said
    install(monkeypatch, "10.13")
    assert main(["compile", str(bundle), *level]) == 0
    (record,) = load_bundle(bundle).plans().records()
    assert record.target.options["hardware_compatibility"] == "SAME_COMPUTE_CAPABILITY"
    assert main(["compile", str(bundle), "--hardware-compatibility", "none"]) == 0
    assert len(load_bundle(bundle).plans().records()) == 2
    stub.set_capability(0, 8, 7)
    assert "with the compatibility SAME_COMPUTE_CAPABILITY, this is" in refusal(bundle)


def inspected(root: Path, capsys) -> str:
    capsys.readouterr()
    assert main(["inspect", str(root)]) == 0
    return capsys.readouterr().out


def test_inspect_holds_plans_against_version_and_card(
    stub: Stub, tmp_path: Path, monkeypatch, capsys
):
    root = as_form(write_bundle(tmp_path / "both"), "tensorrt")
    stub.set_capability(0, 8, 9)
    control = install(monkeypatch, "10.13")
    control.dla_cores = 1
    card = list_devices()[0].name
    compiled(root, "tensorrt", workspace=1 << 20, flags=("REFIT",))
    said = inspected(root, capsys)
    assert f"on {card} (8.9), batch 1, workspace 1 MiB, REFIT" in said
    assert f"fits:      version 10.13.3.9, {card} (8.9)" in said
    stub.set_capability(0, 8, 7)
    said = inspected(root, capsys)
    assert f"does not fit: it was compiled on {card} (8.9), this is {card} (8.7); run: " in said
    assert f"{root} --backend tensorrt --workspace {1 << 20} --flag REFIT\n" in said
    # Without a card the version is still known.
    stub.set_devices(0)
    said = inspected(root, capsys)
    assert "does not fit" not in said
    assert "not checked of plans for tensorrt: no card is seen here" in said
    install(monkeypatch, "10.3")
    assert "it was compiled by version 10.13.3.9, installed is 10.3.0" in inspected(root, capsys)
    # Without the package the card is.
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    stub.set_devices(1)
    said = inspected(root, capsys)
    assert "not checked of plans for tensorrt: tensorrt is not installed\n" in said
    assert "it was compiled on" in said


def test_inspect_names_the_capability_that_is_wanting(
    stub: Stub, bundle: Path, monkeypatch, capsys
):
    install(monkeypatch, "rtx-1.7")
    compiled(bundle, "tensorrt_rtx", capabilities=("8.9",))
    stub.set_capability(0, 8, 6)
    assert "--compute-capability 8.6,8.9\n" in inspected(bundle, capsys)


def test_the_backend_that_nobody_named(stub: Stub, bundle: Path, monkeypatch):
    choice = {
        **{"backend": "tensorrt_rtx", "version": "1.7", "capabilities": [], "trials": 0},
        **{"choose_by": "bytes_moved", "variants": []},
    }
    plain = load_bundle(bundle).manifest
    edit(bundle, lambda manifest: manifest["artefacts"]["tensorrt"].update(choice=choice))
    chosen = load_bundle(bundle).manifest

    def backends() -> list[tuple[str, str]]:
        found = [default_backend(one) for one in (plain, chosen)]
        return [(one.backend, one.why) for one in found]

    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    why = "neither backend is installed"
    assert backends() == [("tensorrt", why), ("tensorrt_rtx", why)]
    install(monkeypatch, "10.3")
    other = "the bundle was chosen for tensorrt_rtx, which is not installed"
    assert backends() == [("tensorrt", "it is installed"), ("tensorrt", other)]
    install(monkeypatch, "rtx-1.7")
    assert backends() == [
        ("tensorrt", "it is installed"),
        ("tensorrt_rtx", "the bundle was chosen for it"),
    ]
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    assert backends()[0] == ("tensorrt_rtx", "it is installed")


def test_compile_names_the_card(stub: Stub, bundle: Path, monkeypatch, capsys):
    install(monkeypatch, "10.3")
    assert main(["compile", str(bundle)]) == 0
    said = capsys.readouterr().out
    assert "for: tensorrt 10.3" in said
    assert main(["inspect", str(bundle)]) == 0


def test_a_plan_is_compiled_on_the_card_that_was_named(
    stub: Stub, bundle: Path, monkeypatch, capsys
):
    stub.set_devices(3)
    install(monkeypatch, "10.13")
    uuid = list_devices()[2].uuid
    current = []

    def watching(label: str):
        def step(phase: str, done: int, total: int) -> bool:
            # Which card a builder takes: the one whose context is current.
            device = ctypes.c_int(-1)
            assert ctypes.CDLL(LIBRARY).cuCtxGetDevice(ctypes.byref(device)) == 0
            current.append(device.value)
            return True

        return step

    for selector, index in ((uuid, 2), ("1", 1)):
        current.clear()
        made = compile_bundle(
            load_bundle(bundle), "tensorrt", CompileOptions(), watching, device=selector
        )
        assert set(current) == {index}
        assert made.record.target.card == f"{list_devices()[index].name} (8.9)"
    assert main(["compile", str(bundle), "--device", uuid]) == 0
    said = capsys.readouterr().out
    assert "was compiled earlier" in said
    assert f"for: tensorrt 10.13.3.9, {list_devices()[2].name} (8.9)" in said
    assert main(["compile", str(bundle), "--device", "3"]) == 2
    assert "there is no GPU '3'" in capsys.readouterr().err
    # The command for a card that is not the first names it.
    (bundle / "plans" / f"{made.record.target.key}.plan").unlink()
    with pytest.raises(EngineError, match="--backend tensorrt --device 1"):
        load_bundle(bundle).open_engine("tensorrt", device=1)
    stub.set_devices(0)
    assert main(["compile", str(bundle), "--device", "0"]) == 1
    assert "no CUDA-capable device" in capsys.readouterr().err


def test_dla_takes_the_form_without_types(stub: Stub, tmp_path: Path, monkeypatch):
    root = as_form(write_bundle(tmp_path / "dla"), "tensorrt_8")
    control = install(monkeypatch, "10.3")
    with pytest.raises(UsageError, match="this machine has 0 DLA cores"):
        compiled(root, "tensorrt", dla_core=0)
    control.dla_cores = 1
    made = compiled(root, "tensorrt", dla_core=0)
    assert made.record.target.emitter == "tensorrt_8"
    pipeline = load_bundle(root).open_pipeline("tensorrt")
    assert len(pipeline.process(FRAME).result) == 1
    pipeline.close()


def test_a_disk_that_fills_leaves_no_half_plan(stub: Stub, bundle: Path, monkeypatch):
    install(monkeypatch, "10.3")

    def full(path: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(AvCompressError, match="No space left on device"):
            compiled(bundle, "tensorrt")
    left = [path.name for path in (bundle / "plans").iterdir() if not path.name.endswith(".lock")]
    assert left == []
    assert not compiled(bundle, "tensorrt").found


def test_a_plan_whose_record_was_never_written_is_compiled_again(
    stub: Stub, bundle: Path, monkeypatch
):
    install(monkeypatch, "10.3")
    made = compiled(bundle, "tensorrt")
    made.path.with_suffix(".json").unlink()
    assert "it holds no plan of tensorrt" in refusal(bundle)
    assert not compiled(bundle, "tensorrt").found
