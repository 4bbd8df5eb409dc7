# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Taking out what quantisation put in: the float graph that a form was emitted from."""

from __future__ import annotations

from collections.abc import Collection

import onnx
from onnx import helper, numpy_helper

from av_compress.compress.emit.insertion import DEQUANTIZED
from av_compress.compress.graph import GraphIndex, dequantised

_PAIR = frozenset({"QuantizeLinear", "DequantizeLinear"})


def strip(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model without its Q/DQ.

    A pair disappears, and whoever read it reads the tensor before it: of the `tensorrt` form on
    an FP32 base this gives back the model that was quantised, to the byte. Weights that are stored
    as integers (the `cpu` form) become the float constants that they stand for, each within half a
    step of the original, under the original's name where no other has it. A pair that also changed
    the type, from FP32 to FP16 or back, leaves a Cast.

    Args:
        model: any model with QuantizeLinear/DequantizeLinear; it stays as it is. What a
            DequantizeLinear makes of integers that some other node made stays too.

    """
    index = GraphIndex(model)
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    casts = _casts(index)
    renamed, added = _replacements(index, casts)
    taken_out = {name for name in renamed if name not in index.outputs}
    del graph.node[:]
    for source in model.graph.node:
        if source.output[0] in casts:
            graph.node.append(casts[source.output[0]])
            continue
        if source.op_type in _PAIR and _is_idle(index, source, taken_out | set(casts)):
            continue
        node = graph.node.add()
        node.CopyFrom(source)
        for position, name in enumerate(node.input):
            node.input[position] = renamed.get(name, name)
    used = {name for node in graph.node for name in node.input} | index.outputs
    read_before = {name for node in model.graph.node for name in node.input}
    kept = [t for t in graph.initializer if t.name in used or t.name not in read_before]
    del graph.initializer[:]
    graph.initializer.extend([*kept, *added])
    return result


def _casts(index: GraphIndex) -> dict[str, onnx.NodeProto]:
    """Return what stands for each pair whose scales have different types, by its output."""
    found = {}
    for node in index.graph.node:
        producer = index.producers.get(node.input[0]) if node.input else None
        if node.op_type != "DequantizeLinear" or producer is None:
            continue
        if producer.op_type != "QuantizeLinear":
            continue
        before, after = (index.constants.get(one.input[1]) for one in (producer, node))
        if before is None or after is None or before.data_type == after.data_type:
            continue
        found[node.output[0]] = helper.make_node(
            "Cast", [producer.input[0]], [node.output[0]], name=node.name, to=after.data_type
        )
    return found


def _replacements(
    index: GraphIndex, casts: Collection[str]
) -> tuple[dict[str, str], list[onnx.TensorProto]]:
    """Return what to read instead of each DequantizeLinear's output, and constants for it."""
    renamed: dict[str, str] = {}
    added: dict[str, onnx.TensorProto] = {}
    for node in index.graph.node:
        if node.op_type != "DequantizeLinear" or node.output[0] in casts:
            continue
        made, producer = node.output[0], index.producers.get(node.input[0])
        value = dequantised(index, node)
        if producer is not None and producer.op_type == "QuantizeLinear":
            renamed[made] = renamed.get(producer.input[0], producer.input[0])
        elif value is not None:
            name = _original_name(index, made)
            if name in index.constants or name in added or name in index.producers:
                name = made
            added[name] = numpy_helper.from_array(value, name)
            renamed[made] = name
    return renamed, list(added.values())


def _is_idle(index: GraphIndex, node: onnx.NodeProto, taken_out: set[str]) -> bool:
    """Tell whether everybody who read a Q or DQ reads something else now."""
    name = node.output[0]
    if node.op_type == "DequantizeLinear":
        return name in taken_out
    if name in index.outputs:
        return False
    readers = index.consumers.get(name, [])
    return all(r.op_type == "DequantizeLinear" and r.output[0] in taken_out for r in readers)


def _original_name(index: GraphIndex, made: str) -> str:
    """Undo `Inserter.store_input`'s naming: node, constant and a suffix."""
    name = made.removesuffix(DEQUANTIZED)
    for reader in index.consumers.get(made, []):
        name = name.removeprefix(f"{reader.name}_")
    return name
