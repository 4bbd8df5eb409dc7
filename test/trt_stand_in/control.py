# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What a test sets of the stand-in's card, lets fail, and counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Card:
    """A card: its name, and its compute capability."""

    name: str = "Stand-in A"
    capability: tuple[int, int] = (8, 9)

    @property
    def text(self) -> str:
        return f"{self.capability[0]}.{self.capability[1]}"


@dataclass
class Control:
    """A module's card, and what is to happen on it.

    Attributes:
        card: the card; None: a machine without one.
        dla_cores: DLA cores that it has.
        memory_limit: most bytes that an execution context may take; None: no limit.
        fast_fp16, fast_int8: what `platform_has_fast_*` says.
        failures: member (`Builder.build_serialized_network`) -> message. It returns None or
            False, and the message is logged.
        failures_of_work: messages; each lets one run on the device fail, see `faults`.
        is_memory: tells whether all of (address, bytes) is memory that the device may use; asked
            for each tensor when a run is enqueued and when it runs. None: all is.
        live: behaviours that live, by class.
        calls: how often each member was called.
        faults: what would have been undefined on a device: memory or a context freed under a run,
            one context run on two streams at once. Nobody can raise in a stream: look here.

    """

    card: Card | None = field(default_factory=Card)
    dla_cores: int = 0
    memory_limit: int | None = None
    fast_fp16: bool = True
    fast_int8: bool = True
    failures: dict[str, str] = field(default_factory=dict)
    failures_of_work: list[str] = field(default_factory=list)
    is_memory: Callable[[int, int], bool] | None = None
    live: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
