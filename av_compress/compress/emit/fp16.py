# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The FP16 cast: float nodes in FP16 but those whose values it cannot hold, with few casts.

A node has one float type for what it reads and makes. The graph's inputs and outputs stay FP32,
and so do subgraphs. A Cast stands where a tensor passes from one type to the other, once a tensor.
Pairs need none: QuantizeLinear reads either type, and DequantizeLinear is there once for each type
that is read.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import onnx
import onnx_ir as ir
from onnx import shape_inference

from av_compress.compress.emit import holds
from av_compress.compress.emit.fp16_writer import HalfWriter
from av_compress.compress.emit.islands import HEAVY, TypedTensor, choose_half
from av_compress.compress.graph import WEIGHTED

# Operators whose time is arithmetic: FP16 halves it.
_HEAVY = frozenset({*WEIGHTED, "Einsum", "LSTM", "GRU", "RNN", "DeformConv", "Attention"})


def to_fp16(
    model: onnx.ModelProto,
    magnitudes: Mapping[str, float],
    fp32_nodes: Collection[str] = (),
) -> onnx.ModelProto:
    """Cast a model, with or without Q/DQ, to FP16.

    Args:
        model: FP32 model; it stays as it is.
        magnitudes: tensor name -> largest magnitude seen in calibration; a tensor without an
            entry is taken to fit.
        fp32_nodes: names of nodes that are to stay FP32.

    """
    return ir.to_proto(HalfPrecision(magnitudes, fp32_nodes)(_to_ir(model)).model)


def fp32_reasons(model: onnx.ModelProto, magnitudes: Mapping[str, float]) -> dict[str, str]:
    """Return the nodes whose values FP16 cannot hold, each with the reason; see `to_fp16`."""
    return _reasons(_to_ir(model).graph, magnitudes)


class HalfPrecision(ir.passes.InPlacePass):
    """The cast as a pass over a model with inferred shapes; see `to_fp16`."""

    def __init__(self, magnitudes: Mapping[str, float], fp32_nodes: Collection[str] = ()) -> None:
        """Prepare; see `to_fp16`."""
        super().__init__()
        self._magnitudes = magnitudes
        self._fp32_nodes = frozenset(fp32_nodes)

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Choose the nodes, then change types and insert casts."""
        graph = model.graph
        forced = self._fp32_nodes.union(_reasons(graph, self._magnitudes))
        costs = {
            str(node.name): HEAVY if node.op_type in _HEAVY else 1
            for node in graph
            if holds.has_type(node)
        }
        tensors = [_tensor(graph, value, forced) for value in _values(graph)]
        half = choose_half(costs, forced.intersection(costs), tensors)
        HalfWriter(graph, half, forced).write()
        return ir.passes.PassResult(model, modified=bool(half))


def _to_ir(model: onnx.ModelProto) -> ir.Model:
    return ir.from_proto(shape_inference.infer_shapes(model))


def _reasons(graph: ir.Graph, magnitudes: Mapping[str, float]) -> dict[str, str]:
    found = {
        str(node.name): holds.reason_for_fp32(node, magnitudes)
        for node in graph
        if holds.has_type(node)
    }
    return {name: reason for name, reason in found.items() if reason}


def _values(graph: ir.Graph) -> Iterator[ir.Value]:
    """Yield the float tensors that a change of type costs a cast."""
    yield from (value for value in graph.inputs if holds.is_float(value))
    for node in graph:
        if node.op_type != "DequantizeLinear":
            yield from (value for value in node.outputs if holds.is_float(value))


def _tensor(graph: ir.Graph, value: ir.Value, forced: frozenset[str]) -> TypedTensor:
    """Describe a tensor for the choice of types."""
    readings = [(use.node, holds.reading(graph, *use, forced)) for use in value.uses()]
    consumers = (str(node.name) for node, how in readings if how is holds.Reading.OWN)
    producer = value.producer()
    return TypedTensor(
        producer=None if producer is None else str(producer.name),
        consumers=tuple(dict.fromkeys(consumers)),
        read_in_fp32=value.is_graph_output()
        or any(how is holds.Reading.FP32 for _, how in readings),
    )
