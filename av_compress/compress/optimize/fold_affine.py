# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Multiplications and additions of constants, folded into the weights before or behind them.

With y = s x + t per channel: W (s x + t) + b = (W s) x + (W t + b), and s (W x + b) + t =
(s W) x + (s b + t). Between the two may stand what only gives the values another place.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import onnx

from av_compress.compress.graph import GraphIndex, attribute, float_attribute, int_list
from av_compress.compress.graph import text_attribute as text
from av_compress.compress.layers import (
    input_channels,
    output_channels,
    per_input,
    per_output,
)
from av_compress.compress.optimize.edit import Editor
from av_compress.compress.optimize.passes import Droppable
from av_compress.tensors import Array

_FOLDING = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_PLACING = frozenset({"Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity"})


@dataclass(frozen=True)
class Affine:
    """What a node computes: scale * x + shift.

    Attributes:
        source: tensor name of x.
        scale: float64, one value, or one a channel.
        shift: like `scale`.
        axis: the channels' axis in x; None where both are one value.

    """

    source: str
    scale: Array
    shift: Array
    axis: int | None

    def along(self, axis: int | None) -> Affine:
        """Return the same with its channels on another axis."""
        return Affine(self.source, self.scale, self.shift, axis)


class FoldAffine(Droppable):
    """Mul, Div, Add, Sub and BatchNormalization by constants, folded into weights next to them."""

    name = "fold affine"

    def run(self, model: onnx.ModelProto) -> tuple[onnx.ModelProto, str]:
        """Fold until nothing more can be."""
        editor = Editor(model)
        folded: Counter[str] = Counter()
        while found := _sweep(editor):
            folded += found
        if not folded:
            return model, ""
        what = ", ".join(f"{count} {op_type}" for op_type, count in sorted(folded.items()))
        return editor.finish(), f"folded {what} into the weights next to them"


def _sweep(editor: Editor) -> Counter[str]:
    """Fold what can be folded, every node looked at once."""
    folded: Counter[str] = Counter()
    for node in editor.nodes:
        affine, op_type = affine_of(editor.index, node), str(node.op_type)
        if affine is None:
            continue
        if _fold_behind(editor, node, affine) or _fold_before(editor, node, affine):
            folded[op_type] += 1
    return folded


def affine_of(index: GraphIndex, node: onnx.NodeProto) -> Affine | None:
    """View a node as an affine one; None where it is none, or its constants mix axes."""
    if node.op_type == "BatchNormalization":
        return _batch_norm(index, node)
    if node.op_type not in {"Mul", "Div", "Add", "Sub"} or len(node.input) != 2:
        return None
    values = [index.constant(name) for name in node.input]
    place = 1 if values[1] is not None else 0
    value, source = values[place], node.input[1 - place]
    if value is None or values[1 - place] is not None or value.dtype != np.float32:
        return None
    shape = index.shape(source)
    if shape is None or not _keeps_shape(shape, value.shape):
        return None
    axis = _axis(value, len(shape))
    if value.size > 1 and axis is None:
        return None
    scale, shift = _terms(node.op_type, place, value.astype(np.float64).ravel())
    return None if scale is None else Affine(source, scale, shift, axis)


def _terms(op_type: str, place: int, value: Array) -> tuple[Array | None, Array]:
    """Return scale and shift of a binary operator whose operand at `place` is a constant."""
    zero, one = np.zeros(1), np.ones(1)
    if op_type == "Mul":
        return value, zero
    if op_type == "Div":
        return (1.0 / value, zero) if place == 1 and (value != 0).all() else (None, zero)
    if op_type == "Add":
        return one, value
    return (one, -value) if place == 1 else (-one, value)


def _batch_norm(index: GraphIndex, node: onnx.NodeProto) -> Affine | None:
    values = [index.constant(name) for name in node.input[1:5]]
    if len(values) != 4 or any(value is None for value in values):
        return None
    if [name for name in node.output[1:] if name] or attribute(node, "training_mode", 0):
        return None
    gamma, beta, mean, variance = (np.asarray(value, np.float64) for value in values)
    scale = gamma / np.sqrt(variance + float_attribute(node, "epsilon", 1e-5))
    return Affine(node.input[0], scale, beta - mean * scale, 1)


