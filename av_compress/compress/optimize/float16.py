# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Models that come in FP16: cast up, so that what stays FP16 is decided by what was observed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from av_compress.compress.graph import subgraphs
from av_compress.compress.optimize.edit import Editor
from av_compress.compress.optimize.passes import Required

_HALF, _FLOAT = TensorProto.FLOAT16, TensorProto.FLOAT


class CastToFloat(Required):
    """FP16 constants and operators become FP32; the model's inputs and outputs stay FP16."""

    name = "cast to fp32"
    # The source rounds every tensor to 11 bits, what comes out of here does not.
    tolerance = 0.02

    def run(self, model: onnx.ModelProto) -> tuple[onnx.ModelProto, str]:
        """Cast everything, and the border back."""
        halves = sum(_is_half(model, graph) for graph in _graphs(model.graph))
        inputs = [v.name for v in model.graph.input if _type(v) == _HALF]
        outputs = [v.name for v in model.graph.output if _type(v) == _HALF]
        if not halves and not inputs and not outputs:
            return model, ""
        editor = Editor(model)
        for name in inputs:
            made = editor.new_tensor(f"{name}_fp32")
            editor.redirect(name, made)
            editor.prepend("Cast", [name], made, to=_FLOAT)
        for name in outputs:
            made = editor.new_tensor(f"{name}_fp32")
            editor.rename_made(name, made)
            editor.append("Cast", [made], name, to=_HALF)
        border = {*inputs, *outputs}
        changed = editor.finish()
        for graph in _graphs(changed.graph):
            _cast(graph, border)
        kept = f"; {', '.join([*inputs, *outputs])} stay FP16" if border else ""
        return changed, f"{_count(model)} constants cast from FP16 to FP32{kept}"


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """Yield a graph and all inside it."""
    yield graph
    for node in graph.node:
        for inner in subgraphs(node):
            yield from _graphs(inner)


def _type(value: onnx.ValueInfoProto) -> int:
    return int(value.type.tensor_type.elem_type)


def _is_half(model: onnx.ModelProto, graph: onnx.GraphProto) -> bool:
    tensors = any(tensor.data_type == _HALF for tensor in graph.initializer)
    return tensors or any(
        (a.t.data_type == _HALF) or (a.name in {"to", "dtype"} and a.i == _HALF)
        for node in graph.node
        for a in node.attribute
    )


def _count(model: onnx.ModelProto) -> int:
    return sum(t.data_type == _HALF for g in _graphs(model.graph) for t in g.initializer)


def _cast(graph: onnx.GraphProto, border: set[str]) -> None:
    for tensor in graph.initializer:
        _cast_tensor(tensor)
    for node in graph.node:
        for attr in node.attribute:
            if attr.type == onnx.AttributeProto.TENSOR:
                _cast_tensor(attr.t)
            elif attr.name in {"to", "dtype"} and attr.i == _HALF and node.output[0] not in border:
                attr.i = _FLOAT
    for value in (*graph.input, *graph.output, *graph.value_info):
        if _type(value) == _HALF and value.name not in border:
            value.type.tensor_type.elem_type = _FLOAT


def _cast_tensor(tensor: onnx.TensorProto) -> None:
    if tensor.data_type == _HALF:
        value = numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
