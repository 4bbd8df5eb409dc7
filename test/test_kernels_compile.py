# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Kernels compile for every card that counts, once; what does not compile says where."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from helpers_cuda_stub import TEST

from av_compress.cachefolder import VARIABLE
from av_compress.engines.cuda import Device
from av_compress.engines.kernels import compilers
from av_compress.engines.kernels.compile import SOURCES, compiled, image_path
from av_compress.engines.kernels.compilers import (
    FLAGS,
    Found,
    NoCompilerError,
    Nvrtc,
    find_compiler,
    find_nvcc,
    find_nvrtc,
    installed,
)
from av_compress.engines.kernels.source import KernelSource, architecture
from av_compress.errors import EngineError

EXAMPLE = TEST / "cuda_shim" / "example.cu"
KERNELS = [EXAMPLE, *sorted(SOURCES.glob("*.cu"))]
# Turing, Ampere, Orin, Ada, Hopper, Blackwell, Thor.
CARDS = ["sm_75", "sm_86", "sm_87", "sm_89", "sm_90", "sm_100", "sm_110"]
ELF = b"\x7fELF"
CUDA_MACHINE = 190  # EM_CUDA

FOUND = list(installed())


def of_kind(kind: str) -> list[Found]:
    return [found for found in FOUND if found.compiler.name.startswith(kind)]


def compiler_for(kind: str, arch: str) -> compilers.Compiler:
    found = of_kind(kind)
    if not found:
        pytest.skip(f"there is no {kind} (extra dev)")
    for one in found:
        if arch in one.architectures:
            return one.compiler
    names = ", ".join(one.compiler.name for one in found)
    pytest.skip(f"none of {names} compiles for {arch}")


def device(capability: str = "8.9", driver: str = "13.5") -> Device:
    return Device(0, "GPU-0", "Card", capability, 1 << 30, driver)


@dataclass(frozen=True)
class Counting:
    """A compiler that counts, and otherwise is another."""

    inner: Nvrtc
    calls: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.inner.name

    @property
    def flags(self) -> tuple[str, ...]:
        return self.inner.flags

    def compile(self, source: KernelSource, arch: str) -> bytes:
        self.calls.append(arch)
        return self.inner.compile(source, arch)


@pytest.fixture
def counting(tmp_path, monkeypatch) -> Counting:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "cache"))
    return Counting(compiler_for("NVRTC", "sm_89"))


@pytest.mark.parametrize("kind", ["NVRTC", "nvcc"])
@pytest.mark.parametrize("arch", CARDS)
@pytest.mark.parametrize("path", KERNELS, ids=[path.stem for path in KERNELS])
def test_every_kernel_compiles(path: Path, arch: str, kind: str):
    source = KernelSource.read(path)
    image = compiler_for(kind, arch).compile(source, arch)
    assert image.startswith(ELF)
    assert int.from_bytes(image[18:20], "little") == CUDA_MACHINE
    for name in re.findall(
        r'extern "C" __global__ void (?:__launch_bounds__\(\w+\) )?(\w+)\(', source.text
    ):
        assert f".text.{name}".encode() in image


@pytest.mark.parametrize("path", KERNELS, ids=[path.stem for path in KERNELS])
def test_every_kernel_compiles_for_xavier(path: Path):
    assert compiler_for("NVRTC", "sm_72").compile(KernelSource.read(path), "sm_72")[:4] == ELF


def test_products_and_sums_are_not_fused(tmp_path: Path):
    compiler, target = compiler_for("nvcc", "sm_89"), tmp_path / "example.ptx"
    command = [compiler.program, "--ptx", "--gpu-architecture=sm_89", str(EXAMPLE)]
    subprocess.run([*command, *compiler.flags, "-o", str(target)], check=True)
    text = target.read_text()
    assert "mul.rn.f32" in text
    assert "add.rn.f32" in text
    assert "fma.rn" not in text
    # Left to itself, the compiler does fuse them.
    subprocess.run([*command, "-o", str(target)], check=True)
    assert "fma.rn" in target.read_text()


