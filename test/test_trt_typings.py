# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""mypy holds code on TensorRT to the same facts as the stand-in."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HEAD = """
from tensorrt_api import TensorRT

def act(trt: TensorRT) -> None:
    builder = trt.Builder(trt.Logger(trt.Logger.ERROR))
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    config = builder.create_builder_config()
    plan = builder.build_serialized_network(network, config)
    runtime = trt.Runtime(trt.Logger())
"""
RIGHT = """
    if plan is not None:
        engine = runtime.deserialize_cuda_engine(bytes(plan))
        if engine is not None:
            context = engine.create_execution_context()
            if context is not None:
                context.set_input_shape("x", (1, 2))
                context.set_tensor_address("x", 64)
                context.execute_async_v3(0)
"""
WRONG = {
    "attr-defined": [
        "config.max_workspace = 1",
        "config.set_flag(trt.BuilderFlag.FP17)",
        "builder.build_cuda_engine(network)",
        "trt.IPluginV9",
    ],
    "arg-type": [
        "config.set_flag(1)",
        "config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, '1')",
        "builder.build_serialized_network(config, network)",
    ],
    "call-arg": ["builder.create_network(1, 2)", "builder.build_serialized_network(network)"],
    "call-overload": ["runtime.deserialize_cuda_engine(5)"],
    "misc": ["builder.num_DLA_cores = 1"],
    "union-attr": ["plan.nbytes"],
}


def mypy(path: Path) -> str:
    pytest.importorskip("mypy", reason="mypy is not installed (extra: dev)")
    options = ["--strict", "--config-file", "", "--cache-dir", str(path.parent / "cache")]
    command = [sys.executable, "-m", "mypy", *options, str(path)]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={"MYPYPATH": str(ROOT / "typings")},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


def test_the_typings_are_what_the_script_makes_of_the_facts():
    path = ROOT / "scripts" / "generate_trt_typings.py"
    spec = importlib.util.spec_from_file_location("generate_trt_typings", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.generate() == module.TARGET.read_text()


def test_right_use_is_typed(tmp_path: Path):
    path = tmp_path / "right.py"
    path.write_text(HEAD + RIGHT)
    assert mypy(path).startswith("Success")


def test_misuse_is_found(tmp_path: Path):
    lines = [(code, line) for code, wrong in WRONG.items() for line in wrong]
    path = tmp_path / "wrong.py"
    path.write_text(HEAD + "".join(f"    {line}\n" for _, line in lines))
    told = mypy(path)
    first = HEAD.count("\n") + 1
    for number, (code, line) in enumerate(lines, first):
        found = [one for one in told.splitlines() if f"wrong.py:{number}: error" in one]
        assert any(f"[{code}]" in one for one in found), (code, line, told)
