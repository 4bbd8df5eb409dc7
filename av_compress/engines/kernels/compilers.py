# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Compilers for kernels: NVRTC (a library) and nvcc, wherever they may be installed."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from av_compress.engines.cuda import Device
from av_compress.engines.kernels.source import KernelSource, architecture
from av_compress.errors import EngineError

# A product and a sum are rounded one after the other, as the reference on the host does it.
FLAGS = ("--std=c++17", "--fmad=false")

_VARIABLES = ("CUDA_HOME", "CUDA_PATH", "CUDA_ROOT")
_TOOLKIT = "/usr/local/cuda"
_LIBRARIES = "libnvrtc.so*"
# CUDA 11 has 11.2 as the name of all its releases from 11.2 on.
_NAMES = ("libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so.11.2", "libnvrtc.so")
_SECONDS = 300


class NoCompilerError(EngineError):
    """No compiler for kernels is installed, or none of them fits the device and its driver."""


class Compiler(Protocol):
    """What makes a loadable image of kernels.

    Attributes:
        name: with its version, such as `NVRTC 13.5`.
        flags: what it is told beside source and architecture.

    """

    @property
    def name(self) -> str:
        """See above."""
        ...

    @property
    def flags(self) -> tuple[str, ...]:
        """See above."""
        ...

    def compile(self, source: KernelSource, arch: str) -> bytes:
        """Compile for an architecture such as `sm_89`.

        Raises:
            EngineError: the source is wrong; the first line of the compiler's log is in it.

        """
        ...


@dataclass(frozen=True)
class Found:
    """A compiler that is installed.

    Attributes:
        compiler: it.
        path: its file.
        major: of the CUDA release it belongs to; drivers of an earlier one do not take its code.
        architectures: what it compiles for.

    """

    compiler: Compiler
    path: str
    major: int
    architectures: frozenset[str]

    def refusal(self, device: Device) -> str | None:
        """Return why it is of no use for a device, or nothing."""
        what = f"{self.compiler.name} ({self.path})"
        if self.major > int(device.driver.partition(".")[0]):
            return f"{what} is newer than the driver, which knows CUDA {device.driver}"
        if architecture(device) not in self.architectures:
            return f"{what} does not compile for {architecture(device)}"
        return None


def find_compiler(device: Device) -> Compiler:
    """Return the first compiler that fits a device and its driver.

    NVRTC comes before nvcc, which needs a C++ compiler as well; of each, that of a toolkit that
    CUDA_HOME (or CUDA_PATH, CUDA_ROOT) names before that of NVIDIA's wheels and of the system.

    Raises:
        NoCompilerError: there is none; it says what to install, and why none of the others.

    """
    refused = []
    for found in installed():
        why = found.refusal(device)
        if why is None:
            return found.compiler
        refused.append(why)
    raise NoCompilerError(_advice(device, refused))


def installed() -> Iterator[Found]:
    """Yield the compilers of this machine, best first, of each version one."""
    seen = set()
    for look, places in ((find_nvrtc, _nvrtc_places()), (find_nvcc, _nvcc_places())):
        for place in places:
            found = look(place)
            if found is not None and found.compiler.name not in seen:
                seen.add(found.compiler.name)
                yield found


def find_nvrtc(place: str) -> Found | None:
    """Return the NVRTC of a library; nothing where it is none.

    Args:
        place: its path, or a name for the system to look up.

    """
    try:
        library = ctypes.CDLL(place)
        major, minor, count = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
        library.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
        library.nvrtcGetNumSupportedArchs(ctypes.byref(count))
        numbers = (ctypes.c_int * count.value)()
        library.nvrtcGetSupportedArchs(numbers)
        _ = library.nvrtcGetCUBIN
    except (OSError, AttributeError):
        return None
    compiler = Nvrtc(f"NVRTC {major.value}.{minor.value}", library)
    return Found(compiler, place, major.value, frozenset(f"sm_{number}" for number in numbers))


def find_nvcc(place: str) -> Found | None:
    """Return the nvcc of a file; nothing where it is none."""
    try:
        version = re.search(r"release (\d+)\.\d+, V([\d.]+)", _run(place, "--version").stdout)
        known = _run(place, "--list-gpu-code").stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    if version is None:
        return None
    architectures = frozenset(re.findall(r"\bsm_\d+\w?\b", known))
    return Found(Nvcc(f"nvcc {version[2]}", place), place, int(version[1]), architectures)


