# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What is done to a model's INT8 nodes beyond quantising them; a node in float stays as it was."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx

from av_compress.compress.refine.affine import Affine, insert_affines
from av_compress.compress.refine.constants import constant_value, set_input
from av_compress.compress.refine.rounding import RoundedWeight


@dataclass(frozen=True)
class Refinement:
    """Refinements by node.

    Attributes:
        affines: what is done to the channels of a node's input.
        weights: a node's weights, rounded already, for the model with all of `affines` in it.

    """

    affines: Mapping[str, Affine] = field(default_factory=dict)
    weights: Mapping[str, RoundedWeight] = field(default_factory=dict)

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
        for node in changed.graph.node:
            rounded = self.weights.get(node.name)
            if rounded is not None and node.name in chosen:
                _set_weight(changed, node, rounded)
        return changed


def _set_weight(model: onnx.ModelProto, node: onnx.NodeProto, rounded: RoundedWeight) -> None:
    set_input(model, node, 1, rounded.weight)
    if node.op_type == "MatMul" or not rounded.bias_shift.any():
        return
    bias = np.zeros(1)
    if len(node.input) > 2 and node.input[2]:
        bias = constant_value(model, node.input[2]).astype(np.float64)
    set_input(model, node, 2, (bias + rounded.bias_shift).astype(np.float32))