def _keeps_shape(shape: tuple[int | None, ...], constant: tuple[int, ...]) -> bool:
    """Tell whether a constant, broadcast against a tensor, leaves its shape alone."""
    if len(constant) > len(shape):
        return False
    behind = shape[len(shape) - len(constant) :]
    return all(extent in {1, known} for extent, known in zip(constant, behind))


def _axis(value: Array, rank: int) -> int | None:
    """Return the only axis of a tensor along which a constant differs; None where none is."""
    wide = [axis for axis, extent in enumerate(value.shape) if extent > 1]
    return wide[0] + rank - value.ndim if len(wide) == 1 else None


def _fold_behind(editor: Editor, node: onnx.NodeProto, affine: Affine) -> bool:
    """Fold an affine node into the weighted one whose results it reads."""
    found = _weighted_before(editor, affine)
    if found is None or not editor.can_bypass(node, affine.source):
        return False
    producer, seen = found
    keeps_shift = producer.op_type == "MatMul" and affine.shift.any()
    if keeps_shift and node.op_type != "BatchNormalization":
        # A MatMul has no place for what is added; of a BatchNormalization, less is left to do.
        return False
    if not _scale_outputs(editor, producer, seen):
        return False
    if keeps_shift:
        shape = [1] * len(editor.index.shape(affine.source) or ())
        shape[affine.axis or 0] = -1
        value = affine.shift.astype(np.float32).reshape(shape)
        shift = editor.constant(f"{node.name}_shift", value)
        editor.replace_node(node, "Add", [affine.source, shift])
    else:
        editor.bypass(node, affine.source)
    return True


def _weighted_before(editor: Editor, affine: Affine) -> tuple[onnx.NodeProto, Affine] | None:
    """Return the weighted node whose results alone an affine reads, and the affine at it."""
    name, axis = affine.source, affine.axis
    while axis != -1:
        producer = editor.index.producers.get(name)
        if producer is None or editor.sole_consumer(name) is None or len(producer.output) != 1:
            return None
        if producer.op_type in _FOLDING:
            return producer, affine.along(axis)
        axis, name = _axis_before(editor.index, producer, axis), producer.input[0]
    return None


def _fold_before(editor: Editor, node: onnx.NodeProto, affine: Affine) -> bool:
    """Fold an affine node into all weighted ones that read its results."""
    if not editor.can_bypass(node, affine.source) or node.output[0] in editor.index.outputs:
        return False
    readers = _readers(editor.index, node.output[0], affine)
    if not readers or not all(_takes(editor.index, *reader) for reader in readers):
        return False
    for reader, seen in readers:
        _scale_inputs(editor, reader, seen)
    editor.bypass(node, affine.source)
    return True


def _readers(
    index: GraphIndex, name: str, affine: Affine
) -> list[tuple[onnx.NodeProto, Affine]] | None:
    """Return the weighted nodes that read a tensor and the affine as each sees it."""
    found: list[tuple[onnx.NodeProto, Affine]] = []
    if name in index.outputs:
        return None
    for reader in index.consumers.get(name, ()):
        if list(reader.input).count(name) != 1 or reader.input[0] != name:
            return None
        if reader.op_type in _FOLDING:
            found.append((reader, affine))
            continue
        axis = _axis_behind(index, reader, affine.axis)
        behind = None if axis == -1 else _readers(index, reader.output[0], affine.along(axis))
        if behind is None:
            return None
        found += behind
    return found


def _axis_behind(index: GraphIndex, node: onnx.NodeProto, axis: int | None) -> int | None:
    """Return where an axis of a node's input is in its output; -1 where that is not known."""
    if node.op_type not in _PLACING:
        return -1
    if axis is None or node.op_type == "Identity":
        return axis
    if node.op_type == "Transpose":
        return _perm(index, node).index(axis)
    return _last_axis(index, node.input[0], node.output[0], axis)


def _axis_before(index: GraphIndex, node: onnx.NodeProto, axis: int | None) -> int | None:
    """Return where an axis of a node's output is in its input; -1 where that is not known."""
    if node.op_type not in _PLACING:
        return -1
    if axis is None or node.op_type == "Identity":
        return axis
    if node.op_type == "Transpose":
        return _perm(index, node)[axis]
    return _last_axis(index, node.output[0], node.input[0], axis)


