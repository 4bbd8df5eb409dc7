# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Refinements of a model, chosen from what observers found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import onnx

from av_compress.compress.emit.insertion import WeightGrid
from av_compress.compress.graph import GraphIndex
from av_compress.compress.layers import Layer
from av_compress.compress.observe.channels import Channels, Reservoir
from av_compress.compress.refine.affine import Affine, can_shift
from av_compress.compress.refine.choose_affine import Choice, choose_affine
from av_compress.compress.refine.insert import insert_affines, output_factors
from av_compress.compress.refine.moments import collect_moments
from av_compress.compress.refine.rounding import RoundedWeight, round_weight
from av_compress.progress import track
from av_compress.tensors import Tensors


def layer_inputs(model: onnx.ModelProto, nodes: Iterable[str]) -> dict[str, Channels]:
    """Return node name -> the activation it reads, and the axis that it takes for its channels.

    Of the nodes whose channels can be mapped.

    Args:
        model: prepared FP32 model.
        nodes: names.

    """
    return {layer.name: _read(layer) for layer in _layers(model, set(nodes))}


def choose_affines(
    model: onnx.ModelProto, nodes: Iterable[str], places: Mapping[Channels, Reservoir]
) -> dict[str, Choice]:
    """Choose what is done to the input channels of nodes, where anything pays.

    Args:
        model: prepared FP32 model.
        nodes: names of the nodes in INT8.
        places: tensor and axis -> places of it, for all of `layer_inputs`.

    """
    index = GraphIndex(model)
    found = {}
    for layer in track(_layers(model, set(nodes)), "migrate scales"):
        choice = choose_affine(layer, places[_read(layer)], can_shift(index, layer))
        if choice is not None:
            found[layer.name] = choice
    return found


def affines_of(choices: Mapping[str, Choice]) -> dict[str, Affine]:
    """Return the maps alone."""
    return {name: choice.affine for name, choice in choices.items()}


def round_weights(
    model: onnx.ModelProto,
    affines: Mapping[str, Affine],
    nodes: Iterable[str],
    samples: Iterable[Tensors],
    grids: Mapping[str, WeightGrid],
) -> dict[str, dict[str, RoundedWeight]]:
    """Round weights by what the nodes sum over.

    Args:
        model: prepared FP32 model.
        affines: node name -> what is done to its input.
        nodes: names of the nodes in INT8.
        samples: input tensors, iterated several times.
        grids: name -> how its weights are stored.

    Returns:
        for each grid, node name -> rounded weights; without those that `collect_moments` leaves
        out. See `Refinement.weights` for which outputs they belong to.

    """
    found: dict[str, dict[str, RoundedWeight]] = {name: {} for name in grids}
    folded = output_factors(model, affines)
    for layer, moments in collect_moments(insert_affines(model, affines), nodes, samples):
        for name, grid in grids.items():
            # With the scales that a form stores where all maps are in it.
            rounded = round_weight(layer, moments, grid)
            if layer.name in folded:
                rounded = rounded.multiplied(layer.node, 1.0 / folded[layer.name])
            found[name][layer.name] = rounded
    return found


def _read(layer: Layer) -> Channels:
    return str(layer.node.input[0]), layer.channel_axis


def _layers(model: onnx.ModelProto, names: set[str]) -> list[Layer]:
    index = GraphIndex(model)
    found = [Layer.of(index, node) for node in model.graph.node if node.name in names]
    # Behind a 1-D or 3-D convolution's input axes have other meanings than observers give them.
    return [x for x in found if x is not None and x.weight.ndim in {2, 4}]
