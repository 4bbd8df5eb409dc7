# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The kernels of the tests on a card compile for every card, as NVIDIA's assembler says."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from helpers_cuda_stub import cuda_header
from helpers_gpu import ADD, SPIN


def assembler() -> Path:
    header = cuda_header()
    if header is None:
        pytest.skip("there is no ptxas (extra dev)")
    return header.parent / "bin/ptxas"


@pytest.mark.parametrize("capability", ["75", "86", "87", "89", "90", "110", "120"])
@pytest.mark.parametrize("kernel", [ADD, SPIN], ids=["add", "spin"])
def test_a_kernel_compiles(kernel: bytes, capability: str, tmp_path: Path):
    source = tmp_path / "kernel.ptx"
    source.write_bytes(kernel.rstrip(b"\0"))
    command = [str(assembler()), f"-arch=sm_{capability}", str(source), "-o", str(tmp_path / "o")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
