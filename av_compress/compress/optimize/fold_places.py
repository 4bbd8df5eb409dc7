# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Reordered values, read through reordered weights instead.

A channel shuffle before a convolution, or a transpose between a map and the matrix product that
reads it flattened, is an order of input channels: the weights take it, and the values stay.
"""

from __future__ import annotations

import numpy as np
import onnx

from av_compress.compress.graph import attribute
from av_compress.compress.layers import input_channels
from av_compress.compress.optimize.edit import Editor
from av_compress.compress.optimize.passes import Droppable
from av_compress.compress.optimize.places import Places
from av_compress.tensors import Array


class FoldPlaces(Droppable):
    """A new order of channels, or of what a flattened tensor holds, folded into the weights."""

    name = "fold places"

    def run(self, model: onnx.ModelProto) -> tuple[onnx.ModelProto, str]:
        """Reorder the weights of every node that reads reordered values."""
        editor = Editor(model)
        places = Places(editor.index)
        found = []
        for node in editor.nodes:
            order = _order_read(editor, places, node)
            if order is not None:
                found.append((node, places.root(node.input[0]), order))
        for node, root, order in found:
            _reorder(editor, node, root, order)
        if not found:
            return model, ""
        return (
            editor.finish(),
            f"reordered the weights of {', '.join(n.name for n, _, _ in found)}",
        )


def _order_read(editor: Editor, places: Places, node: onnx.NodeProto) -> Array | None:
    """Return which value of its source each input channel of a node is, if merely reordered."""
    root = places.root(node.input[0]) if node.input else ""
    if root == "" or root == node.input[0]:
        return None
    shape = _channels_read(editor, places, node, root)
    moved = None if shape is None else places.moved(root, node.input[0])
    if shape is None or moved is None or moved.size != np.prod(shape):
        return None
    frames, count, inner = shape
    grid = moved.reshape(shape)
    order = grid[0, :, 0] // inner
    first = np.arange(frames)[:, None, None] * count * inner
    same = np.array_equal(first + order[:, None] * inner + np.arange(inner), grid)
    new = not np.array_equal(order, np.arange(count))
    whole = np.array_equal(np.sort(order), np.arange(count))
    return order if same and new and whole else None


def _channels_read(
    editor: Editor, places: Places, node: onnx.NodeProto, root: str
) -> tuple[int, int, int] | None:
    """Return frames, channels and values a channel of what a node reads, as `root` has them too.

    None where its weights cannot take another order of channels.
    """
    weight = editor.index.weight(node)
    source, made = places.extents(root), places.extents(node.input[0])
    if weight is None or source is None or made is None or source[0] != made[0]:
        return None
    count = input_channels(node, weight)
    if node.op_type == "Conv" and attribute(node, "group", 1) == 1 and source == made:
        return made[0], count, int(np.prod(made[2:]))
    flat = node.op_type in {"Gemm", "MatMul"} and len(made) == 2 and weight.ndim == 2
    if flat and np.prod(source[1:]) == count and not attribute(node, "transA", 0):
        return made[0], count, 1
    return None


def _reorder(editor: Editor, node: onnx.NodeProto, root: str, order: Array) -> None:
    weight = editor.index.weight(node)
    assert weight is not None
    transposed = node.op_type == "Conv" or attribute(node, "transB", 0)
    axis = 1 if transposed else 0
    editor.set_constant(node, 1, np.ascontiguousarray(weight.take(np.argsort(order), axis)))
    if node.op_type != "Conv" and len(editor.index.shape(root) or ()) != 2:
        made = editor.new_tensor(f"{node.name}_flat")
        editor.insert_before(node, "Flatten", [root], made, axis=1)
        root = made
    node.input[0] = root
    editor.changed()
