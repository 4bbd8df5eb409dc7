# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Where what can be computed again is kept."""

from __future__ import annotations

import os
from pathlib import Path

from av_compress.errors import UsageError

VARIABLE = "AV_COMPRESS_CACHE"


def cache_folder() -> Path:
    """Return where what can be computed again is kept: $AV_COMPRESS_CACHE or ~/.cache/av_compress.

    Raises:
        UsageError: there is no home folder and the variable is not set.

    """
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named)
    try:
        return Path.home() / ".cache" / "av_compress"
    except RuntimeError as error:
        raise UsageError(
            f"there is no home folder for what is kept; set {VARIABLE}, or build with --no-cache"
        ) from error
