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
