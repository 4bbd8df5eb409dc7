# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What roles have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from av_compress.nodes.motion import Listener


class OneSensor:
    """The part of a role whose node serves one sensor, frame by frame; see `runtime.Role`."""

    def slots(self, parameters: Mapping[str, Any]) -> Sequence[str]:
        """Return the one sensor, which needs no name."""
        return ("",)

    def channel(self, slot: str, parameters: Mapping[str, Any]) -> str:
        """Return that each sensor has results of its own."""
        return slot

    def window_s(self, parameters: Mapping[str, Any]) -> float:
        """Return that there is nobody to wait for."""
        return 0.0


@dataclass(frozen=True)
class Gathered:
    """What is served as one.

    Attributes:
        slots: whose messages are in it.
        frame: as the pipeline takes it.
        notes: what about -> why less is in it than could be.

    """

    slots: Sequence[str]
    frame: Any
    notes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Gathering:
    """What became of frames that were read together.

    Attributes:
        frames: what is to be served.
        refused: slot -> why its frame is not.

    """

    frames: Sequence[Gathered]
    refused: Mapping[str, Exception]


class EachAlone:
    """The part of a reader that hears nothing else, and leaves every frame as it is."""

    def gather(self, frames: Mapping[str, Any]) -> Gathering:
        """Return each slot's frame for itself."""
        return each_alone(frames)

    def forget(self) -> None:
        """Do nothing: no frame has to do with another."""

    def listeners(self) -> Sequence[Listener]:
        """Return that it hears nothing else."""
        return ()


def each_alone(frames: Mapping[str, Any]) -> Gathering:
    """Return each slot's frame for itself."""
    return Gathering([Gathered((slot,), frame) for slot, frame in frames.items()], {})