def _last_axis(index: GraphIndex, source: str, target: str, axis: int) -> int:
    """Follow the last axis through a reshape that keeps it."""
    before, after = index.shape(source), index.shape(target)
    if not before or not after or axis != len(before) - 1:
        return -1
    return len(after) - 1 if before[-1] is not None and before[-1] == after[-1] else -1


def _perm(index: GraphIndex, node: onnx.NodeProto) -> list[int]:
    rank = len(index.shape(node.input[0]) or ())
    return int_list(node, "perm", range(rank - 1, -1, -1))


def _weight(index: GraphIndex, node: onnx.NodeProto) -> Array | None:
    """Return a weight that can take a factor."""
    weight = index.weight(node)
    if weight is None or weight.dtype != np.float32:
        return None
    if node.op_type in {"Gemm", "MatMul"} and weight.ndim != 2:
        return None
    if node.op_type == "Gemm" and attribute(node, "transA", 0):
        return None
    if len(node.input) > 2 and node.input[2] and index.constant(node.input[2]) is None:
        return None
    return weight


def _channel_axis(index: GraphIndex, node: onnx.NodeProto, name: str) -> int:
    rank = len(index.shape(name) or ())
    return 1 if node.op_type in {"Conv", "ConvTranspose"} else rank - 1


def _scale_outputs(editor: Editor, node: onnx.NodeProto, affine: Affine) -> bool:
    """Fold what comes behind a weighted node, but not a shift behind a MatMul."""
    index = editor.index
    weight = _weight(index, node)
    if weight is None or affine.axis not in {None, _channel_axis(index, node, node.output[0])}:
        return False
    count = output_channels(node, weight)
    bias = _bias(index, node, count)
    if bias is None:
        return False
    scale = np.broadcast_to(affine.scale, count)
    scaled = weight * per_output(node, weight, scale)
    editor.set_constant(node, 1, scaled.astype(np.float32))
    if node.op_type != "MatMul":
        _set_bias(editor, node, scale * bias + affine.shift)
    return True


def _takes(index: GraphIndex, node: onnx.NodeProto, affine: Affine) -> bool:
    """Tell whether a weighted node can take what stands before it."""
    weight = _weight(index, node)
    if weight is None or affine.axis not in {None, _channel_axis(index, node, node.input[0])}:
        return False
    if _bias(index, node, output_channels(node, weight)) is None:
        return False
    if not affine.shift.any():
        return True
    if node.op_type == "Conv":
        # What pads is zero, not the shift.
        padded = any(int_list(node, "pads")) or text(node, "auto_pad", "NOTSET").startswith("SAME")
        return not padded
    return node.op_type == "Gemm"


def _scale_inputs(editor: Editor, node: onnx.NodeProto, affine: Affine) -> None:
    weight = _weight(editor.index, node)
    assert weight is not None
    count = input_channels(node, weight)
    scale = per_input(node, weight, np.broadcast_to(affine.scale, count))
    shift = per_input(node, weight, np.broadcast_to(affine.shift, count))
    if affine.shift.any():
        bias = _bias(editor.index, node, output_channels(node, weight))
        assert bias is not None
        added = weight.astype(np.float64) * shift
        axis = 0 if node.op_type == "Conv" or attribute(node, "transB", 0) else 1
        total = added.sum(axis=tuple(i for i in range(weight.ndim) if i != axis))
        factor = float_attribute(node, "alpha", 1.0) if node.op_type == "Gemm" else 1.0
        _set_bias(editor, node, bias + factor * total)
    editor.set_constant(node, 1, (weight * scale).astype(np.float32))


def _bias(index: GraphIndex, node: onnx.NodeProto, count: int) -> Array | None:
    """Return what a node adds to each output channel; None where it is no vector of that."""
    if len(node.input) < 3 or not node.input[2]:
        return np.zeros(count)
    value = index.constant(node.input[2])
    if value is None or (value.size != 1 and value.shape[-1] != value.size):
        return None
    factor = float_attribute(node, "beta", 1.0) if node.op_type == "Gemm" else 1.0
    return np.broadcast_to(factor * value.astype(np.float64).ravel(), count)


def _set_bias(editor: Editor, node: onnx.NodeProto, value: Array) -> None:
    if not value.any() and len(node.input) < 3:
        return
    editor.set_constant(node, 2, value.astype(np.float32))
    for attr in list(node.attribute):
        if node.op_type == "Gemm" and attr.name == "beta":
            attr.f = 1.0
