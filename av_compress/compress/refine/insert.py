# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Affine migrations written into a model: into nodes in front where those can take them over.

What `fold` finds no place for becomes a multiplication and an addition in front of the node.
Where a convolution pads with zeros, the zeros are padded before the shift.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx
from onnx import helper, numpy_helper, shape_inference

from av_compress.compress.emit.holds import range_limit
from av_compress.compress.graph import GraphIndex, int_list
from av_compress.compress.layers import Layer
from av_compress.compress.refine.affine import Affine, can_shift, migrated_input
from av_compress.compress.refine.constants import constant_value, set_input
from av_compress.compress.refine.fold import Fold, find_fold
from av_compress.errors import ModelError
from av_compress.tensors import Array


def insert_affines(model: onnx.ModelProto, affines: Mapping[str, Affine]) -> onnx.ModelProto:
    """Put the affine maps into a model: in front of their nodes, and into weights.

    Args:
        model: prepared FP32 model; it stays as it is.
        affines: node name -> what is done to its input.

    Returns:
        the model, equal in real arithmetic; a node reads `NODE_migrated` where anything was done.
        Tensors whose values differ from the model's have other names than there.

    Raises:
        ModelError: a node is absent or none whose input channels can be mapped, or a number does
            not fit.

    """
    return _inserted(model, affines, find_fold)


def insert_observably(model: onnx.ModelProto, affines: Mapping[str, Affine]) -> onnx.ModelProto:
    """Put the affine maps into a model so that every tensor can be observed in one run.

    Args:
        model: see `insert_affines`, also for the errors.
        affines: node name -> what is done to its input.

    Returns:
        the model, which holds both the tensors of the model as it was and those of
        `insert_affines`, whichever nodes are left out there; not what is padded, whose values are
        those of the tensor in front of it.

    """
    changed = _inserted(model, affines, lambda *_: None)
    index = GraphIndex(model)
    known = {name for node in changed.graph.node for name in node.output}
    for fold in folds(model, affines).values():
        for old, new in fold.renamed().items():
            if new in known:
                continue
            affine = Affine(*fold.factors_of(old))
            shape = _shape(index, fold.layer)
            changed.graph.node.extend(_mapping(changed, shape, affine, old, (new, new)))
    return shape_inference.infer_shapes(changed)


def folds(model: onnx.ModelProto, affines: Mapping[str, Affine]) -> dict[str, Fold]:
    """Return node name -> what takes over its map, of the nodes whose maps are taken over."""
    index = GraphIndex(model)
    layers = [Layer.of(index, node) for node in model.graph.node if node.name in affines]
    found = (find_fold(index, x, affines[x.name]) for x in layers if x is not None)
    return {fold.layer.name: fold for fold in found if fold is not None}


def output_factors(model: onnx.ModelProto, affines: Mapping[str, Affine]) -> dict[str, Array]:
    """Return node name -> what its output channels are multiplied by in `insert_affines`.

    Args:
        model: see `insert_affines`.
        affines: node name -> what is done to its input.

    """
    return {f.producer: 1.0 / f.affine.factors for f in folds(model, affines).values()}


def unfolded(
    model: onnx.ModelProto, affines: Mapping[str, Affine], magnitudes: Mapping[str, float]
) -> set[str]:
    """Return the nodes whose maps must not be folded: FP16 would not hold what comes of it.

    A channel that is small behind an activation is large in front where it is mostly negative.

    Args:
        model: see `insert_affines`.
        affines: node name -> what is done to its input.
        magnitudes: tensor name -> largest magnitude seen, of `insert_observably`.

    """
    found = set()
    for name, fold in folds(model, affines).items():
        made = {node.output[0]: range_limit(node.op_type) for node in fold.nodes}
        for old, new in fold.renamed().items():
            if magnitudes.get(new, 0.0) > max(made[old], magnitudes.get(old, 0.0)):
                found.add(name)
    return found


