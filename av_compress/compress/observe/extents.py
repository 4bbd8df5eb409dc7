# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Extents that a graph does not say, read off a run: arithmetic cannot be counted without them."""

from __future__ import annotations

import onnx
from onnx import helper

from av_compress.compress.graph import WEIGHTED, GraphIndex
from av_compress.compress.observe.calibrate import watching_session
from av_compress.tensors import Tensors


def with_extents(model: onnx.ModelProto, tensors: Tensors) -> onnx.ModelProto:
    """Return a model in which what weighted nodes read and make has the extents of one frame.

    For counting alone: other frames may have other extents. The same model where it says all.

    Args:
        model: FP32, with inferred shapes.
        tensors: one frame's inputs.

    Raises:
        ModelError: the model does not load.

    """
    index = GraphIndex(model)
    wanted = [
        name
        for node in index.graph.node
        if node.op_type in WEIGHTED
        for name in (node.input[0], node.output[0])
        if not all(index.shape(name) or (0,)) and name not in tensors
    ]
    unknown = list(dict.fromkeys(wanted))
    if not unknown:
        return model
    values = watching_session(model, unknown, threads=1).run(unknown, dict(tensors))
    sized = onnx.ModelProto()
    sized.CopyFrom(model)
    for info in (sized.graph.value_info, sized.graph.output):
        kept = [value for value in info if value.name not in set(unknown)]
        del info[:]
        info.extend(kept)
    sized.graph.value_info.extend(
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
        for name, v in zip(unknown, values)
    )
    return sized
