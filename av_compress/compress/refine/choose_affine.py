# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The choice of an affine migration: what it gains at its node, weighed against what it costs.

The error of a node's output is estimated from some places of its input, with all errors taken as
independent: what the input's rounding and clipping adds, channel by channel, through the weights,
and what the rounding of the weights adds through the variance of the input.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from av_compress.compress.layers import Floats, Layer
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

# Places that are looked at: more of them change the estimates by less than the choice feels.
PLACES = 1024
_THRESHOLD_SHARES = np.geomspace(0.3, 1.0, 12)
_LEVELS = 127


@dataclass(frozen=True)
class Choice:
    """An affine migration and what it gains.

    Attributes:
        affine: what is done to the channels.
        gain_db: how much smaller the node's output error is than without it, estimated.

    """

    affine: Affine
    gain_db: float


def choose_affine(layer: Layer, rows: Array, shiftable: bool) -> Choice | None:
    """Choose what is done to a node's input channels; None where nothing pays.

    Args:
        layer: the node.
        rows: some places of its input, float [places, channels].
        shiftable: whether shifts can be made up for, see `affine.can_shift`.

    """
    if not len(rows):
        return None
    exact = rows[:: max(1, len(rows) // PLACES)][:PLACES].astype(np.float32)
    weights = _Weights.of(layer)
    plain = Affine(np.ones(layer.channels), np.zeros(layer.channels))
    before = output_error(weights, exact, plain)
    if not before:
        return None
    best: Choice | None = None
    for affine in _candidates(layer, exact, shiftable):
        error = max(output_error(weights, exact, affine), before * 1e-12)
        gain = 10.0 * float(np.log10(before / error))
        costly = affine.shifted and layer.padded
        if gain < (PADDING_GAIN_DB if costly else LEAST_GAIN_DB):
            continue
        if best is None or gain > best.gain_db:
            best = Choice(affine, gain)
    return None if best is None else replace(best, affine=_balanced(best.affine, weights, exact))


def _balanced(affine: Affine, weights: _Weights, rows: Array) -> Affine:
    """Multiply all factors by a power of two, so that input and weights have scales alike.

    Either scale may have to be FP16, which has fewer digits below 6e-5.
    """
    groups, _, inside = weights.largest.shape
    largest = (weights.largest * affine.factors.reshape(groups, 1, inside)).max(axis=2)
    activation = float(np.abs((rows - affine.shifts) / affine.factors).max())
    typical = float(np.exp(np.log(np.maximum(largest, 1e-12)).mean()))
    if not (affine.scaled and activation > 0):
        return affine
    power = round(np.log2(activation / typical) / 2)
    return replace(affine, factors=affine.factors * 2.0**power)


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


def output_error(weights: _Weights, rows: Array, affine: Affine) -> float:
    """Estimate the squared error of all outputs at a place, with the best threshold.

    Args:
        weights: of the layer.
        rows: places of its input, [places, channels].
        affine: what is done to the input first.

    """
    mapped = (rows - affine.shifts.astype(np.float32)) / affine.factors.astype(np.float32)
    groups, _, inside = weights.power.shape
    factors = affine.factors.reshape(groups, 1, inside)
    # What a unit of error in a channel costs, over all outputs.
    price = (weights.power * factors**2).sum(axis=1).reshape(-1)
    activation = min(float(_rounding_error(mapped, share) @ price) for share in _THRESHOLD_SHARES)
    step = (weights.largest * factors).max(axis=2) / _LEVELS
    variance = mapped.var(axis=0).reshape(groups, inside).sum(axis=1) * weights.taps
    rounding = float(((step**2).sum(axis=1) * variance).sum()) / 12.0
    return activation + COMPENSATED * rounding


def _rounding_error(mapped: Array, share: float) -> Floats:
    """Return each channel's mean squared error with one threshold for all of them."""
    step = np.float32(max(float(np.abs(mapped).max()) * share / _LEVELS, 1e-30))
    error = mapped * (1 / step)
    error -= np.clip(np.rint(error), -_LEVELS - 1, _LEVELS)
    return np.asarray(np.einsum("nc,nc->c", error, error) * (step * step / len(mapped)))


def _candidates(layer: Layer, rows: Array, shiftable: bool) -> Iterator[Affine]:
    low, high = rows.min(axis=0), rows.max(axis=0)
    zero = np.zeros(layer.channels)
    shifts = [zero]
    if shiftable:
        shifts += [np.full(layer.channels, (low.min() + high.max()) / 2), (low + high) / 2]
    # Channels that do not mix pay nothing for factors: each has a weight scale of its own.
    depthwise = layer.groups == layer.channels
    for shift in shifts:
        extent = np.maximum(np.maximum(np.abs(high - shift), np.abs(low - shift)), 1e-30)
        spread = np.maximum(extent / extent.max(), SMALLEST_FACTOR)
        for exponent in (0.0, 1.0) if depthwise else EXPONENTS:
            yield Affine(spread**exponent, shift)
