# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Products without factors of their own: alpha A B + beta C becomes A B' + C'.

Whatever changes weights and biases later then says what the node computes; and quantised weights
have the factor in their scales, for nothing.
"""

from __future__ import annotations

import numpy as np
import onnx

from av_compress.compress.graph import float_attribute
from av_compress.compress.optimize.edit import Editor
from av_compress.compress.optimize.passes import Droppable


class PlainGemm(Droppable):
    """Alpha and beta of a Gemm, multiplied into a constant weight and a constant bias."""

    name = "plain gemm"

    def run(self, model: onnx.ModelProto) -> tuple[onnx.ModelProto, str]:
        """Multiply wherever there is a constant to take the factor."""
        editor = Editor(model)
        found = [node for node in editor.nodes if node.op_type == "Gemm" and not node.domain]
        count = 0
        for node in found:
            # Both, whatever the first says.
            taken = [_take(editor, node, "alpha", 1), _take(editor, node, "beta", 2)]
            count += any(taken)
        if not count:
            return model, ""
        return editor.finish(), f"factors of {count} Gemm went into weights and biases"


def _take(editor: Editor, node: onnx.NodeProto, name: str, position: int) -> bool:
    """Multiply one factor into the input that it is for; tell whether there was one to take."""
    factor = float_attribute(node, name, 1.0)
    if factor == 1.0:
        return False
    source = node.input[position] if len(node.input) > position else ""
    if source:
        value = editor.index.constant(source)
        if value is None:
            return False
        scaled = np.asarray(value.astype(np.float64) * factor, value.dtype)
        editor.set_constant(node, position, scaled)
    next(attr for attr in node.attribute if attr.name == name).f = 1.0
    editor.changed()
    return True
