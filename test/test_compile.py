# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Bundles compiled for real by TensorRT for RTX: plans, what was made of them, and refusals."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers_models import Network
from helpers_qdq import convolution
from helpers_trt import ADA, rtx
from helpers_trust import sign, verify, write_keys
from onnx import helper, numpy_helper
from test_build import ROOT, recipe, world  # noqa: F401 (a fixture)

from av_compress.build import compile as compiling
from av_compress.build.compile import compile_bundle
from av_compress.cli.main import main
from av_compress.compress.graph import GraphIndex
from av_compress.engines.bundle import load_bundle
from av_compress.engines.plans.options import CompileOptions
from av_compress.engines.plans.store import PlanStore
from av_compress.engines.tensorrt.compile import compile_plan
from av_compress.engines.tensorrt.module import load_module
from av_compress.errors import EngineError, MissingExtraError, UsageError
from av_compress.fileio import sha256_file

COMPILE = ("--backend", "tensorrt_rtx", "--compute-capability", "8.9")


@pytest.fixture(scope="module")
def built(world: Path) -> Path:
    rtx()
    output = world / "compiled" / "demo"
    path = recipe(world, "compiled.yaml", emitters=["tensorrt"])
    assert main(["build", str(path), "--output", str(output)]) == 0
    return output


@pytest.fixture
def bundle(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "bundle"))


def unseen(label: str) -> None:
    return None


