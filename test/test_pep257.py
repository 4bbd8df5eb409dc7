# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Docstrings, as ament_pep257 asks, by ruff."""

from test_flake8 import ruff


def test_pep257():
    done = ruff("check", "--no-cache", "--select", "D", "av_compress", "launch")
    assert done.returncode == 0, done.stdout
