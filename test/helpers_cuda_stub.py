# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The stub of the CUDA driver: compiled once, loaded as the driver, read and set by tests."""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

TEST = Path(__file__).resolve().parent
# Compiled code is kept between runs, by all that it depends on.
KEPT = TEST.parent / "build" / "cuda_stub"
LIBRARY = "libcuda.so.1"


def why_not() -> str | None:
    """Return why the real PyCUDA cannot run here over the stub, or nothing."""
    if importlib.util.find_spec("pycuda") is None:
        return "PyCUDA is not installed (make setup builds it: scripts/build_pycuda.py)"
    if cuda_header() is None:
        return "there is no cuda.h (extra dev)"
    if shutil.which("gcc") is None or shutil.which("nm") is None:
        return "there is no C compiler"
    return None


def cuda_header() -> Path | None:
    """Return the folder of the cuda.h that PyCUDA was built with."""
    found = importlib.util.find_spec("nvidia")
    roots = [Path(root) for root in (found.submodule_search_locations if found else [])]
    return next((r / "cu13/include" for r in roots if (r / "cu13/include/cuda.h").exists()), None)


def built(name: str, inputs: Sequence[bytes], make: Callable[[Path], None]) -> Path:
    """Return the kept file that `make` writes from `inputs`; processes may race for it."""
    digest = hashlib.sha256(b"\0".join(inputs)).hexdigest()[:16]
    target = KEPT / digest / name
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    staged = target.parent / f".{os.getpid()}.{name}"
    make(staged)
    return staged.replace(target)


def build_stub() -> Path:
    """Return the folder that holds the stub under the driver's name."""
    sources = sorted((TEST / "cuda_stub").glob("*.[ch]"))
    missing = names_nobody_needs(sources)

    def make(target: Path) -> None:
        rest = target.with_name(f"{target.name}.c")
        rest.write_text("int stub_missing(const char *);\n" + missing)
        command = ["gcc", "-std=c11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-fPIC"]
        command += ["-shared", f"-Wl,-soname,{LIBRARY}", f"-I{cuda_header()}"]
        command += [str(path) for path in sources if path.suffix == ".c"]
        compile_with([*command, str(rest), "-o", str(target), "-lpthread", "-ldl"])
        rest.unlink()

    inputs = [path.read_bytes() for path in sources]
    return built(LIBRARY, [*inputs, missing.encode()], make).parent


def names_nobody_needs(sources: Sequence[Path]) -> str:
    """Return C functions for what PyCUDA names and the stub does not have: not supported."""
    folder = Path(importlib.util.find_spec("pycuda").origin).parent
    (driver,) = folder.glob("_driver*.so")
    command = ["nm", "-D", "--undefined-only", str(driver)]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    wanted = set(re.findall(r"\b(cu[A-Z]\w*)$", listing, re.M))
    text = "".join(path.read_text() for path in sources)
    header = (cuda_header() / "cuda.h").read_text()
    current = dict(re.findall(r"#define (cu\w+)\s+(?:__CUDA_API_\w+\()?(cu\w+)", header))
    defined = set(re.findall(r"^CUresult (cu\w+)\(", text, re.M))
    defined = {current.get(name, name) for name in defined}
    return "".join(
        f"int {name}(void) {{ return stub_missing(__func__); }}\n"
        for name in sorted(wanted - defined)
    )


def compile_with(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise AssertionError(f"{' '.join(command)}\n{done.stderr}")


class Stub:
    """What a test reads of the stub, and sets in it. It is the library that PyCUDA has loaded."""

    def __init__(self) -> None:
        self.library = ctypes.CDLL(LIBRARY)
        for name in ("stub_count", "stub_count_in", "stub_pushed"):
            getattr(self.library, name).restype = ctypes.c_long
        self.library.stub_set_memory.argtypes = [ctypes.c_size_t]

    def count(self, function: str, thread: int | None = None) -> int:
        """Calls of a driver's function, of all threads or of one (threading.get_native_id)."""
        name = function.encode()
        if thread is None:
            return self.library.stub_count(name)
        return self.library.stub_count_in(name, ctypes.c_long(thread))

    def called(self) -> dict[str, int]:
        text = ctypes.create_string_buffer(1 << 16)
        self.library.stub_called(text, ctypes.c_size_t(len(text)))
        pairs = (line.rsplit(" ", 1) for line in text.value.decode().splitlines())
        return {name: int(count) for name, count in pairs}

    def fail(self, function: str, code: int, after: int = 0, times: int = -1) -> None:
        arguments = ctypes.c_long(after), code, ctypes.c_long(times)
        self.library.stub_fail(function.encode(), *arguments)

    def clear(self) -> None:
        """Set the counts to zero."""
        self.library.stub_clear()

    def reset(self) -> None:
        """One device, not initialised, nothing on it."""
        self.library.stub_reset()

    def live(self, what: str) -> int:
        """Count what lives: device, pinned, streams, events, modules, graphs, contexts."""
        live = self.library.stub_live(what.encode())
        assert live >= 0, what
        return live

    def all_live(self) -> dict[str, int]:
        kinds = ("device", "pinned", "streams", "events", "modules", "graphs", "contexts")
        return {kind: live for kind in kinds if (live := self.live(kind))}

    def pushed(self) -> int:
        """Count the contexts that are pushed, on all threads together."""
        return self.library.stub_pushed()

    def set_devices(self, count: int) -> None:
        self.library.stub_set_devices(count)

    def set_driver_version(self, version: int) -> None:
        self.library.stub_set_driver_version(version)

    def set_memory(self, nbytes: int) -> None:
        self.library.stub_set_memory(nbytes)

    def set_capability(self, device: int, major: int, minor: int) -> None:
        self.library.stub_set_capability(device, major, minor)

    def lose(self, code: int) -> None:
        """Make every context answer `code`, as after a fault on the device."""
        self.library.stub_lose(code)
