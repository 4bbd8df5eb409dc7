# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Kernels are compiled for a device once, kept behind their hash, and loaded."""

from __future__ import annotations

from pathlib import Path

from av_compress.cachefolder import cache_folder
from av_compress.engines.cuda import CudaContext, KernelModule
from av_compress.engines.kernels.compilers import Compiler, find_compiler
from av_compress.engines.kernels.source import KernelSource, architecture
from av_compress.errors import AvCompressError
from av_compress.fileio import canonical_json, read_hashed, sha256_bytes, write_hashed

SOURCES = Path(__file__).parent


def load_kernels(cuda: CudaContext, name: str, compiler: Compiler | None = None) -> KernelModule:
    """Load the kernels of a source of this package, compiled for the context's device.

    Args:
        cuda: the context they are loaded into; its owner must call.
        name: the source is `name`.cu.
        compiler: by default the first that fits the device, see `find_compiler`.

    Raises:
        NoCompilerError: there is no compiler for this device.
        EngineError: the source does not compile.
        CudaError: the driver does not take what was compiled.

    """
    source = KernelSource.read(SOURCES / f"{name}.cu")
    chosen = find_compiler(cuda.device) if compiler is None else compiler
    return cuda.load(compiled(source, architecture(cuda.device), chosen))


def compiled(source: KernelSource, arch: str, compiler: Compiler) -> bytes:
    """Return the image that `compiler` makes of `source`; it is kept for the next time.

    Args:
        source: the kernels.
        arch: such as `sm_89`.
        compiler: not called where the image is kept; a damaged one counts as none.

    Raises:
        EngineError: the source does not compile.

    """
    path = image_path(source, arch, compiler)
    kept = read_hashed(path)
    if kept:
        return kept
    image = compiler.compile(source, arch)
    try:
        write_hashed(path, image)
    except AvCompressError:
        # Where it cannot be written, the next load takes longer, no more.
        return image
    return image


def image_path(source: KernelSource, arch: str, compiler: Compiler) -> Path:
    """Return where the image is kept: by everything that it depends on."""
    basis = {
        "source": source.text,
        "headers": dict(source.headers),
        "compiler": compiler.name,
        "architecture": arch,
        "flags": list(compiler.flags),
    }
    digest = sha256_bytes(canonical_json(basis).encode())
    return cache_folder() / "kernels" / f"{source.path.stem}-{arch}-{digest}.bin"
