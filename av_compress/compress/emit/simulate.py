# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""An FP16 model as an FP32 one that rounds where the original would.

ONNX Runtime computes FP16 on a CPU in FP32 and drops the casts in between: it rounds no
activation, and nothing overflows. What it makes of an FP16 model says little of a device that
computes in FP16.

Where FP16 is no type in the graph but a flag of the builder (the `tensorrt_8` form), every node
that the model's note does not keep in FP32 is taken to compute in FP16, which is the most that a
builder may choose.
"""

from __future__ import annotations

import onnx
import onnx_ir as ir
from onnx import shape_inference

from av_compress.compress.emit import holds
from av_compress.compress.emit.builder_half import fp32_nodes

_FLOAT, _HALF = ir.DataType.FLOAT, ir.DataType.FLOAT16
# What comes out of these went in, so that it is rounded already.
_MOVING = frozenset(
    {
        *("Reshape", "Transpose", "Concat", "Slice", "Split", "Squeeze", "Unsqueeze", "Flatten"),
        *("Identity", "Gather", "GatherND", "GatherElements", "ScatterND", "ScatterElements"),
        *("Expand", "Tile", "DepthToSpace", "SpaceToDepth", "MaxPool", "Relu", "Min", "Max"),
        *("Clip", "Where", "ReduceMax", "ReduceMin", "GlobalMaxPool", "Neg", "Abs"),
    }
)
# These make the type that they say.
_SAY_TYPE = frozenset({"Cast", "Constant", "ConstantOfShape"})
# An integer kernel takes the integers behind DequantizeLinear, not what this makes of them.
_UNROUNDED = _MOVING | {"DequantizeLinear"}
# A builder's flag makes none of these FP16: their type is said, or they belong to a pair.
_FIXED = _SAY_TYPE | {"QuantizeLinear", "DequantizeLinear"}


def simulate_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model whose every FP16 tensor is FP32, rounded to FP16 by a pair of casts.

    Sums inside an operator stay FP32, as in the kernels of GPUs.

    Args:
        model: with FP16 tensors, or with the note that its builder may use FP16, or without
            either; it stays as it is. The types of its inputs and outputs stay too.

    """
    simulated = SimulateHalf()(ir.from_proto(shape_inference.infer_shapes(model))).model
    forced = fp32_nodes(model)
    if forced is not None:
        simulated = SimulateBuilderHalf(forced)(simulated).model
    return ir.to_proto(simulated)


class SimulateHalf(ir.passes.InPlacePass):
    """The simulation as a pass over a model with inferred shapes; see `simulate_half`."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Change types and insert casts."""
        graph = model.graph
        values = [v for v in graph.inputs if v.dtype == _HALF]
        values += [v for node in graph for v in node.outputs if v.dtype == _HALF]
        for constant in graph.initializers.values():
            if constant.dtype == _HALF and constant.const_value is not None:
                wide = constant.const_value.numpy().astype("float32")
                constant.const_value = ir.Tensor(wide, name=constant.name)
                constant.type = ir.TensorType(_FLOAT)
        for value in values:
            _widen(graph, value)
        return ir.passes.PassResult(model, modified=bool(values))


class SimulateBuilderHalf(ir.passes.InPlacePass):
    """The simulation of a builder's choice of FP16, over an FP32 model with inferred shapes."""

    def __init__(self, fp32: frozenset[str]) -> None:
        """Take the names of the nodes that stay FP32; see `builder_half`."""
        super().__init__()
        self._fp32 = fp32

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Round what FP16 nodes read and make."""
        graph = model.graph
        half = [node for node in graph if self._is_half(node)]
        rounded: dict[ir.Value, ir.Value] = {}
        for node in half:
            for position, value in tuple(holds.typed_inputs(node)):
                self._round_input(graph, node, position, value, rounded)
        for node in half:
            for made in node.outputs if node.op_type not in _UNROUNDED else ():
                if holds.is_float(made):
                    _round_everywhere(graph, made)
        return ir.passes.PassResult(model, modified=bool(half))

    def _is_half(self, node: ir.Node) -> bool:
        if node.op_type in _FIXED or node.name in self._fp32:
            return False
        return holds.has_type(node)

    def _round_input(
        self,
        graph: ir.Graph,
        node: ir.Node,
        position: int,
        value: ir.Value,
        rounded: dict[ir.Value, ir.Value],
    ) -> None:
        """Round a constant, or what came from outside or from an FP32 node."""
        constant, producer = holds.constant(value), value.producer()
        if constant is not None:
            half = holds.half_constant(node, position, constant).astype("float32")
            name = f"{node.name}_{position}_{value.name}_float16"
            made = ir.Value(name=name, type=ir.TensorType(_FLOAT), shape=value.shape)
            made.const_value = ir.Tensor(half, name=name)
            graph.register_initializer(made)
            node.replace_input_with(position, made)
        elif producer is None or not (
            self._is_half(producer) or producer.op_type == "DequantizeLinear"
        ):
            if value not in rounded:
                rounded[value] = _cast(graph, _cast(graph, value, _HALF), _FLOAT)
            node.replace_input_with(position, rounded[value])


def _round_everywhere(graph: ir.Graph, value: ir.Value) -> None:
    """Let all that read a tensor read it rounded; an output keeps its name."""
    readers = tuple(value.uses())
    wide = _cast(graph, _cast(graph, value, _HALF), _FLOAT)
    if value.is_graph_output():
        value.name, wide.name = wide.name, value.name
        graph.outputs[:] = [wide if v is value else v for v in graph.outputs]
    for reader, position in readers:
        reader.replace_input_with(position, wide)


def _widen(graph: ir.Graph, value: ir.Value) -> None:
    producer, readers = value.producer(), value.uses()
    rounded = value
    if producer is not None and producer.op_type not in _SAY_TYPE:
        value.type = ir.TensorType(_FLOAT)
        if producer.op_type in _UNROUNDED and not value.is_graph_output():
            return
        rounded = _cast(graph, value, _HALF)
    if value.is_graph_output() and rounded is not value:
        name, value.name = value.name, rounded.name
        rounded.name = name
        graph.outputs[:] = [rounded if v is value else v for v in graph.outputs]
    # A Cast reads any type, and subgraphs stay as they are.
    wanting = {n for n, _ in readers if n.graph is graph and n.op_type != "Cast"}
    wide = _cast(graph, rounded, _FLOAT) if wanting else rounded
    for reader, position in readers:
        reader.replace_input_with(position, wide if reader in wanting else rounded)


def _cast(graph: ir.Graph, value: ir.Value, to: ir.DataType) -> ir.Value:
    """Add a Cast right behind what makes a value."""
    name = f"{value.name}_{to.name.lower()}"
    made = ir.Value(name=name, type=ir.TensorType(to), shape=value.shape)
    how = [ir.AttrInt64("to", to)]
    node = ir.Node("", "Cast", [value], how, outputs=[made], name=f"{name}_Cast")
    producer = value.producer()
    if producer is None:
        graph.insert_before(graph[0], node)
    else:
        producer.append(node)
    return made
