# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Weights that are stored as integers, made float: they are quantised anew, with known errors."""

from __future__ import annotations

import onnx

from av_compress.compress.graph import dequantised
from av_compress.compress.optimize.edit import Editor
from av_compress.compress.optimize.passes import Droppable


class DequantizeConstants(Droppable):
    """DequantizeLinear of constants becomes a constant; onnxslim folds all others."""

    name = "dequantize constants"

    def run(self, model: onnx.ModelProto) -> tuple[onnx.ModelProto, str]:
        """Fold every one."""
        editor = Editor(model)
        count = 0
        for node in editor.nodes:
            if node.op_type != "DequantizeLinear" or node.output[0] in editor.index.outputs:
                continue
            value = dequantised(editor.index, node)
            if value is not None:
                editor.redirect(node.output[0], editor.constant(f"{node.output[0]}_float", value))
                count += 1
        if not count:
            return model, ""
        return editor.finish(), f"{count} weights stored as integers became float"
