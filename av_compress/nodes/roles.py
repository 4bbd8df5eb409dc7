# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What roles have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class OneSensor:
    """The part of a role whose node serves one sensor, frame by frame; see `runtime.Role`."""

    def slots(self, parameters: Mapping[str, Any]) -> Sequence[str]:
        """Return the one sensor, which needs no name."""
        return ("",)

    def window_s(self, parameters: Mapping[str, Any]) -> float:
        """Return that there is nobody to wait for."""
        return 0.0
