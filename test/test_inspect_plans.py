# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What inspect says of a bundle's plans."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import onnx
from helpers_trt import ADA
from test_build import world  # noqa: F401 (a fixture)
from test_compile import COMPILE, built, bundle, unseen, with_model  # noqa: F401 (fixtures)

from av_compress.build.compile import compile_bundle
from av_compress.cli.main import main
from av_compress.engines.bundle import load_bundle
from av_compress.engines.plans.store import PlanStore


def test_inspect_says_which_plans_fit(bundle: Path, capsys):
    made = compile_bundle(load_bundle(bundle), "tensorrt_rtx", ADA, unseen)
    capsys.readouterr()
    assert main(["inspect", str(bundle)]) == 0
    said = capsys.readouterr().out
    assert f"plan {made.record.target.key}: tensorrt_rtx" in said
    assert f"{made.account['kernels']} kernels" in said
    assert "does not fit" not in said
    made.path.write_bytes(b"half of it")
    assert main(["inspect", str(bundle)]) == 0
    said = capsys.readouterr().out
    assert "does not fit: " in said
    assert "changed or damaged" in said
    again = f"run: av-compress compile {bundle} --backend tensorrt_rtx --compute-capability 8.9"
    assert f"{again}\n" in said
    # Where only a right is wrong, compiling again does not help.
    made.path.chmod(0o666)
    assert main(["inspect", str(bundle)]) == 0
    said = capsys.readouterr().out
    assert f"run: chmod go-w '{made.path}'\n" in said
    assert "av-compress compile" not in said
    made.path.chmod(0o644)
    # A record that cannot be read is one of the list.
    (bundle / "plans" / "abc.json").write_text("{}")
    assert main(["inspect", str(bundle)]) == 0
    said = capsys.readouterr().out
    assert "plan abc: cannot be used: " in said
    assert f"plan {made.record.target.key}: tensorrt_rtx" in said
    (bundle / "plans" / "abc.json").unlink()
    # Of another artefact.
    model = onnx.load(bundle / "tensorrt" / "model.onnx")
    model.producer_name = "somebody else"
    with_model(bundle, model)
    assert main(["inspect", str(bundle)]) == 0
    assert "compiled of another artefact than the bundle holds" in capsys.readouterr().out


def test_inspect_tells_plans_apart_and_names_their_command(bundle: Path, capsys):
    assert main(["inspect", str(bundle)]) == 0
    backend = "tensorrt" if importlib.util.find_spec("tensorrt") else "tensorrt_rtx"
    assert f"no plan; run: av-compress compile {bundle} --backend {backend}\n" in (
        capsys.readouterr().out
    )
    more = ["--workspace", "512M", "--optimization-level", "2", "--flag", "sparse_weights"]
    assert main(["compile", str(bundle), *COMPILE, *more]) == 0
    capsys.readouterr()
    (record,) = PlanStore.of(bundle).records()
    (bundle / "plans" / f"{record.target.key}.plan").write_bytes(b"half of it")
    assert main(["inspect", str(bundle)]) == 0
    said = capsys.readouterr().out
    assert (
        f"plan {record.target.key}: tensorrt_rtx {record.target.version} tensorrt, for compute "
        "capability 8.9, batch 1, workspace 512 MiB, optimization level 2, SPARSE_WEIGHTS\n"
    ) in said
    again = ["--workspace", str(512 << 20), *more[2:-1], "SPARSE_WEIGHTS"]
    assert f"run: av-compress compile {bundle} {' '.join([*COMPILE, *again])}\n" in said
    assert "no plan" not in said
