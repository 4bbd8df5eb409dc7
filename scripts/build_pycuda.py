#!/usr/bin/env python3
# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Build PyCUDA into the active virtual environment, without a CUDA toolkit and without a card.

PyPI has PyCUDA as source only. This script compiles it with the headers of the CUDA wheels that
the extra `dev` installs, links against a library that has the driver's names and does nothing,
and keeps the wheel for the next environment. The result is the real PyCUDA: it loads wherever a
driver, or the tests' stub of one, is found. Where a PyCUDA is installed already, it does nothing.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

VERSION = "2026.1"
SITE = Path(sysconfig.get_paths()["purelib"])
TOOLKIT = SITE / "nvidia" / "cu13"
# What PyCUDA is compiled with; of libraries it needs the driver alone.
HEADERS = ("cuda.h", "cudaProfiler.h", "crt/host_defines.h")
# Its own configuration file. With CURAND, it would load on no machine that lacks CUDA's libraries.
CONFIGURATION = """\
CUDA_ROOT = {root!r}
CUDA_INC_DIR = [{include!r}]
CUDADRV_LIB_DIR = [{root!r}]
CUDA_ENABLE_CURAND = False
CXXFLAGS = ["-O1", "-w"]
"""


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
    try:
        # A wheel of somebody else's would be linked against another toolkit.
        pip("download", "--quiet", "--no-deps", "--no-binary", "pycuda", "--dest", str(work),
            f"pycuda=={VERSION}")  # fmt: skip
    except subprocess.CalledProcessError as error:
        print(f"PyCUDA is not built: its source is not to be had: {last_line(error)}")
        return None
    (archive,) = work.glob("pycuda-*.tar.gz")
    shutil.unpack_archive(archive, work)
    (source,) = (path for path in work.glob("pycuda-*") if path.is_dir())
    root = stand_in(work)
    text = CONFIGURATION.format(root=str(root), include=str(TOOLKIT / "include"))
    (source / "siteconf.py").write_text(text)
    try:
        pip("wheel", "--no-deps", "--wheel-dir", str(work / "wheel"), str(source))
    except subprocess.CalledProcessError as error:
        lines = (error.stdout + error.stderr).splitlines()
        raise SystemExit("\n".join(["PyCUDA does not build:", *lines[-30:]])) from error
    (wheel,) = (work / "wheel").glob("*.whl")
    return wheel


def stand_in(work: Path) -> Path:
    """Make a library to link against: the driver itself comes with the card's machine.

    It has every name of the header, since linkers forget a library that gives them nothing.
    """
    root = work / "cuda"
    root.mkdir()
    names = sorted(set(re.findall(r"\bcu[A-Z]\w*", (TOOLKIT / "include" / "cuda.h").read_text())))
    source = root / "names.c"
    source.write_text("".join(f"void {name}(void) {{}}\n" for name in names))
    command = [compiler(), "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", str(source), "-o"]
    subprocess.run([*command, str(root / "libcuda.so")], check=True)
    return root


def last_line(error: subprocess.CalledProcessError) -> str:
    lines = error.stderr.strip().splitlines()
    return lines[-1] if lines else str(error)


def pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    subprocess.run(command, check=True, capture_output=True, text=True)


if __name__ == "__main__":
    sys.exit(main())