def test_nvrtc_is_told_the_same():
    compiler, source = compiler_for("NVRTC", "sm_89"), KernelSource.read(EXAMPLE)
    assert compiler.flags == FLAGS
    fused = Nvrtc(compiler.name, compiler.library, FLAGS[:1]).compile(source, "sm_89")
    assert fused != compiler.compile(source, "sm_89")


def test_what_was_compiled_is_not_compiled_again(counting):
    source = KernelSource.read(EXAMPLE)
    first = compiled(source, "sm_89", counting)
    assert compiled(KernelSource.read(EXAMPLE), "sm_89", counting) == first
    assert counting.calls == ["sm_89"]


def test_a_damaged_image_is_compiled_again(counting):
    source = KernelSource.read(EXAMPLE)
    first, path = compiled(source, "sm_89", counting), image_path(source, "sm_89", counting)
    for content in (path.read_bytes()[:-1], b"", path.read_bytes().replace(b"scale", b"scald")):
        path.write_bytes(content)
        assert compiled(source, "sm_89", counting) == first
    assert counting.calls == ["sm_89"] * 4


@pytest.mark.parametrize("part", ["source", "header", "compiler", "architecture", "flags"])
def test_whatever_it_depends_on_makes_another_image(part: str, tmp_path: Path):
    path = tmp_path / "k.cu"
    path.write_text('#include "k.cuh"\n')
    (tmp_path / "k.cuh").write_text("#define A 1\n")
    one = image_path(KernelSource.read(path), "sm_89", Nvrtc("NVRTC 13.5", None))
    if part == "source":
        path.write_text('#include "k.cuh"\n\n')
    if part == "header":
        (tmp_path / "k.cuh").write_text("#define A 2\n")
    other = image_path(
        KernelSource.read(path),
        "sm_90" if part == "architecture" else "sm_89",
        Nvrtc(
            "NVRTC 13.6" if part == "compiler" else "NVRTC 13.5",
            None,
            FLAGS[:1] if part == "flags" else FLAGS,
        ),
    )
    assert one.parent == other.parent
    assert one != other


def test_where_nothing_can_be_kept_it_is_compiled_all_the_same(counting, tmp_path):
    (tmp_path / "cache").write_text("a file where the folder is to be")
    source = KernelSource.read(EXAMPLE)
    assert compiled(source, "sm_89", counting) == compiled(source, "sm_89", counting)
    assert counting.calls == ["sm_89"] * 2


BROKEN = """\
extern "C" __global__ void broken(float *out) {
  out[0] = 1.0f
  out[1] = 2.0f;
  out[2] = unknown;
}
"""


@pytest.mark.parametrize("kind", ["NVRTC", "nvcc"])
def test_a_broken_source_names_the_line(kind: str, tmp_path: Path):
    path = tmp_path / "broken.cu"
    path.write_text(BROKEN)
    with pytest.raises(EngineError) as caught:
        compiled(KernelSource.read(path), "sm_89", compiler_for(kind, "sm_89"))
    said = str(caught.value)
    assert f"{path} does not compile for sm_89 with {kind}" in said
    assert re.search(r"broken\.cu\((2|3)\): error: expected a \";\"", said)
    assert "\n" not in said


@pytest.mark.parametrize("kind", ["NVRTC", "nvcc"])
def test_headers_of_the_folder_are_found(kind: str, tmp_path: Path):
    (tmp_path / "a.cuh").write_text('#include "b.cuh"\n#define A B\n')
    (tmp_path / "b.cuh").write_text("#define B 7\n")
    path = tmp_path / "k.cu"
    path.write_text('#include "a.cuh"\nextern "C" __global__ void k(int *out) { *out = A; }\n')
    source = KernelSource.read(path)
    assert [name for name, _ in source.headers] == ["a.cuh", "b.cuh"]
    assert compiler_for(kind, "sm_89").compile(source, "sm_89")[:4] == ELF


