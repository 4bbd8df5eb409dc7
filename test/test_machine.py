# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What is said of a machine: its driver's version and power mode, as its own tools say them."""

from __future__ import annotations

from pathlib import Path

import pytest

from av_compress.engines.machine import driver_version, power_mode

CLOSED = (
    "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023\n"
    "GCC version:  gcc version 11.4.0 (Ubuntu 11.4.0-1ubuntu1~22.04)\n"
)
OPEN = (
    "NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  540.4.0  Release Build  "
    "(buildbrain@mobile-u64-6422-d7000)  Tue Jan  7 17:35:12 PST 2025\n"
    "GCC version:  gcc version 11.4.0\n"
)


@pytest.fixture
def tools(tmp_path: Path, monkeypatch) -> Path:
    """Return a folder in which alone tools are looked for."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def tool(folder: Path, name: str, text: str, code: int = 0) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{text}'\nexit {code}\n")
    path.chmod(0o755)


@pytest.mark.parametrize(("text", "version"), [(CLOSED, "535.104.05"), (OPEN, "540.4.0")])
def test_the_kernels_module_says_the_drivers_version(tools: Path, text: str, version: str):
    tool(tools, "nvidia-smi", "1.2")
    module = tools / "version"
    module.write_text(text)
    assert driver_version(module) == version


@pytest.mark.parametrize(
    ("said", "code", "version"),
    [
        ("580.95.05\n580.95.05", 0, "580.95.05"),
        ("580.95.05", 9, ""),
        ("NVIDIA-SMI has failed because it could not communicate", 0, ""),
        ("", 0, ""),
    ],
)
def test_else_nvidia_smi_does(tools: Path, said: str, code: int, version: str):
    module = tools / "version"
    tool(tools, "nvidia-smi", said, code)
    assert driver_version(module) == version
    module.write_text("something else\n")
    assert driver_version(module) == version


def test_without_either_nothing_is_said(tools: Path):
    assert driver_version(tools / "version") == ""
    assert power_mode() == ""
    tool(tools, "nvpmodel", "NV Power Mode: MAXN_SUPER\n2")
    assert power_mode() == "MAXN_SUPER"
