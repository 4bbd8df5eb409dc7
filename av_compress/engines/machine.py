# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What a plan's speed depends on beside the plan: card, driver, and on Jetson the power mode."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from av_compress.engines.cuda import CudaError, Device, find_device
from av_compress.errors import MissingExtraError

# Where the kernel's module says which it is, on Jetson too.
_MODULE = Path("/proc/driver/nvidia/version")
_DRIVER = re.compile(r"^NVRM version:.*?\s(?P<version>\d+(?:\.\d+)+)\s", re.MULTILINE)
_MODE = re.compile(r"NV Power Mode: *(?P<name>.+?) *$", re.MULTILINE)


def find_card(selector: int | str = 0) -> Device | None:
    """Return the card that a selector names; None where this machine shows none.

    Raises:
        UsageError: there are cards, but not this one.
        CudaError: there is a driver, and it fails.

    """
    try:
        return find_device(selector)
    except MissingExtraError:
        return None
    except CudaError as error:
        if error.reason in {"no_driver", "no_device"}:
            return None
        raise


def card_name(device: Device | None) -> str:
    """Name what a plan is bound to: cards of one name and capability run each other's plans."""
    return "" if device is None else f"{device.name} ({device.capability})"


def describe(device: Device | None) -> dict[str, str]:
    """Describe a card and what limits it, as records and reports say it; empty without a card."""
    if device is None:
        return {}
    described = {
        "gpu": device.name,
        "compute_capability": device.capability,
        "cuda": device.driver,
        "memory_mib": str(device.total_bytes >> 20),
    }
    found = {"driver": driver_version(), "power_mode": power_mode()}
    return {**described, **{key: value for key, value in found.items() if value}}


def driver_version(module: Path = _MODULE) -> str:
    """Return the version of NVIDIA's driver, as its module or `nvidia-smi` says it; else nothing.

    Args:
        module: the file in which the kernel's module says it.

    """
    try:
        found = _DRIVER.search(module.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        found = None
    if found is not None:
        return found["version"]
    lines = _said("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader").split()
    # The same for every card; without a driver it is a sentence.
    return lines[0] if lines and re.fullmatch(r"[\d.]+", lines[0]) else ""


def power_mode() -> str:
    """Return the name of a Jetson's power mode, as its tool `nvpmodel` says it; else nothing."""
    found = _MODE.search(_said("nvpmodel", "-q"))
    return found["name"] if found else ""


def _said(name: str, *arguments: str) -> str:
    """Return what a tool prints; nothing where it is not there or fails."""
    tool = shutil.which(name)
    if tool is None:
        return ""
    try:
        command = [tool, *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=10, check=True
        ).stdout
    except (OSError, ValueError, subprocess.SubprocessError):
        return ""
