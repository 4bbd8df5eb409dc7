# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What rules ask of a model: types, constants, and the way from a pair to its user."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx
from onnx import shape_inference

from av_compress.compress.graph import WEIGHTED, GraphIndex, attribute, content
from av_compress.compress.optimize.passes import opset_of
from av_compress.tensors import Array

QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"

# A pair takes effect through these: they move values or choose among them.
_COMMUTING = frozenset(
    {
        *("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Slice"),
        *("Gather", "Pad", "MaxPool", "Split", "DepthToSpace", "SpaceToDepth", "Concat"),
    }
)
# Behind one of these it does not.
_COMPUTING = frozenset(
    {
        *("Relu", "LeakyRelu", "PRelu", "Clip", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh"),
        *("Elu", "Softplus", "Mish", "Gelu", "BatchNormalization", "Resize", "Upsample"),
        *("AveragePool", "GlobalAveragePool", "Mul", "Add", "Sub", "Div", "Cast"),
    }
)


@dataclass(frozen=True)
class Arrival:
    """How a value comes to a node.

    Attributes:
        pair: the DequantizeLinear that it comes from; None where it never was integers.
        between: what stands in between and hides the pair; None where nothing does.
        axis: how the pair's axis lies in the value as the node sees it; None where the way
            changes the layout, or the pair has none.

    """

    pair: onnx.NodeProto | None
    between: onnx.NodeProto | None = None
    axis: int | None = None

    @property
    def quantised(self) -> bool:
        """Tell whether the node sees the pair."""
        return self.pair is not None and self.between is None


class LintView:
    """A model as rules look at it; the model stays as it is."""

    def __init__(self, model: onnx.ModelProto) -> None:
        """Infer the types of the model's tensors, as far as its faults allow."""
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        # What a file says of its inner tensors no parser reads.
        del copy.graph.value_info[:]
        self.source = copy
        try:
            inferred = shape_inference.infer_shapes(copy)
        except Exception:  # The inference raises RuntimeError and others by its version.
            inferred = copy
        whole = [node for node in inferred.graph.node if _is_whole(node)]
        if len(whole) < len(inferred.graph.node):
            inferred = _with_nodes(inferred, whole)
        self.index = GraphIndex(inferred)
        self.opset = opset_of(model)

    @cached_property
    def nodes(self) -> list[onnx.NodeProto]:
        """The nodes of the top-level graph that have what their operator cannot do without."""
        return list(self.index.graph.node)

    @cached_property
    def all_nodes(self) -> list[onnx.NodeProto]:
        """The nodes of the graph, of its subgraphs and of the model's own functions."""
        inner = [n for f in self.source.functions for n in _walk(list(f.node))]
        return [*_walk(list(self.source.graph.node)), *inner]

    def type_of(self, name: str) -> int:
        """Return a tensor's ONNX element type, 0 where it is unknown.

        What DequantizeLinear makes has the type of its scale, whatever the opset says.
        """
        seen: set[str] = set()
        while (producer := self._pair_making(name)) is not None and name not in seen:
            said = attribute(producer, "output_dtype", 0)
            if said:
                return said
            seen.add(name)
            name = str(producer.input[1])
        if name in self.index.constants:
            return int(self.index.constants[name].data_type)
        kind = self.index.types.get(name)
        return 0 if kind is None else int(kind.elem_type)

    def _pair_making(self, name: str) -> onnx.NodeProto | None:
        producer = self.index.producers.get(name)
        return producer if producer is not None and producer.op_type == DEQUANTIZE else None

    def rank(self, name: str) -> int | None:
        """Return how many axes a tensor has, None where it is unknown."""
        shape = self.index.shape(name)
        return None if shape is None else len(shape)

    def constant(self, name: str) -> Array | None:
        """Return the value of an initialiser or of a Constant node; None if it is unreadable."""
        tensor = self.index.constants.get(name)
        producer = self.index.producers.get(name)
        if tensor is None and producer is not None and producer.op_type == "Constant":
            tensor = next((a.t for a in producer.attribute if a.name == "value"), None)
        return None if tensor is None else content(tensor)

    def is_constant(self, name: str) -> bool:
        """Tell whether a tensor depends on constants alone."""
        return not name or name in self._constants

    @cached_property
    def _constants(self) -> frozenset[str]:
        found = set(self.index.constants)
        for node in self.nodes:
            if all(not name or name in found for name in node.input):
                found.update(node.output)
        return frozenset(found)

    def of_type(self, *op_types: str) -> list[onnx.NodeProto]:
        """Return the nodes of some types, in graph order."""
        return [node for node in self.nodes if node.op_type in op_types]

    @cached_property
    def weighted(self) -> list[tuple[onnx.NodeProto, Arrival, Arrival]]:
        """Nodes with weights: the node, how its activation comes, how its weight comes."""
        return [
            (node, self.arrival(node, 0), self.arrival(node, WEIGHTED[node.op_type]))
            for node in self.of_type(*WEIGHTED)
            if len(node.input) > WEIGHTED[node.op_type]
        ]

    def arrival(self, node: onnx.NodeProto, position: int) -> Arrival:
        """Follow an input back to its pair."""
        name, between = str(node.input[position]), None
        perms: list[list[int]] = []
        moved = False
        seen: set[str] = set()
        while (producer := self.index.producers.get(name)) is not None and name not in seen:
            seen.add(name)
            if producer.op_type == DEQUANTIZE:
                axis = None if moved else _moved(self.axis(producer), perms)
                return Arrival(producer, between, axis)
            if producer.op_type in _COMPUTING and not self._narrows(producer):
                between = between or producer
            elif producer.op_type == "Transpose":
                perms.append(_permutation(producer, self.rank(name) or 0))
            elif producer.op_type in _COMMUTING:
                moved = moved or producer.op_type not in {"Identity", "Slice", "MaxPool"}
            elif producer.op_type != "Cast":
                break
            name = str(producer.input[0])
        return Arrival(None)

    def axis(self, node: onnx.NodeProto) -> int | None:
        """Return the axis of a node with one scale a channel; None with one scale for all."""
        scale = self.index.shape(node.input[1])
        if not scale or scale == (1,):
            return None
        axis = attribute(node, "axis", 1)
        rank = self.rank(node.input[0])
        return axis + rank if axis < 0 and rank is not None else axis

    def integers(self, pair: onnx.NodeProto) -> Array | None:
        """Return the integers of a constant behind a pair, float64; None where it is none."""
        scale = self.constant(pair.input[1])
        made = self.index.producers.get(pair.input[0])
        if made is None:
            stored = self.constant(pair.input[0])
            return None if stored is None else stored.astype(np.float64)
        value = self.constant(made.input[0]) if made.op_type == QUANTIZE else None
        axis = self.axis(pair)
        if value is None or scale is None or not _is_axis(axis, value.ndim):
            return None
        if axis is not None:
            if scale.size != value.shape[axis]:
                return None
            scale = scale.reshape([-1 if i == axis else 1 for i in range(value.ndim)])
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            return np.asarray(np.rint(value.astype(np.float64) / scale))

    def _narrows(self, node: onnx.NodeProto) -> bool:
        """Tell whether a node is a Cast that a pair takes effect through: not to a wider type."""
        if node.op_type != "Cast":
            return False
        half = onnx.TensorProto.FLOAT16
        return attribute(node, "to", 0) == half or self.type_of(node.input[0]) != half


def _is_axis(axis: int | None, rank: int) -> bool:
    return axis is None or 0 <= axis < rank


def _is_whole(node: onnx.NodeProto) -> bool:
    """Tell whether a node has the inputs and outputs that the standard's operator needs.

    By its name alone, as rules and parsers look at it. What is missing, the checker says.
    """
    if not onnx.defs.has(node.op_type, ""):
        return True
    schema = onnx.defs.get_schema(node.op_type, "")
    return len(node.input) >= schema.min_input and len(node.output) >= schema.min_output


def _with_nodes(model: onnx.ModelProto, nodes: list[onnx.NodeProto]) -> onnx.ModelProto:
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)
    return model


def name_of(node: onnx.NodeProto) -> str:
    """Return a node's name; where it has none, its type and what it makes."""
    if node.name:
        return str(node.name)
    return f"{node.op_type} making {next((o for o in node.output if o), 'nothing')}"


def type_name(kind: int) -> str:
    """Return the name of an ONNX element type; its number where this ONNX has no name for it."""
    known = onnx.TensorProto.DataType.values()
    return str(onnx.TensorProto.DataType.Name(kind)) if kind in known else f"TYPE{kind}"


def _walk(nodes: list[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    for node in nodes:
        yield node
        for held in node.attribute:
            for graph in ([held.g] if held.HasField("g") else []) + list(held.graphs):
                yield from _walk(list(graph.node))


def _permutation(node: onnx.NodeProto, rank: int) -> list[int]:
    stored = next((list(a.ints) for a in node.attribute if a.name == "perm"), None)
    return stored or list(range(rank))[::-1]


def _moved(axis: int | None, perms: list[list[int]]) -> int | None:
    """Return where an axis lies behind transpositions, the last of them first."""
    for perm in reversed(perms):
        if axis is None or axis not in perm:
            return None
        axis = perm.index(axis)
    return axis
