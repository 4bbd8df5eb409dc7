# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""How much the channels of activations differ, from a few places of each, in fixed memory."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import numpy as np
import onnx

from av_compress.compress.graph import GraphIndex, is_depthwise
from av_compress.compress.layers import Layer
from av_compress.compress.observe.calibrate import watching_session
from av_compress.compress.plan.precision import PrecisionPlan
from av_compress.errors import DataError
from av_compress.tensors import Array, Tensors

ROWS = 4096
ROWS_PER_SAMPLE = 256
# Shares of a channel's largest magnitude that are tried as its threshold.
SHARES = np.geomspace(0.3, 1.0, 16)
# A channel that is (almost) always zero is not blown up further than this.
SMALLEST_FACTOR = 1e-4
LEVELS = 127


class Reservoir:
    """Keeps random places of a tensor over samples, every place as likely as any other.

    Source: Vitter, Random Sampling with a Reservoir, 1985, taken by blocks of a sample's rows.
    Deterministic by the tensor's name.
    """

    def __init__(self, name: str, rows: int = ROWS, per_sample: int = ROWS_PER_SAMPLE) -> None:
        """Keep at most `rows` places of tensor `name`, at most `per_sample` of a sample."""
        self._generator = np.random.default_rng(zlib.crc32(name.encode()))
        self._rows, self._per_sample = rows, per_sample
        self._kept: Array | None = None
        self._filled = self._seen = 0

    @property
    def values(self) -> Array:
        """What was kept, float32 [places, channels]."""
        if self._kept is None:
            return np.zeros((0, 0), np.float32)
        return self._kept[: self._filled]

    def observe(self, array: Array, channel_axis: int) -> None:
        """Take some places of one sample's tensor."""
        moved = np.moveaxis(array, channel_axis, -1)
        places = moved.reshape(-1, moved.shape[-1])
        count = min(len(places), self._per_sample)
        chosen = places[self._generator.choice(len(places), count, replace=False)]
        if self._kept is None:
            self._kept = np.empty((self._rows, places.shape[1]), np.float32)
        for row in self._slots(count):
            if row[1] < self._rows:
                self._kept[row[1]] = chosen[row[0]]

    def _slots(self, count: int) -> list[tuple[int, int]]:
        slots = []
        for position in range(count):
            if self._filled < self._rows:
                slots.append((position, self._filled))
                self._filled += 1
            else:
                slots.append((position, int(self._generator.integers(0, self._seen + 1))))
            self._seen += 1
        return slots


class ChannelProbe:
    """Finds, for every depthwise convolution that is to be INT8, what makes its channels alike."""

    def __init__(self, model: onnx.ModelProto, plan: PrecisionPlan, threads: int = 0) -> None:
        """Prepare.

        Args:
            model: prepared FP32 model.
            plan: which of its nodes are to be INT8.
            threads: of ONNX Runtime; 0 takes every core.

        Raises:
            ModelError: the model does not load.

        """
        index = GraphIndex(model)
        quantised = plan.quantised()
        layers = [
            layer
            for node in model.graph.node
            if node.name in quantised and (layer := Layer.of(index, node)) is not None
        ]
        # Two that read one tensor would each need a multiplication of their own: still exact.
        self._read = {
            layer.name: layer.node.input[0]
            for layer in layers
            if is_depthwise(layer.node, layer.weight)
        }
        tensors = dict.fromkeys(self._read.values())
        self._inner = [name for name in tensors if name in index.producers]
        self._reservoirs = {name: Reservoir(name) for name in tensors}
        self._session = watching_session(model, self._inner, threads) if self._inner else None

    def observe(self, tensors: Tensors) -> None:
        """Run one sample.

        Raises:
            DataError: an activation is not finite; the tensor is named.

        """
        values: dict[str, Array] = dict(tensors)
        if self._session is not None:
            values.update(zip(self._inner, self._session.run(self._inner, dict(tensors))))
        for name, reservoir in self._reservoirs.items():
            if not np.isfinite(values[name]).all():
                raise DataError(f"tensor '{name}' holds NaN or infinity")
            reservoir.observe(values[name], channel_axis=1)

    def factors(self) -> Mapping[str, Array]:
        """Return node name -> factor of each input channel, the largest being 1."""
        found = {}
        for node, tensor in self._read.items():
            thresholds = channel_thresholds(self._reservoirs[tensor].values)
            if thresholds.size:
                found[node] = np.maximum(thresholds / thresholds.max(), SMALLEST_FACTOR)
        return found


def channel_thresholds(values: Array) -> Array:
    """Return each channel's threshold with the smallest squared error, float64 [channels].

    Args:
        values: float [places, channels].

    """
    exact = values.astype(np.float64)
    largest = np.abs(exact).max(axis=0, initial=0.0)
    everywhere = float(largest.max(initial=0.0)) or 1.0
    largest = np.maximum(largest, everywhere * SMALLEST_FACTOR)
    best, least = largest, np.full(largest.shape, np.inf)
    for share in SHARES:
        step = largest * share / LEVELS
        rounded = np.clip(np.rint(exact / step), -LEVELS - 1, LEVELS) * step
        error = np.mean((exact - rounded) ** 2, axis=0) if len(exact) else np.zeros_like(step)
        best = np.where(error < least, largest * share, best)
        least = np.minimum(error, least)
    return np.asarray(best)
