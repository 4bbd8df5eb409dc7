# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Pads folded into the convolutions and pools that read them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper

from av_compress.compress.graph import GraphIndex, attribute, int_list, text_attribute
from av_compress.compress.optimize.edit import Editor
from av_compress.compress.optimize.passes import Droppable

_LOWEST = float(np.finfo(np.float32).min)
# Operators whose results are never negative, and those that only pick or average what they read.
_NON_NEGATIVE = frozenset({"Relu", "Sigmoid", "HardSigmoid", "Softmax", "Exp", "Abs", "Softplus"})
_PASSING = frozenset(
    {
        *("MaxPool", "AveragePool", "GlobalAveragePool", "Concat", "Add", "Mul"),
        *("Identity", "Reshape", "Transpose", "Flatten"),
    }
)


@dataclass(frozen=True)
class Padding:
    """What a Pad adds.

    Attributes:
        source: the tensor that it pads.
        before: rows added at the start of each spatial axis.
        after: rows added at the end of each.
        value: of what is added.

    """

    source: str
    before: tuple[int, ...]
    after: tuple[int, ...]
    value: float


class FoldPad(Droppable):
    """Pad before a convolution or a pool becomes padding of its own, where that is exact."""

    name = "fold pad"

    def run(self, model: onnx.ModelProto) -> tuple[onnx.ModelProto, str]:
        """Fold every Pad into every reader that can take it."""
        editor = Editor(model)
        taken: Counter[str] = Counter()
        for node in editor.nodes:
            padding = _padding_before(editor.index, node)
            if padding is not None and _takes(editor.index, node, padding):
                _fold(editor, node, padding)
                taken[node.op_type] += 1
        if not taken:
            return model, ""
        what = ", ".join(f"{count} {op_type}" for op_type, count in sorted(taken.items()))
        return editor.finish(), f"folded into {what}"


def padding_of(index: GraphIndex, node: onnx.NodeProto) -> Padding | None:
    """View a node as spatial padding by a constant; None where it is anything else."""
    if node.op_type != "Pad" or text_attribute(node, "mode", "constant") != "constant":
        return None
    rank = len(index.shape(node.input[0]) or ())
    pads = index.constant(node.input[1])
    value = (
        np.zeros(1) if len(node.input) < 3 or not node.input[2] else index.constant(node.input[2])
    )
    if rank < 3 or pads is None or value is None:
        return None
    axes = np.arange(rank)
    if len(node.input) > 3 and node.input[3]:
        given = index.constant(node.input[3])
        if given is None:
            return None
        axes = given % rank
    full = np.zeros((2, rank), int)
    full[:, axes] = pads.reshape(2, -1)
    if (full < 0).any() or full[:, :2].any():
        return None
    before, after = (tuple(int(v) for v in row[2:]) for row in full)
    return Padding(node.input[0], before, after, float(value.ravel()[0]))


def _padding_before(index: GraphIndex, node: onnx.NodeProto) -> Padding | None:
    if node.op_type not in {"Conv", "AveragePool", "MaxPool"}:
        return None
    producer = index.producers.get(node.input[0])
    return None if producer is None else padding_of(index, producer)


def _takes(index: GraphIndex, node: onnx.NodeProto, padding: Padding) -> bool:
    if text_attribute(node, "auto_pad", "NOTSET") not in {"NOTSET", "VALID"}:
        return False
    if node.op_type == "Conv":
        return padding.value == 0
    if attribute(node, "ceil_mode", 0) or len(node.output) != 1:
        return False
    # Pools do not allow windows that see padding alone.
    kernel = int_list(node, "kernel_shape")
    if any(pad >= size for pad, size in zip(_total(node, padding), kernel * 2)):
        return False
    if node.op_type == "AveragePool":
        counted = attribute(node, "count_include_pad", 0) or not any(int_list(node, "pads"))
        return padding.value == 0 and bool(counted)
    # A maximum over at least one value >= 0 is not changed by what is smaller.
    return padding.value <= _LOWEST or (
        padding.value <= 0 and _is_non_negative(index, padding.source)
    )


def _is_non_negative(index: GraphIndex, name: str) -> bool:
    node = index.producers.get(name)
    if node is None:
        value = index.constant(name)
        return value is not None and bool((value >= 0).all())
    if node.op_type in _NON_NEGATIVE:
        return True
    if node.op_type == "Clip":
        lowest = index.constant(node.input[1]) if len(node.input) > 1 else None
        return lowest is not None and float(lowest.min()) >= 0
    if node.op_type in {"Reshape", "Transpose", "Flatten"}:
        return _is_non_negative(index, node.input[0])
    return node.op_type in _PASSING and all(_is_non_negative(index, n) for n in node.input)


def _total(node: onnx.NodeProto, padding: Padding) -> list[int]:
    added = [*padding.before, *padding.after]
    own = int_list(node, "pads", [0] * len(added))
    return [first + second for first, second in zip(own, added)]


def _fold(editor: Editor, node: onnx.NodeProto, padding: Padding) -> None:
    pads = _total(node, padding)
    kept = [a for a in node.attribute if a.name not in {"pads", "auto_pad", "count_include_pad"}]
    del node.attribute[:]
    node.attribute.extend(kept)
    node.attribute.append(helper.make_attribute("pads", pads))
    if node.op_type == "AveragePool":
        node.attribute.append(helper.make_attribute("count_include_pad", 1))
    node.input[0] = padding.source
    editor.changed()
