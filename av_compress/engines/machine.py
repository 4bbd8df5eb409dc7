# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What a plan's speed depends on beside the plan: card, driver, and on Jetson the power mode."""

from __future__ import annotations

import re
import shutil
import subprocess

from av_compress.engines.cuda import CudaError, Device, find_device
from av_compress.errors import MissingExtraError

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
    mode = power_mode()
    return {**described, "power_mode": mode} if mode else described


def power_mode() -> str:
    """Return the name of a Jetson's power mode, as its tool `nvpmodel` says it; else nothing."""
    tool = shutil.which("nvpmodel")
    if tool is None:
        return ""
    try:
        said = subprocess.run([tool, "-q"], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    found = _MODE.search(said.stdout)
    return found["name"] if found else ""
