# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Casts that a graph could do without, found by walking it."""

from __future__ import annotations

from collections.abc import Collection

import onnx
from onnx import TensorProto


def types(model: onnx.ModelProto) -> dict[str, int]:
    """Return tensor name -> element type, by ONNX's own inference."""
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    graph = inferred.graph
    found = {v.name: v.type.tensor_type.elem_type for v in (*graph.value_info, *graph.output)}
    found |= {v.name: v.type.tensor_type.elem_type for v in graph.input}
    return found | {t.name: t.data_type for t in graph.initializer}


def casts(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if node.op_type == "Cast"]


def needless_casts(model: onnx.ModelProto, kept_fp32: Collection[str]) -> list[str]:
    """Describe every cast that could be removed, or merged with another.

    Args:
        model: with FP16 and FP32 nodes.
        kept_fp32: names of the nodes that have to be FP32.

    """
    kinds = types(model)
    made = {name: node for node in model.graph.node for name in node.output}
    found, seen = [], set()
    for node in casts(model):
        source, to = node.input[0], kinds[node.output[0]]
        if kinds[source] == to:
            found.append(f"{node.name} changes nothing")
        if source in made and made[source].op_type == "Cast":
            before = kinds[made[source].input[0]]
            if before == to and kinds[source] in {TensorProto.FLOAT, TensorProto.FLOAT16}:
                found.append(f"{node.name} casts back")
        if source in made and made[source].op_type == "DequantizeLinear":
            found.append(f"{node.name} parts a pair from its reader")
        if (source, to) in seen:
            found.append(f"{node.name} casts {source} once more")
        seen.add((source, to))
    return found + [f"{n} could be FP16" for n in _bridges(model, kinds, made, kept_fp32)]


def _bridges(model, kinds, made, kept_fp32) -> list[str]:
    """Find FP32 nodes between casts from FP16 and to FP16, that need not be FP32."""
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    outputs = {value.name for value in model.graph.output}

    def is_cast(node: onnx.NodeProto | None, to: int) -> bool:
        return node is not None and node.op_type == "Cast" and kinds[node.output[0]] == to

    found = []
    for node in model.graph.node:
        dynamic = [n for n in node.input if n in made and kinds.get(n) == TensorProto.FLOAT]
        floats = [n for n in node.output if kinds.get(n) == TensorProto.FLOAT]
        if node.op_type == "Cast" or node.name in kept_fp32 or not dynamic or not floats:
            continue
        # All that it reads is cast for it alone, and all that it makes is cast back.
        alone = all(
            is_cast(made[n], TensorProto.FLOAT)
            and kinds[made[n].input[0]] == TensorProto.FLOAT16
            and len(readers[n]) == 1
            for n in dynamic
        )
        back = all(
            n not in outputs and all(is_cast(r, TensorProto.FLOAT16) for r in readers[n])
            for n in floats
        )
        if alone and back:
            found.append(node.name)
    return found
