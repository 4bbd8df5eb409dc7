# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""How full the batches of a node are."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from av_compress.telemetry.monitor import Level, Report
from av_compress.telemetry.windows import Generations


@dataclass
class _Sizes:
    """Batches by how many frames they held."""

    counts: dict[int, int] = field(default_factory=dict)

    def clear(self) -> None:
        self.counts.clear()


class BatchMonitor:
    """Counts batches by their size. Thread-safe."""

    def __init__(
        self,
        inputs: int,
        horizon_s: float = 10.0,
        steady_clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Start without batches.

        Args:
            inputs: how many frames a full batch holds, at least 1.
            horizon_s: how far back the figures reach.
            steady_clock: steady time in nanoseconds.

        """
        self._inputs = inputs
        self._lock = threading.Lock()
        self._recent = Generations(_Sizes, horizon_s, steady_clock)
        self._batches = 0
        self._frames = 0

    def served(self, frames: int) -> None:
        """Count a batch in which so many frames were served."""
        with self._lock:
            counts = self._recent.current().counts
            counts[frames] = counts.get(frames, 0) + 1
            self._batches += 1
            self._frames += frames

    def forget(self) -> None:
        """Forget the recent past, as when serving begins anew; totals stay."""
        with self._lock:
            self._recent.clear()

    def report(self) -> Report:
        """Return totals, and how large recent batches were; nothing of it is right or wrong."""
        with self._lock:
            sizes = dict.fromkeys(range(self._inputs + 1), 0)
            for generation in self._recent.recent():
                for size, count in generation.counts.items():
                    sizes[size] += count
            batches, frames = sum(sizes.values()), sum(k * n for k, n in sizes.items())
            mean = frames / batches if batches else 0.0
            figures: dict[str, int | float] = {
                "batches": self._batches,
                "frames": self._frames,
                "batch_size_mean": mean,
                "batch_fill": mean / self._inputs,
                **{f"batches_of_{size}": count for size, count in sizes.items()},
            }
            text = f"{mean:.1f} of {self._inputs} frames in a batch" if batches else "no batch yet"
            return Report(Level.OK, text, figures)
