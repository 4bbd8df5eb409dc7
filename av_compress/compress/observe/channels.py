# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""How much the channels of activations differ: ranges and a few places, in fixed memory."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnx

from av_compress.compress.observe.calibrate import watching_session
from av_compress.errors import DataError
from av_compress.tensors import Array, Tensors

ROWS = 1024
ROWS_PER_SAMPLE = 256
# Two places are alike where no channel differs by much more than its range divided by this: less
# than any step that 8 bits have for it.
FINENESS = 4096
# Where a larger share of a sample's places is alike, one of them counts.
EMPTY_SHARE = 0.5
# So many places for each that is wanted tell what share it is.
LOOK_AHEAD = 4
_ROWS_AT_A_TIME = 1 << 14
# Samples are divided into so many groups, by their numbers: what one group shows can be held
# against what is made of the others.
GROUPS = 8

# A tensor, and which of its axes holds the channels: whoever reads it says so.
Channels = tuple[str, int]
Tickets = npt.NDArray[np.uint64]
Floats = npt.NDArray[np.float64]


class Reservoir:
    """Keeps random places of a tensor over samples, every place as likely as any other.

    Where most of a sample's places are alike, one of these counts. The plane of a point cloud is
    empty but for a few cells, and what biases and activations make of an empty cell is the same
    everywhere: such cells would leave no room for those that hold objects.

    The range of each channel is kept over all places, for each group of samples.

    Every place draws a number from its tensor's name, its sample and its position; the places
    with the smallest numbers stay. What is kept depends neither on the order of the samples nor on
    how they were divided among reservoirs that are merged later.

    Source: Cohen and Kaplan, Summarizing Data Using Bottom-k Sketches, PODC 2007.
    """

    def __init__(self, name: str, rows: int = ROWS, per_sample: int = ROWS_PER_SAMPLE) -> None:
        """Keep at most `rows` places of tensor `name`, at most `per_sample` of a sample."""
        self._seed = zlib.crc32(name.encode())
        self._rows, self._per_sample = rows, per_sample
        # Number drawn, sample, position: whoever draws the same number is still told apart.
        self._tickets: Tickets = np.zeros((0, 3), np.uint64)
        self._kept: Array | None = None
        self._limits: Array | None = None

    @property
    def limits(self) -> Array:
        """Smallest and largest value of each channel over all places of each group of samples.

        float32 [GROUPS, 2, channels]; infinite and minus infinite for a group without a sample.
        """
        return _no_limits(0) if self._limits is None else self._limits

    @property
    def groups(self) -> npt.NDArray[np.int64]:
        """Which group of samples each of `values` comes from."""
        samples = self._tickets[_ranked(self._tickets), 1]
        return np.asarray(samples % np.uint64(GROUPS), np.int64)

    @property
    def values(self) -> Array:
        """What was kept, float32 [places, channels], in the order of the numbers drawn."""
        if self._kept is None:
            return np.zeros((0, 0), np.float32)
        return self._kept[_ranked(self._tickets)]

    def observe(self, array: Array, channel_axis: int, sample: int) -> None:
        """Take some places of one sample's tensor.

        Args:
            array: the tensor.
            channel_axis: which of its axes holds the channels.
            sample: 64-bit number of the sample, see `sample_number`.

        """
        moved = np.moveaxis(array, channel_axis, -1)
        places = moved.reshape(-1, moved.shape[-1])
        if not len(places):
            return
        limits = _no_limits(places.shape[1])
        limits[sample % GROUPS] = places.min(axis=0), places.max(axis=0)
        self._widen(limits)
        drawn = np.random.PCG64(np.random.SeedSequence([self._seed, sample])).random_raw(
            len(places)
        )
        chosen = _drawn_places(places, drawn, self._per_sample)
        tickets = np.empty((len(chosen), 3), np.uint64)
        tickets[:, 0], tickets[:, 1], tickets[:, 2] = drawn[chosen], sample, chosen
        self._admit(tickets, places[chosen])

    def merge(self, other: Reservoir) -> None:
        """Take in what another reservoir of the same tensor has kept."""
        if other._kept is not None:
            self._widen(other.limits)
            self._admit(other._tickets, other._kept[: len(other._tickets)])

    def state(self) -> dict[str, Array]:
        """Return what was kept as arrays, for storage; see `from_state`."""
        return {
            "tickets": self._tickets[_ranked(self._tickets)],
            "values": self.values,
            "limits": self.limits,
        }

    @staticmethod
    def from_state(name: str, state: Mapping[str, Array]) -> Reservoir:
        """Restore what `state` of the reservoir of tensor `name` returned."""
        reservoir = Reservoir(name)
        if len(state["tickets"]):
            reservoir._widen(state["limits"])
            reservoir._admit(state["tickets"].astype(np.uint64), state["values"])
        return reservoir

    def _widen(self, limits: Array) -> None:
        if self._limits is None:
            self._limits = limits.astype(np.float32)
        else:
            self._limits[:, 0] = np.minimum(self._limits[:, 0], limits[:, 0])
            self._limits[:, 1] = np.maximum(self._limits[:, 1], limits[:, 1])

    def _admit(self, tickets: Tickets, rows: Array) -> None:
        """Let newcomers take the free rows, and those of the kept that have to leave."""
        if self._kept is None:
            self._kept = np.empty((self._rows, rows.shape[1]), np.float32)
        filled = len(self._tickets)
        everyone = np.concatenate((self._tickets, tickets))
        staying = np.zeros(len(everyone), bool)
        staying[_ranked(everyone)[: self._rows]] = True
        entering = np.flatnonzero(staying[filled:])
        slots = np.flatnonzero(~staying[:filled])
        free = np.arange(filled, filled + len(entering) - len(slots))
        slots = np.concatenate((slots, free))
        self._kept[slots] = rows[entering]
        held = np.empty((int(staying.sum()), 3), np.uint64)
        held[:filled] = self._tickets
        held[slots] = tickets[entering]
        self._tickets = held


