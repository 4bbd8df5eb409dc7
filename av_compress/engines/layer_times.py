# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""How long each layer of a model takes, as its backend tells it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class LayerTime:
    """One layer of a model as a backend runs it: after its fusions, under its names.

    Attributes:
        name: the backend's name of the layer.
        kind: operator or kind of kernel; empty where the backend does not tell.
        reads: type of its first input, as the backend names it; empty where it does not tell.
        median_ms: median over the profiled runs, in milliseconds.

    """

    name: str
    kind: str
    reads: str
    median_ms: float


def layer_times(
    taken_ms: Mapping[str, Sequence[float]], kinds: Mapping[str, tuple[str, str]]
) -> tuple[LayerTime, ...]:
    """Summarise what layers took in each run.

    Args:
        taken_ms: layer -> milliseconds in each run, in the order in which layers run.
        kinds: layer -> kind and type that it reads; may lack some.

    """
    return tuple(
        LayerTime(name, *kinds.get(name, ("", "")), median(values))
        for name, values in taken_ms.items()
        if values
    )