def test_a_bundle_becomes_a_plan_with_every_planned_node_in_int8(bundle: Path, capsys):
    assert main(["compile", str(bundle), *COMPILE, "--strict", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    plan = Path(printed["path"])
    assert plan.parent == bundle / "plans"
    assert plan.stat().st_size == printed["bytes"] > 10_000
    record = load_bundle(bundle).record("tensorrt")
    planned = {node.node for node in record.nodes if node.precision == "int8"}
    nodes = {node["node"]: node for node in printed["account"]["nodes"]}
    assert planned
    assert {name for name, node in nodes.items() if node["achieved"] == "int8"} == planned
    assert not any(node["differs"] for node in nodes.values())
    assert printed["account"]["kernels"] > 0
    # Without its pairs the same model has nothing in INT8.
    floats = printed["account"]["without_pairs"]
    assert not any("int8" in kinds for kinds in floats["convolutions"])


def test_an_unchanged_bundle_is_not_compiled_again(bundle: Path, monkeypatch):
    first = compile_bundle(load_bundle(bundle), "tensorrt_rtx", ADA, unseen)
    assert not first.found

    def never(*args, **kwargs):
        raise AssertionError("compiled again")

    monkeypatch.setattr(compiling, "compile_plan", never)
    again = compile_bundle(load_bundle(bundle), "tensorrt_rtx", ADA, unseen)
    assert again.found
    # It is the latest now.
    assert again.record.compiled_ns > first.record.compiled_ns
    assert again.record == replace(first.record, compiled_ns=again.record.compiled_ns)
    assert PlanStore.of(bundle).records() == [again.record]
    monkeypatch.undo()
    # Damaged, it is compiled again; so it is where that is asked for.
    first.path.write_bytes(b"half of it")
    assert not compile_bundle(load_bundle(bundle), "tensorrt_rtx", ADA, unseen).found
    assert not compile_bundle(load_bundle(bundle), "tensorrt_rtx", ADA, unseen, anew=True).found
    other = CompileOptions(capabilities=("8.6", "12.0"))
    assert not compile_bundle(load_bundle(bundle), "tensorrt_rtx", other, unseen).found
    assert len(PlanStore.of(bundle).records()) == 2


def test_a_plan_of_a_signed_bundle_has_to_be_signed_too(bundle: Path, tmp_path: Path, capsys):
    key = write_keys(tmp_path, "mine")
    sign(bundle, key)
    capsys.readouterr()
    assert main(["compile", str(bundle), *COMPILE]) == 0
    assert "the bundle is signed, this plan is not" in capsys.readouterr().err
    assert verify(bundle, key) == 1
    sign(bundle, key)
    assert verify(bundle, key) == 0
    capsys.readouterr()
    # What is there already keeps its signature, what is made anew loses it.
    assert main(["compile", str(bundle), *COMPILE]) == 0
    assert "sign" not in capsys.readouterr().err
    assert verify(bundle, key) == 0
    assert main(["compile", str(bundle), *COMPILE, "--optimization-level", "1"]) == 0
    capsys.readouterr()
    assert main(["compile", str(bundle), *COMPILE]) == 0
    assert "the plan is signed, so it keeps the time" in capsys.readouterr().err
    assert main(["compile", str(bundle), *COMPILE, "--anew"]) == 0
    assert "this plan is not" in capsys.readouterr().err
    assert verify(bundle, key) == 1


def test_two_that_compile_at_once_do_not_disturb_each_other(bundle: Path):
    command = [sys.executable, "-m", "av_compress", "compile", str(bundle), *COMPILE]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    both = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum("was compiled earlier" in text for text in said) == 1
    (record,) = PlanStore.of(bundle).records()
    assert PlanStore.of(bundle).read(record)


def with_model(bundle: Path, model: onnx.ModelProto) -> None:
    """Let a bundle hold another model, as if it had been built so."""
    path, manifest = bundle / "tensorrt" / "model.onnx", bundle / "manifest.json"
    before = sha256_file(path)
    path.write_bytes(model.SerializeToString())
    manifest.write_text(manifest.read_text().replace(before, sha256_file(path)))


def test_a_node_that_silently_became_float_is_named(bundle: Path, capsys):
    """With a scale for each channel of an activation TensorRT for RTX compiles to float."""
    model = onnx.load(bundle / "tensorrt" / "model.onnx")
    makers = {output: node for node in model.graph.node for output in node.output}
    node = next(
        n
        for n in model.graph.node
        if n.op_type == "Conv" and makers[n.input[0]].op_type == "DequantizeLinear"
    )
    dequantize = makers[node.input[0]]
    channels = GraphIndex(model).shape(node.input[0])[1]
    values = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    for one in (makers[dequantize.input[0]], dequantize):
        one.attribute.append(helper.make_attribute("axis", 1))
        for position, name in ((1, "scales"), (2, "zeros")):
            vector = np.repeat(values[one.input[position]], channels)
            one.input[position] = f"{one.name}_{name}"
            model.graph.initializer.append(numpy_helper.from_array(vector, one.input[position]))
    with_model(bundle, model)
    assert main(["compile", str(bundle), *COMPILE]) == 0
    error = capsys.readouterr().err
    assert f"1 nodes were to be INT8 and are not: {node.name} (fp" in error
    # That plan is there and stays, but is not what is asked for.
    before = PlanStore.of(bundle).records()
    assert main(["compile", str(bundle), *COMPILE, "--strict"]) == 1
    error = capsys.readouterr().err
    assert f"error: --strict: 1 nodes were to be INT8 and are not: {node.name} (fp" in error
    assert f"remove {bundle / 'plans'}" in error
    assert main(["compile", str(bundle), *COMPILE, "--strict", "--anew"]) == 1
    assert f"remove {bundle / 'plans'}" in capsys.readouterr().err
    assert PlanStore.of(bundle).records() == before
    shutil.rmtree(bundle / "plans")
    assert main(["compile", str(bundle), *COMPILE, "--strict", "--json"]) == 1
    said = capsys.readouterr()
    assert "remove" not in said.err
    printed = json.loads(said.out)
    assert printed["path"] is None
    assert printed["refused"].startswith("--strict: 1 nodes")
    assert [one["node"] for one in printed["account"]["nodes"] if one["differs"]] == [node.name]
    assert [path.suffix for path in (bundle / "plans").iterdir()] == [".lock"]


def test_what_the_compiler_refuses_is_named(bundle: Path, capsys):
    model = onnx.load(bundle / "tensorrt" / "model.onnx")
    output = model.graph.output[0].name
    last = next(node for node in model.graph.node if output in node.output)
    position = list(last.output).index(output)
    last.output[position] = "before_the_end"
    model.graph.node.append(helper.make_node("Det", ["before_the_end"], [output], name="the end"))
    with_model(bundle, model)
    assert main(["compile", str(bundle), *COMPILE]) == 1
    error = capsys.readouterr().err
    assert "the parser refuses the model" in error
    assert "node 'the end' (Det)" in error
    assert not list((bundle / "plans").glob("*.plan"))


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--compute-capability", "7.2"], 2, "no compute capability SM72; it has: "),
        (["--compute-capability", "turing"], 2, "'turing' is not of the form 8.9"),
        (["--compute-capability", ","], 2, "--compute-capability: ',' names none"),
        (["--compute-capability", ""], 2, "--compute-capability: '' names none"),
        (["--workspace", "much"], 2, "--workspace: 'much' is no size"),
        (["--workspace", "9" * 21], 2, "is more than any device's memory"),
        (["--workspace", "9" * 9999], 2, "is no size"),
        (["--batch", "1,2"], 2, "neither a number nor three"),
        (["--batch", "²"], 2, "neither a number nor three"),
        (["--batch", "9" * 9999], 2, "neither a number nor three"),
        (["--hardware-compatibility", "ampere_plus"], 2, "tensorrt_rtx has no levels"),
        (["--flag", "nonsense"], 2, "this TensorRT has no flag NONSENSE"),
        (["--dla", "0"], 2, "--dla 0: this machine has 0 DLA cores"),
        (["--optimization-level", "9"], 2, "9 is not 0 to 5"),
        (["--batch", "1,2,4"], 2, "takes at most 1 frames at once; build it with optimize"),
        (["--device", "0"], 2, "--device: tensorrt_rtx compiles ahead of time"),
    ],
)
def test_wrong_arguments_are_refused(bundle: Path, capsys, arguments, code, words):
    assert main(["compile", str(bundle), "--backend", "tensorrt_rtx", *arguments]) == code
    assert words in capsys.readouterr().err
    assert not list(bundle.glob("plans/*.plan"))