def test_a_source_or_header_that_is_not_there(tmp_path: Path):
    with pytest.raises(EngineError, match=r"none\.cu cannot be read: No such file"):
        KernelSource.read(tmp_path / "none.cu")
    (tmp_path / "k.cu").write_text('#include "none.cuh"\n')
    with pytest.raises(EngineError, match=r"none\.cuh cannot be read: No such file"):
        KernelSource.read(tmp_path / "k.cu")


def test_capabilities_are_architectures():
    assert [architecture(device(c)) for c in ("8.9", "12.0")] == ["sm_89", "sm_120"]


def test_the_first_that_fits_is_taken(monkeypatch):
    old, new = Nvrtc("NVRTC 12.9", None), Nvrtc("NVRTC 13.5", None)
    both = [
        Found(new, "new.so", 13, frozenset({"sm_75", "sm_89"})),
        Found(old, "old.so", 12, frozenset({"sm_72", "sm_89"})),
    ]
    monkeypatch.setattr(compilers, "installed", lambda: iter(both))
    assert find_compiler(device("8.9", "13.0")) is new
    assert find_compiler(device("8.9", "12.4")) is old
    assert find_compiler(device("7.2", "13.0")) is old
    with pytest.raises(NoCompilerError) as caught:
        find_compiler(device("7.5", "12.2"))
    assert "NVRTC 13.5 (new.so) is newer than the driver, which knows CUDA 12.2" in str(
        caught.value
    )
    assert "NVRTC 12.9 (old.so) does not compile for sm_75" in str(caught.value)


@pytest.mark.parametrize(
    ("driver", "wheel"), [("13.2", "nvidia-cuda-nvrtc,"), ("12.4", "nvidia-cuda-nvrtc-cu12,")]
)
def test_without_a_compiler_it_is_said_what_to_install(monkeypatch, driver: str, wheel: str):
    monkeypatch.setattr(compilers, "installed", lambda: iter(()))
    with pytest.raises(NoCompilerError) as caught:
        find_compiler(device(driver=driver))
    assert f"pip install {wheel}" in str(caught.value)
    assert "CUDA_HOME" in str(caught.value)
    assert isinstance(caught.value, EngineError)


def test_what_is_no_compiler_is_passed_over(tmp_path: Path):
    library, program = tmp_path / "libnvrtc.so", tmp_path / "nvcc"
    library.write_bytes(b"no library")
    program.write_text("#!/bin/sh\necho nothing\n")
    program.chmod(0o755)
    assert find_nvrtc(str(library)) is None
    assert find_nvrtc("libc.so.6") is None
    assert find_nvcc(str(program)) is None
    assert find_nvcc(str(tmp_path / "none")) is None


def test_a_toolkit_that_is_named_comes_first(tmp_path: Path):
    nvrtc, nvcc = of_kind("NVRTC"), of_kind("nvcc")
    if not nvrtc or not nvcc:
        pytest.skip("there are no compilers (extra dev)")
    (tmp_path / "lib64").mkdir()
    (tmp_path / "bin").mkdir()
    (tmp_path / "lib64/libnvrtc.so.12").symlink_to(nvrtc[-1].path)
    (tmp_path / "bin/nvcc").symlink_to(nvcc[-1].path)
    script = (
        "from av_compress.engines.kernels.compilers import installed\n"
        "for found in installed(): print(found.path)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "CUDA_HOME": str(tmp_path), "PYTHONPATH": str(TEST.parent)},
        capture_output=True,
        text=True,
        check=True,
    )
    # Of each version there is one: the wheels' give way.
    paths = done.stdout.splitlines()
    assert paths[0] == str(tmp_path / "lib64/libnvrtc.so.12")
    assert paths[len(nvrtc)] == str(tmp_path / "bin/nvcc")
    assert len(paths) == len(FOUND)
