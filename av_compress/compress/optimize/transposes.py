# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Transposes that cancel across element-wise operators: channels-last islands of other tools.

Where every value that enters a group of element-wise operators comes through one transpose, and
every value that leaves it goes through the inverse, the group computes the same without them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx

from av_compress.compress.graph import GraphIndex, attribute, int_list
from av_compress.compress.optimize.edit import Editor
from av_compress.compress.optimize.passes import Droppable

_UNARY = frozenset(
    {
        *("Relu", "LeakyRelu", "Sigmoid", "Tanh", "Clip", "Elu", "Selu", "HardSwish"),
        *("HardSigmoid", "Softplus", "Mish", "Gelu", "Exp", "Log", "Sqrt", "Neg", "Abs", "Erf"),
        *("Cast", "Identity", "Floor", "Ceil", "Round", "Reciprocal"),
    }
)
_BINARY = frozenset({"Add", "Sub", "Mul", "Div", "Pow", "Min", "Max", "PRelu"})
# No Softmax: over another axis than the last it costs TensorRT more than the transposes.


@dataclass(frozen=True)
class Island:
    """Element-wise operators between transposes.

    Attributes:
        perm: of the transposes that lead in.
        inner: the operators, in no order.
        entries: the transposes that lead in.
        exits: the transposes that lead out.

    """

    perm: tuple[int, ...]
    inner: tuple[onnx.NodeProto, ...]
    entries: tuple[onnx.NodeProto, ...]
    exits: tuple[onnx.NodeProto, ...]


class CancelTransposes(Droppable):
    """Transposes and their inverses, with element-wise operators in between."""

    name = "cancel transposes"

    def run(self, model: onnx.ModelProto) -> tuple[onnx.ModelProto, str]:
        """Cancel until no island is left."""
        editor = Editor(model)
        count = 0
        while (island := _find(editor)) is not None:
            count += len(island.entries) + len(island.exits)
            _dissolve(editor, island)
            editor.infer()
        if not count:
            return model, ""
        return editor.finish(), f"cancelled {count} transposes"


def _find(editor: Editor) -> Island | None:
    for node in editor.nodes:
        if node.op_type == "Transpose":
            island = _island_before(editor, node)
            if island is not None:
                return island
    return None


def _island_before(editor: Editor, leaving: onnx.NodeProto) -> Island | None:
    """Return the island that a transpose leads out of; None where it is not closed."""
    shore = _Shore(editor.index, _perm(leaving))
    if not shore.reach(leaving.input[0]) or not shore.inner:
        return None
    exits = tuple(shore.exits.values())
    if not shore.entries or not all(editor.can_bypass(n, n.input[0]) for n in exits):
        return None
    return Island(shore.perm, tuple(shore.inner.values()), tuple(shore.entries.values()), exits)


class _Shore:
    """Walks an island, both ways, until only transposes are left around it."""

    def __init__(self, index: GraphIndex, out: tuple[int, ...]) -> None:
        self._index = index
        self._out = out
        self.perm = tuple(int(axis) for axis in np.argsort(out))
        self.inner: dict[str, onnx.NodeProto] = {}
        self.entries: dict[str, onnx.NodeProto] = {}
        self.exits: dict[str, onnx.NodeProto] = {}

    def reach(self, name: str) -> bool:
        """Take in what makes a tensor; False where the sea is not reached."""
        node = self._index.producers.get(name)
        if name in self._index.constants:
            return True
        if node is None:
            return False
        if node.op_type == "Transpose" and _perm(node) == self.perm:
            self.entries[node.name] = node
            return True
        return self._take(node)

    def _take(self, node: onnx.NodeProto) -> bool:
        if node.name in self.inner:
            return True
        if len(node.output) != 1 or not _moves(self._index, node, len(self.perm)):
            return False
        made = node.output[0]
        if made in self._index.outputs:
            return False
        self.inner[node.name] = node
        return all(self.reach(name) for name in _data(node) if name) and all(
            self._leave(reader) for reader in self._index.consumers.get(made, ())
        )

    def _leave(self, reader: onnx.NodeProto) -> bool:
        if reader.op_type == "Transpose" and _perm(reader) == self._out:
            self.exits[reader.name] = reader
            return True
        return self._take(reader)


def _moves(index: GraphIndex, node: onnx.NodeProto, rank: int) -> bool:
    """Tell whether an operator does the same to transposed values."""
    shape = index.shape(node.output[0])
    if shape is None or len(shape) != rank or node.domain:
        return False
    if node.op_type in _UNARY or node.op_type == "Concat":
        return True
    # Tensors of another rank would be broadcast along other axes.
    return node.op_type in _BINARY and all(
        name in index.constants or len(index.shape(name) or ()) == rank for name in node.input
    )


def _data(node: onnx.NodeProto) -> list[str]:
    many = node.op_type in _BINARY or node.op_type == "Concat"
    return list(node.input) if many else [node.input[0]]


def _dissolve(editor: Editor, island: Island) -> None:
    rank = len(island.perm)
    before = {node.output[0]: node.input[0] for node in island.entries}
    for node in island.inner:
        if node.op_type == "Concat":
            _set_axis(node, island.perm[attribute(node, "axis", -1) % rank])
        for position, name in enumerate(node.input):
            if position >= len(_data(node)):
                continue
            if name in before:
                node.input[position] = before[name]
            elif name in editor.index.constants:
                _turn_constant(editor, node, position, island.perm)
    editor.changed()
    # What the operators made is now of another shape: what is known of it is no longer so.
    editor.forget([node.output[0] for node in island.inner])
    for node in island.exits:
        editor.bypass(node, node.input[0])


def _set_axis(node: onnx.NodeProto, axis: int) -> None:
    kept = [a for a in node.attribute if a.name != "axis"]
    del node.attribute[:]
    node.attribute.extend([*kept, onnx.helper.make_attribute("axis", axis)])


def _turn_constant(
    editor: Editor, node: onnx.NodeProto, position: int, perm: tuple[int, ...]
) -> None:
    value = editor.index.constant(node.input[position])
    assert value is not None
    if value.size == 1:
        return
    full = value.reshape((1,) * (len(perm) - value.ndim) + value.shape)
    editor.set_constant(node, position, np.ascontiguousarray(full.transpose(np.argsort(perm))))


def _perm(node: onnx.NodeProto) -> tuple[int, ...]:
    return tuple(int_list(node, "perm"))
