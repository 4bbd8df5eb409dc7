# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Reads a graph as TensorRT's parser does: types from operand to result, node by node."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from trt_stand_in.facts import operators_not_read
from trt_stand_in.limits import Limits

NAMES = {
    TensorProto.FLOAT: "FLOAT",
    TensorProto.DOUBLE: "FLOAT",
    TensorProto.FLOAT16: "HALF",
    TensorProto.BFLOAT16: "BF16",
    TensorProto.INT8: "INT8",
    TensorProto.INT32: "INT32",
    TensorProto.INT64: "INT64",
    TensorProto.BOOL: "BOOL",
    TensorProto.UINT8: "UINT8",
    TensorProto.FLOAT8E4M3FN: "FP8",
    TensorProto.INT4: "INT4",
}
# Larger constants are not folded.
_FOLDED = 2**16


class RefusalError(Exception):
    """The parser refuses: why, and which node."""

    def __init__(
        self, text: str, code: str = "INVALID_NODE", node: Any = None, index: int = -1
    ) -> None:
        super().__init__(text)
        self.text, self.code, self.index = text, code, index
        self.name = node.name if node is not None else ""
        self.operator = node.op_type if node is not None else ""


@dataclass
class Reading:
    """A graph being read.

    Attributes:
        model: the model.
        limits: what the version takes.
        types: TensorRT's name of each tensor's type.
        shapes: extents, -1 where open; only of tensors whose rank is known.
        constants: what is known now.
        stored: names of tensors that the file holds.
        half_vectors: names of constants that have a vector of one FP16 scale.
        dequantised: names of activations that were integers.

    """

    model: onnx.ModelProto
    limits: Limits
    types: dict[str, str] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    constants: dict[str, Any] = field(default_factory=dict)
    stored: set[str] = field(default_factory=set)
    half_vectors: set[str] = field(default_factory=set)
    dequantised: set[str] = field(default_factory=set)

    @property
    def opset(self) -> int:
        return next((one.version for one in self.model.opset_import if not one.domain), 1)

    @property
    def functions(self) -> dict[str, onnx.FunctionProto]:
        return {function.name: function for function in self.model.functions}


def type_name(reading: Reading, elem_type: int, what: str) -> str:
    """Return TensorRT's name of an ONNX type.

    Raises:
        RefusalError: it has none.

    """
    name = NAMES.get(elem_type)
    if name == "INT64" and reading.limits.narrow:
        name = "INT32"
    if name is None or name not in reading.limits.types:
        spelled = TensorProto.DataType.Name(elem_type)
        raise RefusalError(f"{what} has the type {spelled}", "UNSUPPORTED_NODE")
    return name


def read_graph(model: onnx.ModelProto, limits: Limits) -> Reading:
    """Read a model.

    Raises:
        RefusalError: the parser refuses it.

    """
    from trt_stand_in.rules import check_node

    reading = Reading(model, limits)
    if limits.opset is not None and reading.opset > limits.opset:
        raise RefusalError(
            f"opset {reading.opset} is newer than {limits.opset}, the newest known",
            "UNSUPPORTED_GRAPH",
        )
    reading.shapes = infer_shapes(model)
    read_values(reading, model.graph)
    for index in _sorted(model.graph):
        node = model.graph.node[index]
        try:
            read_node(reading, node, check_node)
        except RefusalError as refusal:
            if refusal.index < 0:
                raise RefusalError(refusal.text, refusal.code, node, index) from refusal
            raise
    missing = [value.name for value in model.graph.output if value.name not in reading.types]
    if missing:
        raise RefusalError(f"output {missing[0]!r} is made by no node", "INVALID_GRAPH")
    return reading


def _sorted(graph: onnx.GraphProto) -> list[int]:
    """Return nodes' places in an order in which each reads only what is made."""
    makers = {name: i for i, node in enumerate(graph.node) for name in node.output if name}
    waits = {
        index: {makers[name] for name in node.input if name in makers}
        for index, node in enumerate(graph.node)
    }
    try:
        return list(TopologicalSorter(waits).static_order())
    except CycleError as error:
        raise RefusalError("Failed to sort the model topologically.", "INVALID_GRAPH") from error