def sample_number(tensors: Tensors) -> int:
    """Return a 64-bit number that a sample gets from its content, in whatever process."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(tensors[name]).data)
    return int.from_bytes(digest.digest()[:8], "little")


class ChannelObserver:
    """Runs a model and keeps places of some of its tensors, with all of their channels."""

    def __init__(
        self, model: onnx.ModelProto, tensors: Sequence[Channels], threads: int = 0
    ) -> None:
        """Prepare.

        Args:
            model: prepared FP32 model.
            tensors: float tensors, graph inputs or outputs of nodes, with their channels' axis.
            threads: of ONNX Runtime; 0 takes every core.

        Raises:
            ModelError: the model does not load.

        """
        inputs = {value.name for value in model.graph.input}
        self._inner = sorted({name for name, _ in tensors} - inputs)
        self._reservoirs = {(name, axis): Reservoir(name) for name, axis in tensors}
        self._session = watching_session(model, self._inner, threads) if self._inner else None

    @property
    def reservoirs(self) -> Mapping[Channels, Reservoir]:
        """Tensor name and axis -> what was kept of it."""
        return self._reservoirs

    def observe(self, tensors: Tensors) -> None:
        """Run one sample.

        Raises:
            DataError: an activation is not finite; the tensor is named.

        """
        if not self._reservoirs:
            return
        values: dict[str, Array] = dict(tensors)
        if self._session is not None:
            values.update(zip(self._inner, self._session.run(self._inner, dict(tensors))))
        number = sample_number(tensors)
        for (name, axis), reservoir in self._reservoirs.items():
            if not np.isfinite(values[name]).all():
                raise DataError(
                    f"tensor '{name}' holds values that are not finite (NaN or infinity)"
                )
            reservoir.observe(values[name], channel_axis=axis, sample=number)


def _no_limits(channels: int) -> Array:
    limits = np.full((GROUPS, 2, channels), np.inf, np.float32)
    limits[:, 1] = -np.inf
    return limits


def _drawn_places(places: Array, drawn: Tickets, count: int) -> npt.NDArray[np.intp]:
    """Return the places with the smallest numbers; of those that most are like, the first alone.

    Args:
        places: float32 [places, channels], one or more.
        drawn: a number for each.
        count: how many to return, where there are as many.

    """
    ahead = min(LOOK_AHEAD * count, len(places))
    some = np.argpartition(drawn, ahead - 1)[:ahead]
    if np.count_nonzero(_commonest(places[some])) > EMPTY_SHARE * ahead:
        empty = _commonest(places)
        first = np.flatnonzero(empty)[drawn[empty].argmin()]
        some = np.append(np.flatnonzero(~empty), first)
    return np.asarray(some[np.argsort(drawn[some])[:count]])


def _commonest(places: Array) -> npt.NDArray[np.bool_]:
    """Tell which places are like the largest number of others."""
    names = _names(places)
    kinds, numbers = np.unique(names, return_counts=True)
    return np.asarray(names == kinds[numbers.argmax()])


def _names(places: Array) -> Floats:
    """Return a number for each place that is the same for those that are alike.

    A random sum of whole numbers, exact in float64: places that differ have other ones, but for
    one pair in 2^28.
    """
    low, high = places.min(axis=0).astype(np.float64), places.max(axis=0).astype(np.float64)
    # What is the same everywhere but for its last digits does not differ.
    spread = np.maximum(high - low, np.maximum(np.abs(low), np.abs(high)) / 256)
    factors = FINENESS / np.where(spread > np.finfo(np.float32).tiny, spread, np.inf)
    weights = np.random.default_rng(0).integers(1, 1 << 28, places.shape[1]).astype(np.float64)
    names = np.empty(len(places))
    for start in range(0, len(places), _ROWS_AT_A_TIME):
        part = slice(start, start + _ROWS_AT_A_TIME)
        names[part] = np.rint((places[part] - low) * factors) @ weights
    return names


def _ranked(tickets: Tickets) -> npt.NDArray[np.intp]:
    """Return the order of tickets: by number, then by sample, then by position."""
    return np.lexsort((tickets[:, 2], tickets[:, 1], tickets[:, 0]))
