# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The choice of an affine migration: what it gains at its node, weighed against what it costs.

The error of a node's output is estimated from some places of its input, with all errors taken as
independent: what the input's rounding and clipping adds, channel by channel, through the weights,
and what the rounding of the weights adds through the variance of the input.

Channels that are fitted each to its own range all clip at once where a frame goes further than
those that were seen. Every candidate is therefore made from some groups of samples and judged on
the places of the others (cross-validation), which shows how much headroom the threshold needs.

Source of the extrapolated ranges: Robson and Whitlock, Estimation of a truncation point, 1964.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from av_compress.compress.layers import Floats, Layer
from av_compress.compress.observe.channels import Reservoir
from av_compress.compress.refine.affine import Affine
from av_compress.tensors import Array

# How much of the channels' differences is moved: all of it, none, and in between (SmoothQuant's
# alpha).
EXPONENTS = (0.0, 0.25, 0.5, 0.75, 1.0)
# A channel that is (almost) always constant is not blown up further than this.
SMALLEST_FACTOR = 1e-3
# What is left of the weights' rounding error where rounding makes up for it (see `rounding`).
COMPENSATED = 0.3
# What is done to a channel has to pay: a multiplication and a shift for each value, and more where
# padding needs a node of its own.
LEAST_GAIN_DB = 1.0
PADDING_GAIN_DB = 1.5

# Values that are looked at: more of them change the estimates by less than the choice feels.
_VALUES, _FEWEST_PLACES = 2**18, 128
# Shares of the largest magnitude seen that are tried as threshold, some with headroom.
_THRESHOLD_SHARES = np.geomspace(0.3, 4.0, 16)
_LEVELS = 127


@dataclass(frozen=True)
class Choice:
    """An affine migration and what it gains.

    Attributes:
        affine: what is done to the channels.
        threshold: largest magnitude of the mapped input that its quantiser holds.
        gain_db: how much smaller the node's output error is than without it, estimated.

    """

    affine: Affine
    threshold: float
    gain_db: float


def choose_affine(layer: Layer, places: Reservoir, shiftable: bool) -> Choice | None:
    """Choose what is done to a node's input channels; None where nothing pays.

    Args:
        layer: the node.
        places: of its input.
        shiftable: whether shifts can be made up for, see `affine.can_shift`.

    """
    seen = Seen.of(layer, places)
    if seen is None:
        return None
    weights = _Weights.of(layer)
    before, _ = _judge(weights, seen, _Candidate(0.0, "none", False))
    if not before:
        return None
    best: Choice | None = None
    for candidate in _candidates(layer, shiftable):
        affine = candidate.affine(seen.limits)
        error, threshold = _judge(weights, seen, candidate)
        gain = 10.0 * float(np.log10(before / max(error, before * 1e-12)))
        costly = affine.shifted and layer.padded
        if gain < (PADDING_GAIN_DB if costly else LEAST_GAIN_DB):
            continue
        if best is None or gain > best.gain_db:
            best = Choice(affine, threshold, gain)
    return None if best is None else _balanced(best, weights)