def read_values(reading: Reading, graph: onnx.GraphProto) -> None:
    """Note what inputs and stored constants are."""
    for tensor in graph.initializer:
        reading.types[tensor.name] = type_name(reading, tensor.data_type, tensor.name)
        reading.constants[tensor.name] = numpy_helper.to_array(tensor)
        reading.shapes[tensor.name] = tuple(tensor.dims)
        reading.stored.add(tensor.name)
    for value in graph.input:
        kind = value.type.tensor_type.elem_type
        reading.types.setdefault(value.name, type_name(reading, kind, f"input {value.name!r}"))


def read_node(reading: Reading, node: onnx.NodeProto, check: Any) -> None:
    """Check one node, and note what it makes.

    Raises:
        RefusalError: the parser refuses it.

    """
    missing = [name for name in node.input if name and name not in reading.types]
    if missing:
        raise RefusalError(f"tensor {missing[0]!r} is made by no node", "INVALID_GRAPH")
    function = reading.functions.get(node.op_type)
    if function is not None:
        _read_function(reading, node, function, check)
        return
    if _unknown(node.op_type):
        raise RefusalError(
            "Plugin not found, are the plugin name, version, and namespace correct?"
        )
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            read_values(reading, attribute.g)
            for inner in attribute.g.node:
                read_node(reading, inner, check)
    check(reading, node)
    fold(reading, node)


def _unknown(op_type: str) -> bool:
    if op_type in operators_not_read():
        return True
    return not any(schema.name == op_type for schema in _schemas())


def _schemas() -> Iterable[Any]:
    return (schema for schema in onnx.defs.get_all_schemas() if schema.domain == "")


def _read_function(reading: Reading, node: Any, function: Any, check: Any) -> None:
    prefix = f"{node.name or node.output[0]}/"
    renamed = dict(zip(function.input, node.input)) | dict(zip(function.output, node.output))
    for inner in function.node:
        copy = onnx.NodeProto()
        copy.CopyFrom(inner)
        for names in (copy.input, copy.output):
            for index, name in enumerate(names):
                names[index] = renamed.get(name, prefix + name if name else name)
        read_node(reading, copy, check)


def fold(reading: Reading, node: onnx.NodeProto) -> None:
    """Note what a node makes of constants."""
    if node.op_type in {"If", "Loop", "Scan"}:
        return
    names = [name for name in node.input if name]
    if any(name not in reading.constants for name in names):
        return
    feeds = {name: reading.constants[name] for name in names}
    unknown = any(value is None for value in feeds.values())
    if unknown or _is_pair(node) or sum(map(np.size, feeds.values())) > _FOLDED:
        # Known to be constant, but not what.
        reading.constants.update(dict.fromkeys(node.output))
        return
    try:
        with np.errstate(all="ignore"):
            made = ReferenceEvaluator(_alone(reading, node)).run(None, feeds)
    except Exception:
        return
    reading.constants.update(zip(node.output, made))


def _is_pair(node: onnx.NodeProto) -> bool:
    return node.op_type in {"QuantizeLinear", "DequantizeLinear"}


def _alone(reading: Reading, node: onnx.NodeProto) -> onnx.ModelProto:
    values = [
        helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(reading.constants[name].dtype), None
        )
        for name in dict.fromkeys(node.input)
        if name
    ]
    outputs = [onnx.ValueInfoProto(name=name) for name in node.output]
    graph = helper.make_graph([node], "one", values, outputs)
    return helper.make_model(graph, opset_imports=list(reading.model.opset_import))


def infer_shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Return extents of all tensors whose rank ONNX can infer, -1 where open.

    Opset 19 first allowed scales of FP16: a model that has them in an older one is read as 19.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for one in copy.opset_import:
        if not one.domain and 13 <= one.version < 19:
            one.version = 19
    found: dict[str, tuple[int, ...]] = {}
    for attempt in (copy, model):
        try:
            inferred = onnx.shape_inference.infer_shapes(attempt, data_prop=True)
        except Exception:
            continue
        graph = inferred.graph
        for value in (*graph.input, *graph.value_info, *graph.output):
            if value.type.tensor_type.HasField("shape"):
                found.setdefault(value.name, _extents(value))
    return found


def _extents(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    return tuple(
        dim.dim_value if dim.HasField("dim_value") else -1
        for dim in value.type.tensor_type.shape.dim
    )
