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

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx
from onnx import helper, numpy_helper, shape_inference

from av_compress.compress.graph import GraphIndex, int_list, text_attribute
from av_compress.compress.layers import Layer
from av_compress.compress.refine.constants import constant_value, set_input
from av_compress.errors import ModelError
from av_compress.tensors import Array


@dataclass(frozen=True)
class Affine:
    """What is done to the channels of a node's input.

    Attributes:
        factors: m_c, positive, one per input channel.
        shifts: s_c, one per input channel, in the units of the input.

    """

    factors: Array
    shifts: Array

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


def insert_affines(model: onnx.ModelProto, affines: Mapping[str, Affine]) -> onnx.ModelProto:
    """Put the affine maps into a model, in front of their nodes and into their weights.

    Args:
        model: prepared FP32 model; it stays as it is.
        affines: node name -> what is done to its input.

    Returns:
        the model, equal in real arithmetic; a node reads `NODE_migrated` where anything was done.

    Raises:
        ModelError: a node is absent or none whose input channels can be mapped, or a number does
            not fit.

    """
    index = GraphIndex(model)
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    known = {node.name for node in changed.graph.node}
    unknown = [name for name in affines if name not in known]
    if unknown:
        raise ModelError(f"no node {unknown[0]!r} whose input channels can be scaled")
    nodes: list[onnx.NodeProto] = []
    for node in list(changed.graph.node):
        affine = affines.get(node.name)
        if affine is not None and (affine.scaled or affine.shifted):
            nodes.extend(_map_input(changed, index, node, affine))
        nodes.append(node)
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del changed.graph.node[:]
    changed.graph.node.extend(copies)
    return shape_inference.infer_shapes(changed)


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


def _map_input(
    model: onnx.ModelProto, index: GraphIndex, node: onnx.NodeProto, affine: Affine
) -> list[onnx.NodeProto]:
    layer = _checked(index, node, affine)
    shape = [1] * len(index.shape(node.input[0]) or layer.weight.shape)
    shape[layer.channel_axis] = -1
    made: list[onnx.NodeProto] = []
    source = node.input[0]
    if affine.shifted and layer.padded:
        made.append(_take_padding(model, node))
        source = made[-1].output[0]
    steps = []
    if affine.scaled:
        steps.append(("Mul", "scaled", 1.0 / affine.factors))
    if affine.shifted:
        steps.append(("Add", "shifted", -affine.shifts / affine.factors))
    for op_type, suffix, values in steps:
        last = suffix == steps[-1][1]
        output = migrated_input(node.name) if last else f"{node.name}_{suffix}"
        name = f"{node.name}_{suffix}_by"
        value = values.astype(np.float32).reshape(shape)
        model.graph.initializer.append(numpy_helper.from_array(value, name))
        made.append(
            helper.make_node(op_type, [source, name], [output], name=f"{output}_{op_type}")
        )
        source = output
    _change_weights(model, layer, node, affine)
    node.input[0] = source
    return made


def _checked(index: GraphIndex, node: onnx.NodeProto, affine: Affine) -> Layer:
    layer = Layer.of(index, node)
    if layer is None:
        raise ModelError(f"no node {node.name!r} whose input channels can be scaled")
    sizes = {affine.factors.size, affine.shifts.size}
    finite = np.isfinite(affine.factors).all() and np.isfinite(affine.shifts).all()
    if sizes != {layer.channels} or not finite or not (affine.factors > 0).all():
        raise ModelError(
            f"node {node.name!r} needs one positive factor and one shift for each input channel"
        )
    if affine.shifted and not can_shift(index, layer):
        raise ModelError(f"node {node.name!r} has no constant bias that could make up for a shift")
    return layer


def _take_padding(model: onnx.ModelProto, node: onnx.NodeProto) -> onnx.NodeProto:
    """Let a node of its own pad what a convolution has padded."""
    pads = int_list(node, "pads")
    half = len(pads) // 2
    everywhere = np.array([0, 0, *pads[:half], 0, 0, *pads[half:]], np.int64)
    name = f"{node.name}_pads"
    model.graph.initializer.append(numpy_helper.from_array(everywhere, name))
    attribute = next(a for a in node.attribute if a.name == "pads")
    attribute.CopyFrom(helper.make_attribute("pads", [0] * len(pads)))
    output = f"{node.name}_padded"
    return helper.make_node("Pad", [node.input[0], name], [output], name=f"{output}_Pad")


def _change_weights(
    model: onnx.ModelProto, layer: Layer, node: onnx.NodeProto, affine: Affine
) -> None:
    set_input(model, node, 1, layer.scale_channels(affine.factors))
    if not affine.shifted:
        return
    bias = np.zeros(1)
    if len(node.input) > 2 and node.input[2]:
        bias = constant_value(model, node.input[2]).astype(np.float64)
    set_input(model, node, 2, (bias + layer.response(affine.shifts)).astype(np.float32))