@dataclass(frozen=True)
class Seen:
    """What is known of a node's input.

    Attributes:
        rows: some places, float32 [places, channels].
        groups: which group of samples each of them comes from.
        limits: smallest and largest value of each channel over all places of each group,
            float32 [groups, 2, channels].

    """

    rows: Array
    groups: npt.NDArray[np.int64]
    limits: Array

    @staticmethod
    def of(layer: Layer, places: Reservoir) -> Seen | None:
        """Return what was kept of a node's input; None where it is not its input or nothing."""
        rows = places.values
        if not len(rows) or rows.shape[1] != layer.channels:
            return None
        step = max(1, len(rows) // max(_FEWEST_PLACES, _VALUES // layer.channels))
        present = np.flatnonzero(np.isfinite(places.limits[:, 0, 0]))
        limits = places.limits[present]
        if layer.padded:
            # The zeros that it pads are mapped too.
            zero = np.float32(0)
            limits = np.stack((np.minimum(limits[:, 0], zero), np.maximum(limits[:, 1], zero)), 1)
        return Seen(rows[::step], np.searchsorted(present, places.groups[::step]), limits)

    @cached_property
    def splits(self) -> list[tuple[Array, Array]]:
        """What can be made of the other groups' limits, and held against a group's places."""
        if len(self.limits) == 1:
            return [(self.limits, self.rows)]
        parts = [(np.delete(self.limits, g, 0), g) for g in range(len(self.limits))]
        return [(limits, rows) for limits, g in parts if len(rows := self.rows[self.groups == g])]


@dataclass(frozen=True)
class _Candidate:
    """A way to make an affine map of ranges.

    Attributes:
        exponent: how much of the channels' differences is moved.
        centre: `none`; `tensor`: all channels by the same; `channel`: each to its middle.
        extrapolated: whether ranges are widened by what the widest group adds to the next.

    """

    exponent: float
    centre: str
    extrapolated: bool

    def affine(self, limits: Array) -> Affine:
        """Make the map of limits, [groups, 2, channels]."""
        low, high = self._range(limits)
        shift = {
            "none": np.zeros(len(low)),
            "tensor": np.full(len(low), (low.min() + high.max()) / 2),
            "channel": (low + high) / 2,
        }[self.centre]
        extent = np.maximum(np.maximum(np.abs(high - shift), np.abs(low - shift)), 1e-30)
        spread = np.maximum(extent / extent.max(), SMALLEST_FACTOR)
        return Affine(spread**self.exponent, shift)

    def _range(self, limits: Array) -> tuple[Floats, Floats]:
        lows, highs = np.sort(limits.astype(np.float64), axis=0).transpose(1, 0, 2)
        low, high = lows[0], highs[-1]
        if self.extrapolated and len(limits) > 1:
            low, high = 2 * low - lows[1], 2 * high - highs[-2]
        return low, high


def _candidates(layer: Layer, shiftable: bool) -> Iterator[_Candidate]:
    # Channels that do not mix pay nothing for factors: each has a weight scale of its own.
    depthwise = layer.groups == layer.channels
    for centre in ("none", "tensor", "channel") if shiftable else ("none",):
        for exponent in (0.0, 1.0) if depthwise else EXPONENTS:
            for extrapolated in (False, True) if exponent or centre == "channel" else (False,):
                yield _Candidate(exponent, centre, extrapolated)


def _judge(weights: _Weights, seen: Seen, candidate: _Candidate) -> tuple[float, float]:
    """Estimate the squared error of all outputs at a place, and the threshold that it takes.

    Every split's map and thresholds are made of the other groups' ranges.
    """
    errors = np.zeros(len(_THRESHOLD_SHARES))
    for limits, rows in seen.splits:
        affine = candidate.affine(limits)
        mapped, largest = _mapped(rows, affine), _largest(limits, affine)
        price = weights.price(affine)
        errors += [_rounding_error(mapped, largest * s) @ price for s in _THRESHOLD_SHARES]
    best = int(errors.argmin())
    affine = candidate.affine(seen.limits)
    threshold = _largest(seen.limits, affine) * float(_THRESHOLD_SHARES[best])
    rounding = weights.rounding_error(affine, _mapped(seen.rows, affine))
    return float(errors[best]) / len(seen.rows) + COMPENSATED * rounding, threshold


def _mapped(rows: Array, affine: Affine) -> Array:
    shifted: Array = rows - affine.shifts.astype(np.float32)
    shifted /= affine.factors.astype(np.float32)
    return shifted


def _largest(limits: Array, affine: Affine) -> float:
    """Return the largest magnitude of the mapped input."""
    return float(np.abs((limits - affine.shifts) / affine.factors).max())


def _rounding_error(mapped: Array, threshold: float) -> Floats:
    """Return each channel's summed squared error with one threshold for all of them."""
    step = np.float32(max(threshold / _LEVELS, 1e-30))
    error = mapped * (1 / step)
    error -= np.clip(np.rint(error), -_LEVELS - 1, _LEVELS)
    return np.asarray(np.einsum("nc,nc->c", error, error) * (step * step), np.float64)


@dataclass(frozen=True)
class _Weights:
    """What the estimates need of a layer's weights.

    Attributes:
        power: sum of squares over taps, [groups, outputs of a group, channels of a group].
        largest: largest magnitude over taps, of the same shape.
        taps: weights that an output has for a channel.

    """

    power: Floats
    largest: Floats
    taps: int

    @staticmethod
    def of(layer: Layer) -> _Weights:
        matrix = layer.matrix()
        split = matrix.reshape(*matrix.shape[:2], -1, layer.taps)
        return _Weights((split**2).sum(axis=3), np.abs(split).max(axis=3), layer.taps)

    def price(self, affine: Affine) -> Floats:
        """Return what a unit of squared error in a mapped channel costs, over all outputs."""
        return np.asarray((self.power * self._factors(affine) ** 2).sum(axis=1).reshape(-1))

    def rounding_error(self, affine: Affine, mapped: Array) -> float:
        """Estimate the squared error of all outputs that the rounding of the weights makes."""
        groups, _, inside = self.power.shape
        step = self.steps(affine)
        variance = mapped.var(axis=0).reshape(groups, inside).sum(axis=1) * self.taps
        return float(((step**2).sum(axis=1) * variance).sum()) / 12.0

    def steps(self, affine: Affine) -> Floats:
        """Return the scale of each output channel's weights, [groups, outputs of a group]."""
        return np.asarray((self.largest * self._factors(affine)).max(axis=2) / _LEVELS)

    def _factors(self, affine: Affine) -> Floats:
        groups, _, inside = self.power.shape
        return np.asarray(affine.factors.reshape(groups, 1, inside))


def _balanced(choice: Choice, weights: _Weights) -> Choice:
    """Multiply all factors by a power of two, so that input and weights have scales alike.

    Either scale may have to be FP16, which has fewer digits below 6e-5.
    """
    affine = choice.affine
    largest = weights.steps(affine) * _LEVELS
    typical = float(np.exp(np.log(np.maximum(largest, 1e-12)).mean()))
    if not (affine.scaled and choice.threshold > 0):
        return choice
    power = round(np.log2(choice.threshold / typical) / 2)
    scaled = replace(affine, factors=affine.factors * 2.0**power)
    return replace(choice, affine=scaled, threshold=choice.threshold / 2.0**power)
