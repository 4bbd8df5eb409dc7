# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Affine migration: channels of an activation centred and made alike before it is quantised.

TensorRT takes one scale and no zero point for an activation. Channel c of a node's input is
therefore replaced by (x_c - s_c) / m_c in front of the quantiser; multiplying what the weights do
with that channel by m_c, and adding what they make of s_c to the bias, changes nothing in real
arithmetic. A tensor that ReLU has made thus uses both signs of its steps, and small channels get
their share of them. Where a convolution pads with zeros, the zeros are padded before the shift.

Sources: Xiao et al., SmoothQuant, 2022 (factors); Wei et al., Outlier Suppression+, 2023 (shifts).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from av_compress.compress.graph import GraphIndex, text_attribute
from av_compress.compress.layers import Layer
from av_compress.tensors import Array


@dataclass(frozen=True)
class Affine:
    """What is done to the channels of a node's input.

    Attributes:
        factors: m_c, positive, one per input channel.
        shifts: s_c, one per input channel, in the units of the input.
        foldable: whether nodes in front may take it over, see `fold`.

    """

    factors: Array
    shifts: Array
    foldable: bool = True

    @property
    def shifted(self) -> bool:
        """Tell whether any channel is shifted."""
        return bool((self.shifts != 0).any())

    @property
    def scaled(self) -> bool:
        """Tell whether any channel is scaled."""
        return bool((self.factors != 1).any())

    @property
    def description(self) -> str:
        """In words, for a plan's reasons."""
        parts = []
        if self.scaled:
            spread = self.factors.max() / self.factors.min()
            parts.append(f"scales migrated (spread {spread:.3g})")
        if self.shifted:
            parts.append("channels centred")
        return ", ".join(parts)

    def snapped(self, step: float) -> Affine:
        """Return this with zero on a step in every channel.

        A channel that ReLU or SiLU made is at or near zero in many places. Rounded away from it,
        they would all be wrong in one direction, which the sums behind do not average out.

        Args:
            step: of the mapped input's quantiser.

        """
        steps = np.rint(self.shifts / (self.factors * step))
        return replace(self, shifts=steps * step * self.factors)


def migrated_input(node: str) -> str:
    """Return the name of what a node reads once its input is mapped."""
    return f"{node}_migrated"


def can_shift(index: GraphIndex, layer: Layer) -> bool:
    """Tell whether shifts can be made up for: there is a bias, and padding is spelt out."""
    if layer.node.op_type == "MatMul":
        return False
    if text_attribute(layer.node, "auto_pad", "NOTSET").startswith("SAME"):
        return False
    bias = layer.node.input[2] if len(layer.node.input) > 2 else ""
    return not bias or index.constant(bias) is not None
