# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""A build's findings, handed to the report."""

from __future__ import annotations
from pathlib import Path
from typing import Any


def write_story(build: Any, path: Path) -> None:
    path.write_text("tbd")
