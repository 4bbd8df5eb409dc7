# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Style, as ament_flake8 asks, by ruff."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def ruff(*arguments: str) -> subprocess.CompletedProcess[str]:
    pytest.importorskip("ruff", reason="ruff is not installed (extra: dev)")
    command = [sys.executable, "-m", "ruff", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_flake8():
    done = ruff("check", "--no-cache", ".")
    assert done.returncode == 0, done.stdout


def test_format():
    done = ruff("format", "--no-cache", "--check", ".")
    assert done.returncode == 0, done.stdout
