# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Runs the tests in on_stub/: the real PyCUDA over a stub of the CUDA driver.

Each file has a process of its own, since what else asks for a GPU (TensorRT, ONNX Runtime) must
not take the stub for one.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers_cuda_stub import LIBRARY, build_stub, built, compile_with, why_not

TEST = Path(__file__).resolve().parent
FILES = sorted((TEST / "on_stub").glob("test_*.py"))

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))


def environment(folder: Path) -> dict[str, str]:
    path = os.environ.get("LD_LIBRARY_PATH")
    found = {
        "AV_COMPRESS_ON_STUB": "1",
        "LD_LIBRARY_PATH": os.pathsep.join([str(folder), *([path] if path else [])]),
        "PYTHONPATH": os.pathsep.join([str(TEST.parent), os.environ.get("PYTHONPATH", "")]),
    }
    return {**os.environ, **found}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_file(path: Path):
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-n",
        "0",
        str(path),
    ]
    done = subprocess.run(
        command,
        cwd=TEST.parent,
        env=environment(build_stub()),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-8000:]}\n{done.stderr[-4000:]}"
    # PyCUDA's destructors complain there.
    assert "PyCUDA" not in done.stderr


def test_there_are_files():
    assert len(FILES) > 4


def asked(folder: Path, script: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=TEST.parent,
        env=environment(folder),
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


ASK = (
    "from av_compress.engines.cuda import CudaError, list_devices\n"
    "try: list_devices()\n"
    "except CudaError as error: print(error.reason, error)\n"
)


def test_a_driver_that_lacks_functions_is_too_old():
    def make(target: Path) -> None:
        source = target.with_name("old.c")
        source.write_text("int cuDriverGetVersion(int *v) { *v = 11040; return 0; }\n")
        compile_with(["gcc", "-shared", "-fPIC", str(source), "-o", str(target)])

    said = asked(built(LIBRARY, [b"an old driver"], make).parent, ASK)
    assert said.startswith("driver_too_old the driver knows CUDA 11.4, and PyCUDA needs its cu")
    assert "update NVIDIA's driver" in said


END = """
import threading
from av_compress.engines.cuda import CudaContext
kept = []
def work():
    context = CudaContext.open()
    kept.append((context, context.stream(), context.event(), context.device_buffer(64),
                 context.pinned((4,), "f4")))
{run}
print("done")
"""


@pytest.mark.parametrize(
    "run",
    [
        "work()",
        "thread = threading.Thread(target=work); thread.start(); thread.join()",
        # Collected in a thread that does not own it.
        "thread = threading.Thread(target=work); thread.start(); thread.join(); kept.clear()\n"
        "import gc; gc.collect()",
    ],
    ids=["main thread", "other thread", "collected elsewhere"],
)
def test_an_interpreter_that_ends_with_an_open_context_does_so_quietly(run: str):
    done = subprocess.run(
        [sys.executable, "-c", END.format(run=run)],
        cwd=TEST.parent,
        env=environment(build_stub()),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
