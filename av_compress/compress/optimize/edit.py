# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Editing a graph: lookups that follow every change, edits that keep names at the borders."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from av_compress.compress.graph import GraphIndex, captured, holds_graphs, subgraphs
from av_compress.compress.names import free_name, tensor_names
from av_compress.compress.optimize.passes import copy_of, infer_shapes
from av_compress.tensors import Array


class Editor:
    """A copy of a model that is being rewritten. Names of inputs and outputs never change."""

    def __init__(self, model: onnx.ModelProto) -> None:
        """Start from `model`, which stays as it is."""
        self._model = copy_of(model)
        self.edits = 0

    @property
    def nodes(self) -> list[onnx.NodeProto]:
        """The nodes as they are now, in order."""
        return list(self._model.graph.node)

    @cached_property
    def index(self) -> GraphIndex:
        """Lookups in the graph as it is now."""
        return GraphIndex(self._model)

    def changed(self) -> None:
        """Say that the graph was edited in place: lookups are made anew."""
        self.edits += 1
        self.__dict__.pop("index", None)

    def infer(self) -> None:
        """Give new tensors their shapes."""
        self._model = infer_shapes(self._model)
        self.__dict__.pop("index", None)

    def forget(self, names: Sequence[str]) -> None:
        """Drop what is known of the shapes of inner tensors."""
        known = {value.name for value in self._model.graph.value_info}
        _keep(self._model.graph.value_info, known - set(names))
        self.changed()

    def constant(self, wanted: str, value: Array) -> str:
        """Add a constant under a free name and return that."""
        name = free_name(wanted, self._names())
        self._model.graph.initializer.append(
            numpy_helper.from_array(np.ascontiguousarray(value), name)
        )
        self.changed()
        return name

    def set_constant(self, node: onnx.NodeProto, position: int, value: Array) -> None:
        """Give a node's input another value, without touching what other nodes read."""
        old = node.input[position] if position < len(node.input) else ""
        wanted = f"{node.name}_{old or 'bias'}"
        shared = len(self.index.consumers.get(old, ())) > 1 or list(node.input).count(old) > 1
        if old in self.index.constants and not shared and old not in self.index.outputs:
            # Lookups hold the tensor itself: they see the new value.
            self.index.constants[old].CopyFrom(numpy_helper.from_array(value, old))
            self.edits += 1
            return
        name = self.constant(wanted, value)
        while len(node.input) <= position:
            node.input.append("")
        node.input[position] = name
        self.changed()

    def new_tensor(self, wanted: str) -> str:
        """Return a name that no tensor has."""
        return free_name(wanted, self._names())

    def insert_before(
        self,
        node: onnx.NodeProto,
        op_type: str,
        inputs: Sequence[str],
        output: str,
        **attributes: Any,
    ) -> onnx.NodeProto:
        """Insert a node right before another; its name is made of its output's."""
        position = self._position(node)
        self._model.graph.node.insert(position, self._node(op_type, inputs, output, attributes))
        self.changed()
        made: onnx.NodeProto = self._model.graph.node[position]
        return made

    def prepend(self, op_type: str, inputs: Sequence[str], output: str, **attributes: Any) -> None:
        """Add a node at the front, which reads inputs of the graph alone."""
        self._model.graph.node.insert(0, self._node(op_type, inputs, output, attributes))
        self.changed()

    def append(self, op_type: str, inputs: Sequence[str], output: str, **attributes: Any) -> None:
        """Add a node at the end."""
        self._model.graph.node.append(self._node(op_type, inputs, output, attributes))
        self.changed()

    def replace_node(
        self, old: onnx.NodeProto, op_type: str, inputs: Sequence[str], **attributes: Any
    ) -> None:
        """Let a node become another that makes the same tensors, under the same name."""
        made = helper.make_node(op_type, list(inputs), list(old.output), old.name, **attributes)
        old.CopyFrom(made)
        self.changed()

    def rename_made(self, old: str, new: str) -> None:
        """Give what a node makes another name, for the node and for all that read it."""
        producer = self.index.producers[old]
        for position, name in enumerate(producer.output):
            if name == old:
                producer.output[position] = new
        self.redirect(old, new)

    def redirect(self, old: str, new: str) -> None:
        """Let every node that reads a tensor read another; the graph's outputs stay."""
        for node in self._model.graph.node:
            _rename_inputs(node, old, new)
        self.changed()

    def can_bypass(self, node: onnx.NodeProto, source: str) -> bool:
        """Tell whether `bypass` works: an output of the graph needs a node that makes it."""
        index, made = self.index, node.output[0]
        if made not in index.outputs:
            return True
        producer = index.producers.get(source)
        return (
            producer is not None
            and source not in index.outputs
            and not any(source in captured(reader) for reader in index.consumers.get(source, ()))
        )

    def bypass(self, node: onnx.NodeProto, source: str) -> None:
        """Remove a node with one output; whoever read that reads `source`.

        Where the graph's output is what the node made, `source` is renamed to it.
        """
        made = node.output[0]
        self.remove(node)
        if made not in self.index.outputs:
            self.redirect(made, source)
            return
        self.rename_made(source, made)

    def remove(self, node: onnx.NodeProto) -> None:
        """Remove a node; what it made must be read by nobody, or redirected."""
        del self._model.graph.node[self._position(node)]
        self.changed()

    def sole_consumer(self, name: str) -> onnx.NodeProto | None:
        """Return the only node that reads a tensor; None where others or the outputs do."""
        consumers = self.index.consumers.get(name, [])
        alone = len(consumers) == 1 and name not in self.index.outputs
        if not alone or list(consumers[0].input).count(name) != 1:
            return None
        return consumers[0]

    def set_outputs(self, kept: Sequence[str], added: Sequence[onnx.ValueInfoProto]) -> None:
        """Let the graph's outputs be some that it has, and others."""
        outputs = [value for value in self._model.graph.output if value.name in set(kept)]
        del self._model.graph.output[:]
        self._model.graph.output.extend([*outputs, *added])
        self.changed()

    def finish(self) -> onnx.ModelProto:
        """Return the model without what nobody reads any more, and with shapes inferred."""
        graph = self._model.graph
        needed = set(self.index.outputs)
        for node in reversed(self.nodes):
            if any(name in needed for name in node.output if name):
                needed.update(node.input)
                needed.update(captured(node))
            else:
                self.remove(node)
        _keep(graph.initializer, needed)
        made = {name for node in graph.node for name in node.output}
        _keep(graph.value_info, made)
        return infer_shapes(self._model)

    def _node(
        self, op_type: str, inputs: Sequence[str], output: str, attributes: dict[str, Any]
    ) -> onnx.NodeProto:
        name = free_name(f"{op_type}_{output}", {n.name for n in self._model.graph.node})
        return helper.make_node(op_type, list(inputs), [output], name=name, **attributes)

    def _position(self, node: onnx.NodeProto) -> int:
        return next(i for i, n in enumerate(self._model.graph.node) if n.name == node.name)

    def _names(self) -> set[str]:
        return tensor_names(self._model.graph)


def _keep(values: Any, names: set[str]) -> None:
    kept = [value for value in values if value.name in names]
    del values[:]
    values.extend(kept)


def _rename_inputs(node: onnx.NodeProto, old: str, new: str) -> None:
    for position, name in enumerate(node.input):
        if name == old:
            node.input[position] = new
    if holds_graphs(node):
        for graph in subgraphs(node):
            for inner in graph.node:
                _rename_inputs(inner, old, new)
