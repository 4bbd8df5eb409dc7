# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Space-to-depth before a convolution, as in the focus of YOLOv5 and YOLOX, made strided.

A convolution over channels (pixel, row r, column c of s x s blocks) is one over the image itself:
its kernel's tap (i, j) of channel (pixel, r, c) becomes tap (s i + r, s j + c), its stride is s
times as long, and so is its padding, zeros in both. Its arithmetic stays; slices and joins go.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper

from av_compress.compress.graph import GraphIndex, attribute, int_list, text_attribute
from av_compress.compress.optimize.edit import Editor
from av_compress.compress.optimize.passes import Droppable
from av_compress.compress.optimize.places import Places
from av_compress.tensors import Array


@dataclass(frozen=True)
class Blocks:
    """A space-to-depth.

    Attributes:
        size: s, rows and columns of a block.
        channels: int [k], which channel of the image each channel is.
        rows: int [k], which row of the block.
        columns: int [k], which column of the block.

    """

    size: int
    channels: Array
    rows: Array
    columns: Array


class StrideFocus(Droppable):
    """Slices, joins or reshapes that make blocks into channels, folded into the convolution."""

    name = "stride focus"

    def run(self, model: onnx.ModelProto) -> tuple[onnx.ModelProto, str]:
        """Rewrite every convolution that reads a space-to-depth."""
        editor = Editor(model)
        places = Places(editor.index)
        found = []
        for node in editor.nodes:
            if node.op_type == "Conv" and _is_plain(editor.index, node):
                root = places.root(node.input[0])
                blocks = None if root == node.input[0] else blocks_of(places, root, node.input[0])
                if blocks is not None:
                    found.append((node, root, blocks))
        for node, root, blocks in found:
            _stride(editor, node, root, blocks)
        if not found:
            return model, ""
        names = ", ".join(node.name for node, _, _ in found)
        return editor.finish(), f"space-to-depth folded into {names}"


def blocks_of(places: Places, root: str, name: str) -> Blocks | None:
    """View what lies between two tensors as a space-to-depth; None where it is none."""
    image, made = places.extents(root), places.extents(name)
    if image is None or made is None or len(image) != 4 or len(made) != 4:
        return None
    count, height, width = made[1:]
    size = image[2] // max(height, 1)
    whole = (image[0], size * height, size * width) == (made[0], image[2], image[3])
    if size < 2 or not whole or count != image[1] * size * size:
        return None
    moved = places.moved(root, name)
    if moved is None or moved.shape != made:
        return None
    channels, rows, columns = np.unravel_index(moved[0, :, 0, 0], image[1:])
    if (rows >= size).any() or (columns >= size).any():
        return None
    down = rows[:, None] + size * np.arange(height)
    across = columns[:, None] + size * np.arange(width)
    inside = (channels[:, None, None] * image[2] + down[:, :, None]) * image[3] + across[:, None]
    frames = np.arange(image[0]) * int(np.prod(image[1:]))
    if not np.array_equal(moved, frames[:, None, None, None] + inside):
        return None
    return Blocks(size, channels, rows, columns)


def _is_plain(index: GraphIndex, node: onnx.NodeProto) -> bool:
    weight = index.weight(node)
    return (
        weight is not None
        and weight.ndim == 4
        and attribute(node, "group", 1) == 1
        and all(d == 1 for d in int_list(node, "dilations"))
        and text_attribute(node, "auto_pad", "NOTSET") in {"NOTSET", "VALID"}
    )


def _stride(editor: Editor, node: onnx.NodeProto, root: str, blocks: Blocks) -> None:
    weight = editor.index.weight(node)
    assert weight is not None
    size, (outputs, _, height, width) = blocks.size, weight.shape
    channels = int(blocks.channels.max()) + 1
    spread = np.zeros((outputs, channels, size * height, size * width), weight.dtype)
    for k, (channel, row, column) in enumerate(zip(blocks.channels, blocks.rows, blocks.columns)):
        spread[:, channel, row::size, column::size] = weight[:, k]
    strides = [size * s for s in int_list(node, "strides", [1, 1])]
    pads = [size * p for p in int_list(node, "pads", [0] * 4)]
    editor.set_constant(node, 1, spread)
    del node.attribute[:]
    node.attribute.extend(
        helper.make_attribute(key, value)
        for key, value in (
            ("kernel_shape", list(spread.shape[2:])),
            ("strides", strides),
            ("pads", pads),
        )
    )
    node.input[0] = root
    editor.changed()