def test_a_backend_that_is_not_installed_is_named(bundle: Path, capsys):
    if importlib.util.find_spec("tensorrt") is not None:
        pytest.skip("tensorrt is installed")
    assert main(["compile", str(bundle), "--backend", "tensorrt"]) == 1
    assert "pip install 'av_compress[tensorrt]'" in capsys.readouterr().err
    # Where none is named, it is the one that is installed.
    assert main(["compile", str(bundle)]) == 0
    said = capsys.readouterr()
    assert "backend tensorrt_rtx: it is installed" in said.err
    assert "for: tensorrt_rtx" in said.out
    with pytest.raises(MissingExtraError):
        load_module("tensorrt")
    with pytest.raises(UsageError, match="allowed: tensorrt, tensorrt_rtx"):
        load_module("onnxruntime")


def test_a_compilation_can_be_stopped():
    steps = []

    def stop(phase: str, done: int, total: int) -> bool:
        steps.append((phase, done, total))
        return len(steps) < 3

    with pytest.raises(KeyboardInterrupt):
        compile_plan(rtx(), convolution().model().SerializeToString(), ADA, stop)
    assert len(steps) == 3
    assert all(phase and done >= 1 for phase, done, _ in steps)


def test_an_open_batch_gets_a_profile(tmp_path: Path):
    net = Network(0, channels=4, side=8)
    net.conv("image", 16)
    model = net.model()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    del model.graph.value_info[:]
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    options = CompileOptions(capabilities=("8.9",), batch=(1, 2, 4), workspace=1 << 28)
    assert compile_plan(rtx(), model.SerializeToString(), options).layers
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"
    with pytest.raises(EngineError, match="input 'image' has the extents"):
        compile_plan(rtx(), model.SerializeToString(), options)


