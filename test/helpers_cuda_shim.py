# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Kernels compiled for this machine's processor, as a module that the driver's stub loads."""

from __future__ import annotations

import re
from pathlib import Path

from helpers_cuda_stub import TEST, built, compile_with

from av_compress.engines.kernels.source import KernelSource

SHIM = TEST / "cuda_shim" / "cuda_shim.h"
KERNEL = re.compile(r'extern "C" __global__ void (?:__launch_bounds__\(\w+\) )?(\w+)\(')


def build_image(source: Path) -> bytes:
    """Return the module's image: a shared library with every kernel of `source` in it."""
    text = source.read_text(encoding="utf-8")
    kernels = KERNEL.findall(text)
    assert kernels, f"{source} has no kernel"
    main = f'#include "{SHIM}"\n#include "{source}"\n'
    main += "".join(f"SHIM_KERNEL({name})\n" for name in kernels)

    def make(target: Path) -> None:
        unit = target.with_name(f"{target.name}.cpp")
        unit.write_text(main)
        # No joining of products and sums: the device's compilers are told the same.
        command = ["g++", "-std=c++17", "-O2", "-g", "-Wall", "-Wextra", "-Werror", "-fPIC"]
        command += ["-ffp-contract=off", "-shared", str(unit), "-o", str(target)]
        compile_with(command)
        unit.unlink()

    headers = [text.encode() for _, text in KernelSource.read(source).headers]
    shim = [path.read_bytes() for path in sorted(SHIM.parent.glob("*.h"))]
    inputs = [main.encode(), *shim, source.read_bytes(), *headers]
    return built(f"{source.stem}.so", inputs, make).read_bytes()


class HostCompiler:
    """The shim as a compiler of `load_kernels`."""

    name = "host shim"
    flags = ()

    def compile(self, source: KernelSource, arch: str) -> bytes:
        return build_image(source.path)
