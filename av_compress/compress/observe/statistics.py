# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What observers find, so that it can be stored, and merged with what others found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx

from av_compress.compress.observe.calibrate import Calibrator, MagnitudeProbe
from av_compress.compress.observe.channels import (
    ROWS,
    ROWS_PER_SAMPLE,
    ChannelObserver,
    Channels,
    Reservoir,
)
from av_compress.compress.observe.observers import BINS, HistogramObserver
from av_compress.tensors import Array, Tensors

# Counts up with every change of what observers keep, or of how.
FORMAT = 4
# FP16 has a factor of 128 between the limit of its use and its overflow: the first few frames
# show which tensors come near.
PROBE_FRAMES = 8


@dataclass(frozen=True)
class Wanted:
    """What is to be observed of a model.

    Attributes:
        histograms: tensors whose values are counted.
        channels: tensors of which places are kept with all their channels, and the axis of these.
        magnitudes: over how many of the first frames the largest magnitude of every float tensor
            is wanted; 0 for none.

    """

    histograms: tuple[str, ...] = ()
    channels: tuple[Channels, ...] = ()
    magnitudes: int = 0

    def settings(self) -> dict[str, Any]:
        """Return all that decides what observers make of the same frames, as JSON values."""
        return {
            "format": FORMAT,
            "histograms": sorted(self.histograms),
            "bins": BINS,
            "channels": sorted(map(list, self.channels)),
            "places": ROWS,
            "places_per_frame": ROWS_PER_SAMPLE,
            "magnitude_frames": self.magnitudes,
        }


@dataclass(frozen=True)
class Statistics:
    """What was observed.

    Merging is exact: frames divided among observers in any way, and merged in any order, give the
    same statistics bit for bit.

    Attributes:
        histograms: tensor name -> its observer.
        channels: tensor name and axis of its channels -> places of it.
        magnitudes: tensor name -> largest magnitude.

    """

    histograms: Mapping[str, HistogramObserver] = field(default_factory=dict)
    channels: Mapping[Channels, Reservoir] = field(default_factory=dict)
    magnitudes: Mapping[str, float] = field(default_factory=dict)

    def merged(self, other: Statistics) -> Statistics:
        """Return these together with those of another run over the same model; both stay."""
        whole = Statistics.from_state(self.state())
        for name, observer in whole.histograms.items():
            observer.merge(other.histograms[name])
        for read, reservoir in whole.channels.items():
            reservoir.merge(other.channels[read])
        names = {**self.magnitudes, **other.magnitudes}
        magnitudes = {
            name: max(side.magnitudes.get(name, 0.0) for side in (self, other)) for name in names
        }
        return Statistics(whole.histograms, whole.channels, magnitudes)

    def state(self) -> dict[str, Array]:
        """Return everything as arrays, for storage; see `from_state`."""
        magnitudes = sorted(self.magnitudes)
        return {
            **_packed("histograms", {n: o.state() for n, o in self.histograms.items()}),
            **_packed("channels", {f"{a}:{n}": r.state() for (n, a), r in self.channels.items()}),
            "magnitudes/names": np.array(magnitudes, np.str_),
            "magnitudes/values": np.array([self.magnitudes[n] for n in magnitudes], np.float64),
        }

    @staticmethod
    def from_state(state: Mapping[str, Array]) -> Statistics:
        """Restore what `state` returned."""
        names, values = state["magnitudes/names"], state["magnitudes/values"]
        return Statistics(
            {n: HistogramObserver.from_state(s) for n, s in _unpacked("histograms", state)},
            dict(_reservoir(key, stored) for key, stored in _unpacked("channels", state)),
            {str(name): float(value) for name, value in zip(names, values)},
        )


class ObserverRun:
    """Runs a model over frames, in whatever order, and observes what is wanted."""

    def __init__(self, model: onnx.ModelProto, wanted: Wanted, threads: int = 0) -> None:
        """Prepare.

        Args:
            model: FP32 model with inferred shapes.
            wanted: what to observe.
            threads: of ONNX Runtime and of the observers; 0 takes every core.

        Raises:
            ModelError: a tensor is not in the model, or the model does not load.

        """
        self._probed = wanted.magnitudes
        self._calibrator = Calibrator(model, sorted(wanted.histograms), threads)
        self._channels = ChannelObserver(model, sorted(wanted.channels), threads)
        self._probe = MagnitudeProbe(model, threads) if wanted.magnitudes else None

    def observe(self, tensors: Tensors, position: int) -> None:
        """Run one frame.

        Args:
            tensors: input name -> array.
            position: the frame's place among all frames of the calibration, from 0.

        Raises:
            DataError: an input or an activation is not finite; the tensor is named.

        """
        self._calibrator.observe(tensors)
        self._channels.observe(tensors)
        if self._probe is not None and position < self._probed:
            self._probe.observe(tensors)

    @property
    def statistics(self) -> Statistics:
        """What was observed so far."""
        magnitudes = {} if self._probe is None else dict(self._probe.magnitudes)
        return Statistics(
            dict(self._calibrator.observers), dict(self._channels.reservoirs), magnitudes
        )


def _reservoir(key: str, state: Mapping[str, Array]) -> tuple[Channels, Reservoir]:
    axis, _, name = key.partition(":")
    return (name, int(axis)), Reservoir.from_state(name, state)


def _packed(kind: str, states: Mapping[str, Mapping[str, Array]]) -> dict[str, Array]:
    """Name the arrays of tensors by number: a tensor's own name may be any text."""
    arrays = {f"{kind}/names": np.array(sorted(states), np.str_)}
    for number, name in enumerate(sorted(states)):
        for part, array in states[name].items():
            arrays[f"{kind}/{number}/{part}"] = array
    return arrays


def _unpacked(kind: str, state: Mapping[str, Array]) -> Iterator[tuple[str, dict[str, Array]]]:
    for number, name in enumerate(state[f"{kind}/names"]):
        start = f"{kind}/{number}/"
        yield (
            str(name),
            {key.removeprefix(start): a for key, a in state.items() if key.startswith(start)},
        )
