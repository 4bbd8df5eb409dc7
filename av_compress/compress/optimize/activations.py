# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Activations in the form that a compiler fuses into the convolution before them.

Measured with TensorRT for RTX 1.7.1 (kernels of Conv + activation + Conv, FP32 and FP16 alike): it
fuses SiLU, HardSwish, GELU and Clip as operators and as exporters decompose them. A PRelu costs a
kernel of its own; a PRelu with one slope for all channels is a LeakyRelu, which does not.
"""

from __future__ import annotations

import onnx

from av_compress.compress.optimize.edit import Editor
from av_compress.compress.optimize.passes import Droppable


class RewriteActivations(Droppable):
    """PRelu with one slope for all channels becomes LeakyRelu."""

    name = "rewrite activations"

    def run(self, model: onnx.ModelProto) -> tuple[onnx.ModelProto, str]:
        """Rewrite every such PRelu."""
        editor = Editor(model)
        count = 0
        for node in editor.nodes:
            slope = editor.index.constant(node.input[1]) if node.op_type == "PRelu" else None
            if slope is not None and slope.size and (slope == slope.flat[0]).all():
                alpha = float(slope.flat[0])
                editor.replace_node(node, "LeakyRelu", [node.input[0]], alpha=alpha)
                count += 1
        if not count:
            return model, ""
        return editor.finish(), f"{count} PRelu with one slope became LeakyRelu"
