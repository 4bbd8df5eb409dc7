# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""How a plan is compiled: for which device, and with what."""

from __future__ import annotations

import re
from dataclasses import dataclass

from av_compress.errors import UsageError

# Smallest, usual and largest extent of the batch.
Extents = tuple[int, int, int]

_CAPABILITY = re.compile(r"\d{1,2}\.\d")
_LEVELS = range(6)
# What TensorRT takes for a size.
_MOST_BYTES = 2**63 - 1


@dataclass(frozen=True)
class CompileOptions:
    """How a plan is compiled.

    Attributes:
        capabilities: compute capabilities that the plan is for (`8.9`), ascending and each once,
            however they were given; empty: what the backend takes for its default, the card in
            this machine or (RTX) all from 8.0 on.
        workspace: most bytes of scratch memory; None leaves it to TensorRT.
        optimization_level: 0 (fast compilation) to 5 (fast plan); None leaves it to TensorRT.
        batch: smallest, usual and largest batch, where the model leaves it open.
        dla_core: DLA core that runs what it can, the GPU the rest; None: the GPU alone.
        flags: builder flags by TensorRT's names, e.g. `SPARSE_WEIGHTS`, `VERSION_COMPATIBLE`; in
            the alphabet's order and each once, however they were given.
        hardware_compatibility: TensorRT's name of a level, e.g. `AMPERE_PLUS`; None: for the card
            that it is compiled on alone.

    Raises:
        UsageError: a value is out of its range.

    """

    capabilities: tuple[str, ...] = ()
    workspace: int | None = None
    optimization_level: int | None = None
    batch: Extents = (1, 1, 1)
    dla_core: int | None = None
    flags: tuple[str, ...] = ()
    hardware_compatibility: str | None = None

    def __post_init__(self) -> None:
        """Check the ranges, and let what means the same be the same."""
        for capability in self.capabilities:
            if not _CAPABILITY.fullmatch(capability):
                raise UsageError(f"compute capability {capability!r} is not of the form 8.9")
        if self.workspace is not None and self.workspace <= 0:
            raise UsageError(f"workspace {self.workspace} is not positive")
        if self.workspace is not None and self.workspace > _MOST_BYTES:
            raise UsageError(f"workspace {self.workspace} is more than any device's memory")
        if self.optimization_level is not None and self.optimization_level not in _LEVELS:
            raise UsageError(f"optimisation level {self.optimization_level} is not 0 to 5")
        if self.dla_core is not None and self.dla_core < 0:
            raise UsageError(f"DLA core {self.dla_core} is negative")
        if not 1 <= self.batch[0] <= self.batch[1] <= self.batch[2]:
            raise UsageError(f"batch {self.batch} does not ascend from at least 1")
        # Frozen for its users alone.
        object.__setattr__(self, "capabilities", tuple(sorted(set(self.capabilities), key=_parts)))
        object.__setattr__(self, "flags", tuple(sorted(set(self.flags))))


def _parts(capability: str) -> tuple[int, ...]:
    return tuple(int(part) for part in capability.split("."))
