# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Writing FP16 into a graph: types, rounded constants, casts, and pairs in either type."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from av_compress.compress.emit import holds
from av_compress.compress.names import take_name
from av_compress.tensors import Array

_FLOAT, _HALF = ir.DataType.FLOAT, ir.DataType.FLOAT16
_SUFFIXES = {_FLOAT: "_fp32", _HALF: "_fp16"}


class HalfWriter:
    """Writes one choice of FP16 nodes into a graph."""

    def __init__(self, graph: ir.Graph, half: frozenset[str], forced: frozenset[str]) -> None:
        """Prepare.

        Args:
            graph: an FP32 graph; `write` changes it.
            half: the nodes to compute in FP16.
            forced: the nodes that cannot.

        """
        self._graph, self._half, self._forced = graph, half, forced
        self._nodes = tuple(graph)
        made = (value for node in self._nodes for value in node.outputs)
        self._floats = [value for value in (*graph.inputs, *made) if holds.is_float(value)]
        self._names = set(ir.convenience.create_value_mapping(graph))
        self._node_names = {str(node.name) for node in self._nodes}
        self._halves: dict[str, ir.Value] = {}

    def write(self) -> None:
        """Change the graph."""
        for node in self._nodes:
            if node.op_type == "DequantizeLinear":
                self._give_both_types(node)
            elif node.name in self._half:
                self._change_outputs(node)
        for value in self._floats:
            self._cast_readers(value)
        for node in tuple(self._graph):
            self._round_constants(node)
        for node in self._nodes:
            self._drop_idle_cast(node)
        self._drop_unused_constants()

    def _readers(self, value: ir.Value, kind: ir.DataType) -> list[tuple[ir.Node, int]]:
        """Return the readers of a tensor, and which of their inputs it is, that want a type."""
        return [(n, position) for n, position in value.uses() if self._wants(n, position) == kind]

    def _wants(self, node: ir.Node, position: int) -> ir.DataType | None:
        how = holds.reading(self._graph, node, position, self._forced)
        if how is holds.Reading.ANY:
            return None
        half = how is holds.Reading.OWN and node.name in self._half
        return _HALF if half else _FLOAT

    def _give_both_types(self, node: ir.Node) -> None:
        """Let readers of a pair have it in their type; a Cast would keep them from fusing."""
        made = node.outputs[0]
        if not holds.is_float(made) or node.name in self._forced:
            return
        fp32 = self._readers(made, _FLOAT)
        if made.is_graph_output() or (fp32 and len(fp32) == len(made.uses())):
            # What some of them could have in FP16, they get by a Cast.
            return
        _set_type(made, _HALF)
        if fp32:
            twin = self._twin(node)
            for reader, position in fp32:
                reader.replace_input_with(position, twin)

    def _twin(self, node: ir.Node) -> ir.Value:
        made = node.outputs[0]
        twin = self._value(f"{made.name}_fp32", made, _FLOAT)
        node.append(
            ir.Node(
                "",
                node.op_type,
                node.inputs,
                attributes=tuple(node.attributes.values()),
                outputs=[twin],
                name=take_name(f"{node.name}_fp32", self._node_names),
            )
        )
        return twin

    def _change_outputs(self, node: ir.Node) -> None:
        for made in node.outputs:
            if holds.is_float(made):
                _set_type(made, _HALF)
        if node.op_type == "Cast":
            node.attributes["to"] = ir.AttrInt64("to", _HALF)

    def _cast_readers(self, value: ir.Value) -> None:
        """Insert the one Cast of a tensor, if any reader wants the other type."""
        other = _FLOAT if value.dtype == _HALF else _HALF
        readers = self._readers(value, other)
        is_output = value.is_graph_output() and other == _FLOAT and value.name is not None
        if not readers and not is_output:
            return
        name = str(value.name)
        if is_output:
            value.name = self._free(f"{name}{_SUFFIXES[_HALF]}")
            cast = self._cast(value, name, other)
            outputs = self._graph.outputs
            outputs[:] = [cast if output is value else output for output in outputs]
        else:
            cast = self._cast(value, self._free(f"{name}{_SUFFIXES[other]}"), other)
        for reader, position in readers:
            reader.replace_input_with(position, cast)

    def _cast(self, value: ir.Value, name: str, to: ir.DataType) -> ir.Value:
        made = ir.Value(name=name, type=ir.TensorType(to), shape=value.shape)
        attributes = [ir.AttrInt64("to", to)]
        called = take_name(f"{name}_Cast", self._node_names)
        node = ir.Node("", "Cast", [value], attributes, outputs=[made], name=called)
        producer = value.producer()
        if producer is None:
            self._graph.insert_before(self._graph[0], node)
        else:
            producer.append(node)
        return made

    def _round_constants(self, node: ir.Node) -> None:
        own = self._type_of(node)
        for position, value in enumerate(node.inputs):
            if value is None or value.const_value is None or not holds.is_float(value):
                continue
            if own == _HALF and not holds.reads_fp32(node, position):
                node.replace_input_with(position, self._half_of(node, position, value))

    def _type_of(self, node: ir.Node) -> ir.DataType | None:
        """Return the type of a node's constants."""
        if node.op_type == "DequantizeLinear":
            return node.outputs[0].dtype
        if node.op_type == "QuantizeLinear" and node.name not in self._forced:
            source = node.inputs[0]
            if source is not None and source.const_value is not None:
                # Nobody has given it a type yet: it takes that of its pair.
                readers = node.outputs[0].consumers()
                return _HALF if any(r.outputs[0].dtype == _HALF for r in readers) else _FLOAT
            return None if source is None else source.dtype
        return _HALF if node.name in self._half else _FLOAT

    def _half_of(self, node: ir.Node, position: int, value: ir.Value) -> ir.Value:
        name = str(value.name)
        if name not in self._halves:
            array: Array = holds.half_constant(node, position, np.asarray(holds.constant(value)))
            made = self._value(f"{name}{_SUFFIXES[_HALF]}", value, _HALF)
            made.const_value = ir.Tensor(array, name=made.name)
            self._graph.register_initializer(made)
            self._halves[name] = made
        return self._halves[name]

    def _drop_idle_cast(self, node: ir.Node) -> None:
        """Remove a Cast of the source that has become one to the type that it reads."""
        if node.op_type != "Cast" or node.inputs[0] is None:
            return
        source, made = node.inputs[0], node.outputs[0]
        if source.dtype == made.dtype and not made.is_graph_output():
            made.replace_all_uses_with(source)
            self._graph.remove(node, safe=True)

    def _drop_unused_constants(self) -> None:
        for name, value in tuple(self._graph.initializers.items()):
            if not value.uses() and not value.is_graph_output() and not value.is_graph_input():
                del self._graph.initializers[name]

    def _value(self, name: str, like: ir.Value, kind: ir.DataType) -> ir.Value:
        return ir.Value(name=self._free(name), type=ir.TensorType(kind), shape=like.shape)

    def _free(self, wanted: str) -> str:
        return take_name(wanted, self._names)


def _set_type(value: ir.Value, kind: ir.DataType) -> None:
    # A new object: values may share the type that they were read with.
    value.type = ir.TensorType(kind)
