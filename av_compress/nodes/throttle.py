# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What is said again and again, said from time to time."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable

# How often one fault of one input is logged.
QUIET_S = 1.0


class Throttle:
    """Lets each subject pass once in a while. Not thread-safe.

    A logger's own throttle is one for all that a line of code says: what one input does wrong
    would hide what another does. Time is steady, which simulated time may not follow.
    """

    def __init__(self, quiet_s: float, steady_clock: Callable[[], float] = time.monotonic) -> None:
        """Start with nothing said.

        Args:
            quiet_s: how long a subject is quiet after it was let pass.
            steady_clock: steady time in seconds.

        """
        self._quiet_s, self._steady_clock = quiet_s, steady_clock
        self._until: dict[Hashable, float] = {}

    def passes(self, subject: Hashable) -> bool:
        """Tell whether a subject may be spoken of now; then it is quiet for a while."""
        now = self._steady_clock()
        if now < self._until.get(subject, now):
            return False
        self._until[subject] = now + self._quiet_s
        return True
