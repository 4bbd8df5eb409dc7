# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What every benchmark shares: result files, ratios, and the memory of a process."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

from av_compress.fileio import canonical_json, write_text

RESULTS = Path(__file__).parent / "results"
PACKAGES = (
    "av_compress",
    "numpy",
    "onnx",
    "onnx-ir",
    "onnxruntime",
    "onnxslim",
    "opencv-python-headless",
)


def save_results(name: str, figures: Mapping[str, Any], packages: Sequence[str] = ()) -> Path:
    """Write `results/NAME.json`: command, versions, machine and figures.

    Args:
        name: of the benchmark.
        figures: what was measured; JSON values, units in the keys.
        packages: further packages whose version matters.

    """
    content = {
        "benchmark": name,
        "command": shlex.join(["python", *_relative(sys.argv)]),
        "versions": {"python": platform.python_version(), **_versions((*PACKAGES, *packages))},
        "machine": machine(),
        "figures": dict(figures),
    }
    path = RESULTS / f"{name}.json"
    write_text(path, canonical_json(content))
    print(f"wrote {path.relative_to(Path(__file__).parent.parent)}")
    return path


def machine() -> dict[str, Any]:
    """Describe the processor and memory, without naming the machine."""
    info = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    model = next((line.split(":", 1)[1].strip() for line in info if "model name" in line), "?")
    flags = next((line.split(":", 1)[1].split() for line in info if line.startswith("flags")), [])
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "avx2": "avx2" in flags,
        "vnni": any("vnni" in flag for flag in flags),
        "memory_gib": round(pages / 2**30, 1),
        "system": platform.system(),
    }


def interleaved_medians(
    runs: Mapping[str, Callable[[], float]], rounds: int, warm_up: int = 3
) -> dict[str, float]:
    """Run every contestant in turn, so that a machine whose speed drifts is fair to all.

    Args:
        runs: name -> does one run and returns what it took.
        rounds: counted runs of each.
        warm_up: runs that are not counted.

    """
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(warm_up + rounds):
        for name, run in runs.items():
            value = run()
            if number >= warm_up:
                taken[name].append(value)
    return {name: median(values) for name, values in taken.items()}


def peak_memory_mib() -> float:
    """Return this process's peak resident memory in MiB."""
    # Not getrusage: its peak begins with that of the process that started this one.
    status = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024


def _versions(packages: Sequence[str]) -> dict[str, str]:
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _relative(arguments: Sequence[str]) -> list[str]:
    """Return arguments without the folders of this machine."""
    root = Path(__file__).parent.parent
    shown = []
    for argument in arguments:
        path = Path(argument)
        if not path.is_absolute():
            shown.append(argument)
        elif path.is_relative_to(root):
            shown.append(str(path.relative_to(root)))
        else:
            shown.append(f".../{path.name}")
    return shown
