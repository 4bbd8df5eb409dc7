# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What is done to a model's INT8 nodes beyond quantising them; a node in float stays as it was."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx

from av_compress.compress.layers import Floats
from av_compress.compress.refine.affine import Affine
from av_compress.compress.refine.constants import constant_value, set_input
from av_compress.compress.refine.insert import insert_affines, output_factors
from av_compress.compress.refine.rounding import RoundedWeight
from av_compress.tensors import Array


@dataclass(frozen=True)
class Refinement:
    """Refinements by node.

    Attributes:
        affines: what is done to the channels of a node's input.
        weights: a node's weights, rounded already, behind its own of `affines`. They are those
            of outputs as the model has them, whatever other nodes' maps do to them.
        biases: what is added to a node's bias, float64 [output channels], of the same outputs.

    """

    affines: Mapping[str, Affine] = field(default_factory=dict)
    weights: Mapping[str, RoundedWeight] = field(default_factory=dict)
    biases: Mapping[str, Floats] = field(default_factory=dict)

    def without(self, dropped: Collection[str], other: Refinement) -> Refinement:
        """Return these with some nodes' taken from elsewhere."""
        weights = {n: w for n, w in self.weights.items() if n not in dropped}
        weights |= {n: w for n, w in other.weights.items() if n in dropped}
        affines = {n: a for n, a in self.affines.items() if n not in dropped}
        # Corrections were measured with all of the former in place.
        return Refinement(affines, weights)

    def apply(self, model: onnx.ModelProto, nodes: Iterable[str]) -> onnx.ModelProto:
        """Return a model with the refinements of some nodes in it.

        Args:
            model: the model that they were made for; it stays as it is.
            nodes: names of the nodes in INT8.

        Raises:
            ModelError: a refinement does not fit the model.

        """
        chosen = set(nodes)
        affines = {name: affine for name, affine in self.affines.items() if name in chosen}
        changed = insert_affines(model, affines)
        factors = output_factors(model, affines)
        for node in changed.graph.node:
            if node.name in chosen:
                self._refine(changed, node, factors.get(node.name))
        return changed

    def _refine(self, model: onnx.ModelProto, node: onnx.NodeProto, factors: Array | None) -> None:
        """Change a node whose outputs are multiplied by factors, one per channel."""
        rounded, bias = self.weights.get(node.name), self.biases.get(node.name)
        if rounded is not None:
            if factors is not None:
                rounded = rounded.multiplied(node, factors)
            set_input(model, node, 1, rounded.weight.astype(np.float32))
            _add_to_bias(model, node, rounded.bias_shift)
        if bias is not None:
            _add_to_bias(model, node, bias if factors is None else bias * factors)


def _add_to_bias(model: onnx.ModelProto, node: onnx.NodeProto, shift: Floats) -> None:
    if node.op_type == "MatMul":
        return
    bias = np.zeros(1)
    if len(node.input) > 2 and node.input[2]:
        bias = constant_value(model, node.input[2]).astype(np.float64)
    set_input(model, node, 2, (bias + shift).astype(np.float32))
