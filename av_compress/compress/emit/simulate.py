# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""An FP16 model as an FP32 one that rounds where the original would.

ONNX Runtime computes FP16 on a CPU in FP32 and drops the casts in between: it rounds no
activation, and nothing overflows. What it makes of an FP16 model says little of a device that
computes in FP16.
"""

from __future__ import annotations

import onnx
import onnx_ir as ir
from onnx import shape_inference

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


def simulate_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model whose every FP16 tensor is FP32, rounded to FP16 by a pair of casts.

    Sums inside an operator stay FP32, as in the kernels of GPUs.

    Args:
        model: with FP16 tensors, or without any; it stays as it is. The types of its inputs and
            outputs stay too.

    """
    return ir.to_proto(SimulateHalf()(ir.from_proto(shape_inference.infer_shapes(model))).model)


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