@dataclass(frozen=True)
class Nvrtc:
    """NVIDIA's compiler as a library.

    Attributes:
        name: with its version.
        library: it.
        flags: see `Compiler`.

    """

    name: str
    library: ctypes.CDLL
    flags: tuple[str, ...] = FLAGS

    def compile(self, source: KernelSource, arch: str) -> bytes:
        """Compile to a cubin; see `Compiler`."""
        program = ctypes.c_void_p()
        names = [name.encode() for name, _ in source.headers]
        texts = [text.encode() for _, text in source.headers]
        self._call(
            "nvrtcCreateProgram",
            ctypes.byref(program),
            source.text.encode(),
            source.path.name.encode(),
            len(names),
            _strings(texts),
            _strings(names),
        )
        try:
            flags = [flag.encode() for flag in (*self.flags, f"--gpu-architecture={arch}")]
            if self.library.nvrtcCompileProgram(program, len(flags), _strings(flags)):
                raise _broken(self.name, source, arch, self._text(program, "ProgramLog").decode())
            return self._text(program, "CUBIN")
        finally:
            self._call("nvrtcDestroyProgram", ctypes.byref(program))

    def _text(self, program: ctypes.c_void_p, what: str) -> bytes:
        size = ctypes.c_size_t()
        self._call(f"nvrtcGet{what}Size", program, ctypes.byref(size))
        text = ctypes.create_string_buffer(size.value)
        self._call(f"nvrtcGet{what}", program, text)
        return text.raw.rstrip(b"\0") if what == "ProgramLog" else text.raw

    def _call(self, function: str, *arguments: Any) -> None:
        code = getattr(self.library, function)(*arguments)
        if code:
            explain = self.library.nvrtcGetErrorString
            explain.restype = ctypes.c_char_p
            raise EngineError(f"{self.name}: {function} failed: {explain(code).decode()}")


@dataclass(frozen=True)
class Nvcc:
    """NVIDIA's compiler as a program; it needs a C++ compiler beside it.

    Attributes:
        name: with its version.
        program: its file.
        flags: see `Compiler`.

    """

    name: str
    program: str
    flags: tuple[str, ...] = FLAGS

    def compile(self, source: KernelSource, arch: str) -> bytes:
        """Compile to a cubin; see `Compiler`."""
        with tempfile.TemporaryDirectory(prefix="av_compress.") as folder:
            for name, text in ((source.path.name, source.text), *source.headers):
                Path(folder, name).write_text(text, encoding="utf-8")
            image = Path(folder, "image")
            arguments = ["--cubin", f"--gpu-architecture={arch}", *self.flags, "-o", str(image)]
            try:
                done = _run(self.program, *arguments, source.path.name, folder=folder)
            except (OSError, subprocess.TimeoutExpired) as error:
                raise EngineError(f"{self.name} ({self.program}) does not run: {error}") from error
            if done.returncode:
                raise _broken(self.name, source, arch, done.stderr + done.stdout)
            return image.read_bytes()


def _broken(compiler: str, source: KernelSource, arch: str, log: str) -> EngineError:
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    first = next((line for line in lines if "error" in line), lines[0] if lines else "no log")
    return EngineError(f"{source.path} does not compile for {arch} with {compiler}: {first}")


def _strings(values: list[bytes]) -> Any:
    return (ctypes.c_char_p * len(values))(*values)


def _run(
    program: str, *arguments: str, folder: str | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=_SECONDS,
        check=False,
    )


def _toolkits() -> list[Path]:
    """Return the folders of toolkits that the environment names."""
    return [Path(os.environ[name]) for name in _VARIABLES if os.environ.get(name)]


def _wheels() -> list[Path]:
    """Return the folders of NVIDIA's wheels."""
    found = importlib.util.find_spec("nvidia")
    roots = [] if found is None else list(found.submodule_search_locations or ())
    return sorted(path for root in roots for path in Path(root).glob("*"))


def _nvrtc_places() -> Iterator[str]:
    for folder in [*_toolkits(), *_wheels(), Path(_TOOLKIT)]:
        for inner in ("lib64", "lib", "targets/*/lib"):
            # The builtins and the stub of a linker have other names.
            yield from map(str, sorted(folder.glob(f"{inner}/{_LIBRARIES}"))[:1])
    yield from _NAMES


def _nvcc_places() -> Iterator[str]:
    for folder in [*_toolkits(), *_wheels(), Path(_TOOLKIT)]:
        if (folder / "bin/nvcc").is_file():
            yield str(folder / "bin/nvcc")
    named = shutil.which("nvcc")
    if named is not None:
        yield named


def _advice(device: Device, refused: list[str]) -> str:
    major = int(device.driver.partition(".")[0])
    wheel = "nvidia-cuda-nvrtc" if major > 12 else f"nvidia-cuda-nvrtc-cu{major}"
    have = f" ({'; '.join(refused)})" if refused else ""
    return (
        f"there is no compiler for kernels on GPU {device.index} ({device.name}, compute "
        f"capability {device.capability}, driver for CUDA {device.driver}){have}; install NVRTC: "
        f"pip install {wheel}, or a CUDA toolkit of at most version {major}, and name its folder "
        "in CUDA_HOME"
    )
