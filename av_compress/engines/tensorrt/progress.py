# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Progress of a builder, and how it is stopped."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tensorrt_api import IBuilderConfig, TensorRT

# Phase, steps done, steps of it; returns whether to go on.
Progress = Callable[[str, int, int], bool]


def watch(trt: TensorRT, config: IBuilderConfig, progress: Progress | None) -> Any:
    """Let the builder tell of its progress; None where it cannot or nobody asks."""
    if progress is None or not hasattr(trt, "IProgressMonitor"):
        return None
    go_on: Progress = progress
    # An exception cannot pass through the builder: it is told to stop, and its caller asks why.

    class Monitor(trt.IProgressMonitor):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.stopped = False
            self._steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str, num_steps: int) -> None:
            self._steps[phase_name] = num_steps

        def step_complete(self, phase_name: str, step: int) -> bool:
            try:
                self.stopped |= not go_on(phase_name, step + 1, self._steps.get(phase_name, 0))
            except KeyboardInterrupt:
                self.stopped = True
            return not self.stopped

        def phase_finish(self, phase_name: str) -> None:
            self._steps.pop(phase_name, None)

    monitor = Monitor()
    config.progress_monitor = monitor
    return monitor