@pytest.fixture(scope="module")
def batched(world: Path) -> Path:
    rtx()
    output = world / "compiled" / "batched"
    more = {"emitters": ["tensorrt"], "optimize": {"max_batch": 3}, "gate": None}
    assert (
        main(["build", str(recipe(world, "batched.yaml", **more)), "--output", str(output)]) == 0
    )
    return output


@pytest.mark.parametrize(
    ("arguments", "batch", "said"),
    [
        ([], [1, 3, 3], "batch 1 to 3, best at 3"),
        (["--batch", "1,2,3"], [1, 2, 3], "batch 1 to 3, best at 2"),
        (["--batch", "1"], [1, 1, 1], "compute capability 8.9\n"),
    ],
)
def test_a_plan_takes_what_the_bundle_was_built_for(batched: Path, capsys, arguments, batch, said):
    shutil.rmtree(batched / "plans", ignore_errors=True)
    assert main(["compile", str(batched), *COMPILE, "--batch", "4"]) == 2
    assert "takes at most 3 frames at once" in capsys.readouterr().err
    assert main(["compile", str(batched), *COMPILE, *arguments]) == 0
    assert said in capsys.readouterr().out
    (record,) = PlanStore.of(batched).records()
    assert record.target.options["batch"] == batch


def test_bytes_are_those_of_a_frame_whatever_the_batch(batched: Path, capsys):
    """A fixed batch of three moves for each frame what a batch of one does, but for padding."""
    accounts = {}
    for batch in ("1", "3", "1,3,3"):
        command = ["compile", str(batched), *COMPILE, "--batch", batch, "--anew"]
        assert main([*command, "--json"]) == 0
        accounts[batch] = json.loads(capsys.readouterr().out)["account"]
    assert [one["batch"] for one in accounts.values()] == [1, 3, 1]
    moved = {key: one["activation_bytes"] for key, one in accounts.items()}
    assert moved["3"] == pytest.approx(moved["1"], rel=0.2)
    assert moved["1,3,3"] == pytest.approx(moved["1"], rel=0.2)
    assert main(["compile", str(batched), *COMPILE, "--batch", "3"]) == 0
    assert "kernels for a run of 3 frames, " in capsys.readouterr().out


def test_a_plan_that_is_there_is_found_without_reading_any_model(bundle: Path):
    assert main(["compile", str(bundle), *COMPILE]) == 0
    code = (
        "import sys; from av_compress.cli.main import main; "
        f"code = main({['compile', str(bundle), *COMPILE]!r}); "
        "heavy = {'onnx', 'onnx_ir', 'sympy', 'torch', 'cv2'} & set(sys.modules); "
        "print('heavy', sorted(heavy)); sys.exit(code)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert "was compiled earlier" in done.stdout
    assert done.stdout.splitlines()[-1] == "heavy []"


def test_how_long_it_took_the_last_time_is_said(bundle: Path):
    labels: list[str] = []

    def watching(label: str) -> None:
        labels.append(label)

    def compiled(**more) -> None:
        options = CompileOptions(capabilities=("8.9",), **more)
        compile_bundle(load_bundle(bundle), "tensorrt_rtx", options, watching, anew=True)

    compiled()
    assert labels[0] == "compile"
    (path,) = (bundle / "plans").glob("*.json")
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "seconds": 725.0}))
    labels.clear()
    # With other options it takes about as long.
    compiled(optimization_level=1)
    assert labels[0] == "compile (12:05 the last time)"
    # A record that cannot be read says nothing, and stops nothing.
    path.write_text("damaged")
    shutil.copy(path, path.with_name("0.json"))
    labels.clear()
    compiled(optimization_level=2)
    assert labels[0].startswith("compile (0:0")
