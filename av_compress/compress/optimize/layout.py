# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Reshapes, transposes, slices and joins of one tensor: chains of them made one, or none.

Channel shuffles stay as they are, unless weights can take them: the strided slices or gathers that
they come to save no kernel in TensorRT, and are slower than they in ONNX Runtime (measured).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from av_compress.compress.graph import attribute
from av_compress.compress.layers import input_channels
from av_compress.compress.optimize.edit import Editor
from av_compress.compress.optimize.passes import Droppable
from av_compress.compress.optimize.places import Places
from av_compress.tensors import Array


@dataclass(frozen=True)
class Form:
    """One operator that does what a chain of them does.

    Attributes:
        op_type: of the operator; empty where nothing is to be done.
        constants: its inputs behind the first.
        attributes: of the operator.

    """

    op_type: str
    constants: tuple[Array, ...]
    attributes: dict[str, Any]


class ShortenLayout(Droppable):
    """Chains of operators that only move values, each made the shortest that does the same."""

    name = "shorten layout"

    def run(self, model: onnx.ModelProto) -> tuple[onnx.ModelProto, str]:
        """Rewrite what others than these operators read."""
        editor = Editor(model)
        places = Places(editor.index)
        found = list(_chains(editor, places))
        for name, root, form in found:
            _rewrite(editor, name, root, form)
        if not editor.edits:
            return model, ""
        gone = sum(not form.op_type for _, _, form in found)
        said = [f"{gone} chains were nothing" if gone else ""]
        said.append(f"{len(found) - gone} became one operator" if len(found) > gone else "")
        return editor.finish(), ", ".join(filter(None, said))


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


def form_of(places: Places, root: str, name: str) -> Form | None:
    """Return the one operator that makes `name` of `root`, None where it takes more."""
    source, made = places.extents(root), places.extents(name)
    if source is None or made is None:
        return None
    moved = places.moved(root, name)
    if moved is None or moved.shape != made:
        return None
    if np.array_equal(moved.ravel(), np.arange(moved.size)) and moved.size == np.prod(source):
        if source == made:
            return Form("", (), {})
        return Form("Reshape", (places.target_shape(name),), {})
    return _transpose(source, moved) or _selection(source, moved)


def _transpose(source: tuple[int, ...], moved: Array) -> Form | None:
    if sorted(source) != sorted(moved.shape):
        return None
    numbers = np.arange(moved.size).reshape(source)
    # An axis of the result has the step of the axis that it was; axes of extent 1 come in order.
    steps = [
        int(np.diff(np.moveaxis(moved, axis, 0).reshape(extent, -1)[:2, 0])[0])
        if extent > 1
        else 0
        for axis, extent in enumerate(moved.shape)
    ]
    strides = [
        int(np.prod(source[axis + 1 :])) if extent > 1 else 0 for axis, extent in enumerate(source)
    ]
    perm: list[int] = []
    for step in steps:
        free = [axis for axis, stride in enumerate(strides) if stride == step and axis not in perm]
        if not free:
            return None
        perm.append(free[0])
    if not np.array_equal(numbers.transpose(perm), moved):
        return None
    return Form("Transpose", (), {"perm": perm})


def _selection(source: tuple[int, ...], moved: Array) -> Form | None:
    """View the result as a part of the source along one axis that is not the frames'."""
    if len(source) != moved.ndim:
        return None
    numbers = np.arange(np.prod(source)).reshape(source)
    for axis in range(1, len(source)):
        if source[:axis] + source[axis + 1 :] != moved.shape[:axis] + moved.shape[axis + 1 :]:
            continue
        first = moved[tuple(slice(None) if i == axis else 0 for i in range(moved.ndim))]
        picked = first // int(np.prod(source[axis + 1 :])) % source[axis]
        consecutive = np.array_equal(np.diff(picked), np.ones(picked.size - 1))
        if consecutive and np.array_equal(numbers.take(picked, axis), moved):
            return _slice(int(picked[0]), int(picked[-1]) + 1, axis)
    return None


def _slice(start: int, end: int, axis: int) -> Form:
    values = (start, end, axis)
    return Form("Slice", tuple(np.array([value], np.int64) for value in values), {})


def _chains(editor: Editor, places: Places) -> Iterator[tuple[str, str, Form]]:
    """Yield tensors that are read for their values, their roots, and shorter ways to make them."""
    index = editor.index
    for node in editor.nodes:
        for name in node.output:
            root = places.root(name)
            if root == name or not (name in index.outputs or _is_read(editor, places, name)):
                continue
            if len(places.between(root, name)) < 2 and index.shape(root) != index.shape(name):
                continue
            form = form_of(places, root, name)
            if form is None or (form.op_type and len(places.between(root, name)) < 2):
                continue
            if form.op_type or _can_vanish(editor, node, name, root):
                yield name, root, form


def _is_read(editor: Editor, places: Places, name: str) -> bool:
    """Tell whether a tensor is read by more than what carries its values further on."""
    return any(
        places.root(made) == made
        for reader in editor.index.consumers.get(name, ())
        for made in reader.output
    )


def _can_vanish(editor: Editor, node: onnx.NodeProto, name: str, root: str) -> bool:
    if name not in editor.index.outputs:
        return True
    return len(node.output) == 1 and editor.can_bypass(node, root)


def _rewrite(editor: Editor, name: str, root: str, form: Form) -> None:
    node = editor.index.producers[name]
    if not form.op_type:
        if name in editor.index.outputs:
            editor.bypass(node, root)
        else:
            editor.redirect(name, root)
        return
    inputs = [root, *(editor.constant(f"{name}_place", value) for value in form.constants)]
    if len(node.output) == 1:
        editor.replace_node(node, form.op_type, inputs, **form.attributes)
    elif name not in editor.index.outputs:
        made = editor.new_tensor(f"{name}_placed")
        editor.insert_before(node, form.op_type, inputs, made, **form.attributes)
        editor.redirect(name, made)


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
