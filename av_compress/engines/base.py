# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The engine protocol: a loaded model that runs tensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from av_compress.tensors import Array, Tensors, TensorSpec


@dataclass(frozen=True)
class RunTiming:
    """Where one run's time went, in nanoseconds; 0 for copies a backend does not make."""

    h2d_ns: int
    execute_ns: int
    d2h_ns: int


@dataclass(frozen=True)
class RunResult:
    """Outputs of one run.

    Attributes:
        outputs: output name -> array. The arrays stay valid until the engine's next run.
        timing: host-to-device, execution and device-to-host times.

    """

    outputs: dict[str, Array]
    timing: RunTiming


class Engine(Protocol):
    """A loaded model. Not thread-safe: one owner thread runs it and closes it.

    Attributes:
        inputs: what `run` wants, in graph order.
        outputs: what `run` returns, in graph order.
        description: backend, provider and precision in a few words, for logs and diagnostics.

    An engine whose first axes are open may have an attribute `max_batch`, the largest extent that
    it takes; without it, what the bundle was built for holds.

    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    description: str

    def run(self, tensors: Tensors) -> RunResult:
        """Run once.

        Raises:
            EngineError: an input is missing or does not fit its spec, or the backend fails.

        """
        ...

    def close(self) -> None:
        """Free the model and its memory; calling it again does nothing."""
        ...
