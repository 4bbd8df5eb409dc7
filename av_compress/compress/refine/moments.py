# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Means and covariances of what weighted nodes sum over, streamed, in memory of their own."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from av_compress.compress.graph import GraphIndex
from av_compress.compress.layers import Floats, Layer
from av_compress.compress.observe.calibrate import watching_session
from av_compress.compress.refine.patches import has_patches, patches
from av_compress.tensors import Array, Tensors

# Output places taken of a sample; over some samples, several times a layer's inputs.
PLACES = 512
# Covariances kept at a time; nodes beyond it wait for another run over the samples.
BUDGET_BYTES = 256 << 20
# A wider sum than this would need a covariance of over 300 MB: its weights are rounded to nearest.
WIDEST = 6144


@dataclass(frozen=True)
class Moments:
    """What is known of the values that a node's outputs sum over.

    Attributes:
        mean: float64 [groups, K], K = channels of a group * taps.
        covariance: float64 [groups, K, K].

    """

    mean: Floats
    covariance: Floats


class MomentCollector:
    """Sums up products of what some nodes sum over."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        """Start without samples."""
        self._layers = layers
        self._sums: dict[str, Floats] = {}
        self._products: dict[str, Floats] = {}
        self._counts: dict[str, int] = {}
        self._samples = 0

    def observe(self, tensors: Mapping[str, Array]) -> None:
        """Take in one sample.

        Args:
            tensors: tensor name -> values, of what the nodes read.

        """
        for layer in self._layers:
            seed = [zlib.crc32(layer.name.encode()), self._samples]
            rng = np.random.default_rng(seed)
            taken = patches(layer, tensors[layer.node.input[0]], PLACES, rng)
            grouped = taken.transpose(1, 0, 2)
            self._sums[layer.name] = self._sums.get(layer.name, 0.0) + grouped.sum(axis=1)
            product = grouped.transpose(0, 2, 1) @ grouped
            self._products[layer.name] = self._products.get(layer.name, 0.0) + product
            self._counts[layer.name] = self._counts.get(layer.name, 0) + len(taken)
        self._samples += 1

    def moments(self) -> Iterator[tuple[Layer, Moments]]:
        """Yield every node and its moments."""
        for layer in self._layers:
            count = self._counts.get(layer.name, 0)
            if count:
                mean = self._sums[layer.name] / count
                second = self._products[layer.name] / count
                yield layer, Moments(mean, second - mean[:, :, None] * mean[:, None, :])


def collect_moments(
    model: onnx.ModelProto, nodes: Iterable[str], samples: Iterable[Tensors], threads: int = 0
) -> Iterator[tuple[Layer, Moments]]:
    """Run a model over samples, and yield the moments of some of its nodes.

    Args:
        model: FP32 model with inferred shapes.
        nodes: names; those that are no `Layer` with `has_patches`, or too wide, are left out.
        samples: input tensors; iterated once for every `BUDGET_BYTES` of covariances.
        threads: of ONNX Runtime; 0 takes every core.

    Raises:
        ModelError: the model does not load.

    """
    for batch in _batches(_layers(model, set(nodes))):
        collector = MomentCollector(batch)
        inputs = {value.name for value in model.graph.input}
        inner = list(
            dict.fromkeys(x.node.input[0] for x in batch if x.node.input[0] not in inputs)
        )
        session = watching_session(model, inner, threads) if inner else None
        for tensors in samples:
            values: dict[str, Array] = dict(tensors)
            if session is not None:
                values.update(zip(inner, session.run(inner, dict(tensors))))
            collector.observe(values)
        yield from collector.moments()


def _layers(model: onnx.ModelProto, names: set[str]) -> list[Layer]:
    index = GraphIndex(model)
    found = [Layer.of(index, node) for node in model.graph.node if node.name in names]
    return [
        layer
        for layer in found
        if layer is not None and has_patches(layer) and layer.matrix().shape[2] <= WIDEST
    ]


def _batches(layers: Sequence[Layer]) -> Iterator[list[Layer]]:
    batch: list[Layer] = []
    used = 0
    for layer in layers:
        groups, _, width = layer.matrix().shape
        size = 8 * groups * width * width
        if batch and used + size > BUDGET_BYTES:
            yield batch
            batch, used = [], 0
        batch.append(layer)
        used += size
    if batch:
        yield batch