def descriptions(model: onnx.ModelProto, affines: Mapping[str, Affine]) -> dict[str, str]:
    """Return node name -> what is done to its input and where, in words."""
    into = {name: f", folded into {f.producer}" for name, f in folds(model, affines).items()}
    return {name: affine.description + into.get(name, "") for name, affine in affines.items()}


def _inserted(
    model: onnx.ModelProto,
    affines: Mapping[str, Affine],
    find: Callable[[GraphIndex, Layer, Affine], Fold | None],
) -> onnx.ModelProto:
    index = GraphIndex(model)
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    known = {node.name for node in changed.graph.node}
    unknown = [name for name in affines if name not in known]
    if unknown:
        raise ModelError(f"no node {unknown[0]!r} whose input channels can be scaled")
    live = {name: node for node in changed.graph.node for name in node.output if name}
    nodes: list[onnx.NodeProto] = []
    for node, before in zip(list(changed.graph.node), model.graph.node):
        affine = affines.get(node.name)
        if affine is not None and (affine.scaled or affine.shifted):
            layer = _checked(index, before, affine)
            fold = find(index, layer, affine)
            source = node.input[0] if fold is None else fold.apply(changed, live)
            left = affine if fold is None else fold.left
            nodes.extend(_map_input(changed, node, layer, _shape(index, layer), left, source))
            _change_weights(changed, layer, node, affine)
        nodes.append(node)
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del changed.graph.node[:]
    changed.graph.node.extend(copies)
    return shape_inference.infer_shapes(changed)


def _shape(index: GraphIndex, layer: Layer) -> list[int]:
    """Return the shape in which one value a channel is applied to a node's input."""
    shape = [1] * len(index.shape(layer.node.input[0]) or layer.weight.shape)
    shape[layer.channel_axis] = -1
    return shape


def _map_input(
    model: onnx.ModelProto,
    node: onnx.NodeProto,
    layer: Layer,
    shape: list[int],
    affine: Affine,
    source: str,
) -> list[onnx.NodeProto]:
    """Let a node read a mapped tensor, and return the nodes that map it."""
    made: list[onnx.NodeProto] = []
    if affine.shifted and layer.padded:
        made.append(_take_padding(model, node, source))
        source = made[-1].output[0]
    names = (f"{node.name}_scaled", migrated_input(node.name))
    made.extend(_mapping(model, shape, affine, source, names))
    node.input[0] = made[-1].output[0] if made else source
    return made


def _mapping(
    model: onnx.ModelProto, shape: list[int], affine: Affine, source: str, names: tuple[str, str]
) -> list[onnx.NodeProto]:
    """Make the nodes that map a tensor; the last of them makes the latter name."""
    steps = []
    if affine.scaled:
        steps.append(("Mul", 1.0 / affine.factors))
    if affine.shifted:
        steps.append(("Add", -affine.shifts / affine.factors))
    made: list[onnx.NodeProto] = []
    for op_type, values in steps:
        output = names[1] if op_type == steps[-1][0] else names[0]
        name = f"{output}_by"
        value = values.astype(np.float32).reshape(shape)
        model.graph.initializer.append(numpy_helper.from_array(value, name))
        made.append(
            helper.make_node(op_type, [source, name], [output], name=f"{output}_{op_type}")
        )
        source = output
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


def _take_padding(model: onnx.ModelProto, node: onnx.NodeProto, source: str) -> onnx.NodeProto:
    """Let a node of its own pad what a convolution has padded."""
    pads = int_list(node, "pads")
    half = len(pads) // 2
    everywhere = np.array([0, 0, *pads[:half], 0, 0, *pads[half:]], np.int64)
    name = f"{node.name}_pads"
    model.graph.initializer.append(numpy_helper.from_array(everywhere, name))
    attribute = next(a for a in node.attribute if a.name == "pads")
    attribute.CopyFrom(helper.make_attribute("pads", [0] * len(pads)))
    # Of what is padded too: where the map is folded it has another size.
    output = f"{node.name}_padded" if source == node.input[0] else f"{source}_padded"
    return helper.make_node("Pad", [source, name], [output], name=f"{output}_Pad")


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
