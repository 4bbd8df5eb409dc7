#!/usr/bin/env python3
# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Build PyCUDA into the active virtual environment, without a CUDA toolkit and without a card.

PyPI has PyCUDA as source only. This script lays out a toolkit of links to the CUDA wheels that
the extra `dev` installs, links against an empty library with the driver's name, and keeps the
wheel for the next environment. The result is the real PyCUDA: it loads wherever a driver, or the
tests' stub of one, is found. Where a PyCUDA is installed already, it does nothing.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

VERSION = "2026.1"
SITE = Path(sysconfig.get_paths()["purelib"])
TOOLKIT = SITE / "nvidia" / "cu13"
# What PyCUDA is linked against, by the names its set-up asks for.
HEADERS = ("cuda.h", "cudaProfiler.h", "curand.h", "crt/host_defines.h")
LIBRARIES = {"libcudart.so": "libcudart.so.*", "libcurand.so": "libcurand.so.*"}


def main() -> int:
    reason = why_not()
    if reason:
        print(f"PyCUDA is not built: {reason}")
        return 0
    wheel = kept_wheel()
    if wheel is None:
        with tempfile.TemporaryDirectory() as folder:
            built = build(Path(folder))
            if built is None:
                return 0
            wheel = keep(built)
    pip("install", "--quiet", str(wheel))
    print(f"PyCUDA {VERSION} is installed from {wheel.name}")
    return 0


def why_not() -> str | None:
    """Return why nothing is to be built, or nothing."""
    try:
        return f"{importlib.metadata.version('pycuda')} is installed already"
    except importlib.metadata.PackageNotFoundError:
        pass
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        return f"the CUDA wheels of the extra dev are for x86-64 Linux, not {platform.machine()}"
    if sys.prefix == sys.base_prefix:
        return "not in a virtual environment"
    absent = [name for name in HEADERS if not (TOOLKIT / "include" / name).exists()]
    if absent:
        return f"the CUDA wheels of the extra dev are not installed: there is no {absent[0]}"
    if compiler() is None:
        return "there is no C++ compiler; install it: apt-get install g++"
    return None


def compiler() -> str | None:
    return shutil.which(os.environ.get("CC", "gcc"))


def cache() -> Path:
    """Return where wheels are kept: a build takes minutes, and depends on nothing but these."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    runtime = importlib.metadata.version("nvidia-cuda-runtime")
    tag = f"cp{sys.version_info.major}{sys.version_info.minor}"
    return Path(base) / "av_compress" / "wheels" / f"pycuda-{VERSION}-cuda-{runtime}-{tag}"


def kept_wheel() -> Path | None:
    return next(iter(sorted(cache().glob("*.whl"))), None)


def keep(wheel: Path) -> Path:
    folder = cache()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        staged = Path(shutil.copy2(wheel, folder / f".{os.getpid()}.{wheel.name}"))
        return staged.replace(folder / wheel.name)
    except OSError as error:
        # Without a home folder to write to, the next environment builds anew.
        print(f"the wheel is not kept: {error}")
        kept = SITE.parent / wheel.name
        return Path(shutil.copy2(wheel, kept))


def build(work: Path) -> Path | None:
    """Return the wheel; nothing where the source is not to be had. A failed build is an error."""
    root = lay_out(work / "cuda")
    try:
        # A wheel of somebody else's would be linked against another toolkit.
        pip("download", "--quiet", "--no-deps", "--no-binary", "pycuda", "--dest", str(work),
            f"pycuda=={VERSION}")  # fmt: skip
    except subprocess.CalledProcessError as error:
        print(f"PyCUDA is not built: its source is not to be had: {last_line(error)}")
        return None
    (source,) = work.glob("pycuda-*.tar.gz")
    environment = os.environ | {
        "CUDA_ROOT": str(root),
        "PATH": f"{root / 'bin'}{os.pathsep}{os.environ['PATH']}",
        # Boost's headers warn thousands of times.
        "CXXFLAGS": f"-I{root / 'include'} -O1 -w",
        "LDFLAGS": f"-L{root / 'lib64'}",
    }
    try:
        pip("wheel", "--no-deps", "--no-cache-dir", "--wheel-dir", str(work / "wheel"),
            str(source), environment=environment)  # fmt: skip
    except subprocess.CalledProcessError as error:
        lines = (error.stdout + error.stderr).splitlines()
        raise SystemExit("\n".join(["PyCUDA does not build:", *lines[-30:]])) from error
    (wheel,) = (work / "wheel").glob("*.whl")
    return wheel


def lay_out(root: Path) -> Path:
    """Make a toolkit of links: include, lib64 with unversioned names, bin/nvcc."""
    (root / "lib64").mkdir(parents=True)
    (root / "include").symlink_to(TOOLKIT / "include")
    (root / "bin").symlink_to(TOOLKIT / "bin")
    for name, pattern in LIBRARIES.items():
        found = next(iter(sorted((TOOLKIT / "lib").glob(pattern))), None)
        if found is None:
            raise SystemExit(f"PyCUDA does not build: there is no {pattern} in {TOOLKIT / 'lib'}")
        (root / "lib64" / name).symlink_to(found)
    empty = root / "empty.c"
    empty.write_text("")
    # The driver itself comes with the card's machine: here its name is enough.
    command = [compiler(), "-shared", "-Wl,-soname,libcuda.so.1", str(empty), "-o"]
    subprocess.run([*command, str(root / "lib64" / "libcuda.so")], check=True)
    return root


def last_line(error: subprocess.CalledProcessError) -> str:
    lines = error.stderr.strip().splitlines()
    return lines[-1] if lines else str(error)


def pip(*arguments: str, environment: dict[str, str] | None = None) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    subprocess.run(command, env=environment, check=True, capture_output=True, text=True)


if __name__ == "__main__":
    sys.exit(main())
