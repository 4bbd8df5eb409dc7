# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Time for telemetry tests."""

from av_compress.telemetry.windows import NS_PER_S


class Clock:
    """Steady time that a test moves by hand."""

    def __init__(self) -> None:
        self.now_ns = 1_000

    def __call__(self) -> int:
        return self.now_ns

    def advance(self, seconds: float) -> None:
        self.now_ns += int(seconds * NS_PER_S)
