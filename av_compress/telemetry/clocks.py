# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Clock jumps: bags that loop, simulations that are set back, system time that is corrected."""

from __future__ import annotations

import time
from collections.abc import Callable

from av_compress.telemetry.windows import NS_PER_S


class ClockWatch:
    """Tells when a clock jumps, measured against steady time. Not thread-safe."""

    def __init__(
        self, max_jump_s: float, steady_clock: Callable[[], int] = time.monotonic_ns
    ) -> None:
        """Start without having seen the clock.

        Args:
            max_jump_s: how far ahead of steady time the clock may run between two looks.
            steady_clock: steady time in nanoseconds.

        """
        self._max_jump_ns = int(max_jump_s * NS_PER_S)
        self._steady_clock = steady_clock
        self._last: tuple[int, int] | None = None

    def jumped(self, now_ns: int) -> bool:
        """Tell whether the clock went back, or too far ahead, since the last look at it."""
        steady = self._steady_clock()
        last, self._last = self._last, (now_ns, steady)
        if last is None:
            return False
        passed = now_ns - last[0]
        return passed < 0 or passed - (steady - last[1]) > self._max_jump_ns
