# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The FP16 cast: every float node in FP16 but those whose values FP16 cannot hold.

A node has one float type for its inputs and outputs; a Cast stands wherever a tensor passes from
one type to the other, once a tensor, and at the graph's inputs and outputs, which stay FP32.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, shape_inference

from av_compress.compress.emit.insertion import DEQUANTIZED
from av_compress.compress.graph import GraphIndex
from av_compress.errors import ModelError
from av_compress.tensors import Array

# Beyond this, FP16's spacing of half a unit and more is felt in box coordinates, and what follows
# may overflow at 65504.
ACTIVATION_LIMIT = 512.0
_LARGEST = float(np.finfo(np.float16).max)
_SMALLEST = float(np.finfo(np.float16).smallest_subnormal)

# Inputs that have to stay FP32 whatever their node computes in.
# Nodes that know no FP16, or whose attributes make them write FP32.
_FP32_NODES = frozenset(
    {"NonMaxSuppression", "Constant", "ConstantOfShape", "EyeLike", "Range", "RoiAlign"}
)
_FP32_INPUTS: Mapping[str, tuple[int, ...]] = {"Resize": (1, 2), "Upsample": (1,)}


def to_fp16(model: onnx.ModelProto, magnitudes: Mapping[str, float]) -> onnx.ModelProto:
    """Cast a model, with or without Q/DQ, to FP16.

    Args:
        model: FP32 model; it stays as it is.
        magnitudes: tensor name -> largest magnitude seen in calibration; a tensor without an
            entry is taken to fit.

    Raises:
        ModelError: the model has control flow, whose subgraphs cannot be cast.

    """
    if any(a.type == onnx.AttributeProto.GRAPH for n in model.graph.node for a in n.attribute):
        raise ModelError("models with If, Loop or Scan cannot be cast; set precision.base: fp32")
    inferred = shape_inference.infer_shapes(model)
    return _Caster(inferred, magnitudes).cast()


class _Caster:
    def __init__(self, model: onnx.ModelProto, magnitudes: Mapping[str, float]) -> None:
        self._index = GraphIndex(model)
        self._magnitudes = magnitudes
        self._half = {node.name for node in model.graph.node if self._fits(node)}
        self._half -= self._dequantized_for_fp32()
        self._types = self._tensor_types()
        self._constants: dict[str, onnx.TensorProto] = {}
        self._casts: dict[str, onnx.NodeProto] = {}

    def cast(self) -> onnx.ModelProto:
        source = self._index.model
        nodes: list[onnx.NodeProto] = []
        for node in self._index.graph.node:
            changed = onnx.NodeProto()
            changed.CopyFrom(node)
            for position, name in enumerate(node.input):
                changed.input[position] = self._input(node, position, name, nodes)
            self._name_outputs(changed, nodes)
        result = onnx.ModelProto()
        result.CopyFrom(source)
        del result.graph.node[:], result.graph.initializer[:], result.graph.value_info[:]
        result.graph.node.extend(nodes)
        result.graph.initializer.extend(self._constants.values())
        return result

    def _name_outputs(self, node: onnx.NodeProto, nodes: list[onnx.NodeProto]) -> None:
        """Add a node; an FP16 result that is a graph output is cast back under its name."""
        back = []
        for position, name in enumerate(node.output):
            if name in self._index.outputs and self._types.get(name) == TensorProto.FLOAT16:
                node.output[position] = f"{name}_fp16"
                back.append(_cast(f"{name}_fp16", name, TensorProto.FLOAT))
        nodes.append(node)
        nodes.extend(back)

    def _input(
        self, node: onnx.NodeProto, position: int, name: str, nodes: list[onnx.NodeProto]
    ) -> str:
        if not name:
            return name
        half = node.name in self._half and position not in _FP32_INPUTS.get(node.op_type, ())
        wanted = TensorProto.FLOAT16 if half else TensorProto.FLOAT
        if name in self._index.constants:
            return self._constant(name, wanted)
        have = self._types.get(name)
        stored = f"{name}_fp16" if self._renamed(name) else name
        if node.op_type == "Cast" or have not in {TensorProto.FLOAT, TensorProto.FLOAT16}:
            return stored
        if have == wanted:
            return stored
        if have == TensorProto.FLOAT16 and name in self._index.outputs:
            return name
        made = f"{name}_{'fp16' if half else 'fp32'}"
        if made not in self._casts:
            self._casts[made] = self._converted(name, stored, made, wanted)
            nodes.append(self._casts[made])
        return made

    def _converted(self, name: str, stored: str, made: str, wanted: int) -> onnx.NodeProto:
        """Return what makes `made` out of `name`: a Cast, or another DequantizeLinear.

        A Cast behind DequantizeLinear would hide the pair from the node that reads it: TensorRT
        would compute that node in float.
        """
        producer = self._index.producers.get(name)
        if producer is None or producer.op_type != "DequantizeLinear":
            return _cast(stored, made, wanted)
        another = onnx.NodeProto()
        another.CopyFrom(producer)
        another.name, another.output[0] = f"{made}_{producer.op_type}", made
        another.input[1] = self._constant(producer.input[1], wanted)
        return another

    def _dequantized_for_fp32(self) -> set[str]:
        """Return what restores integers for FP32 nodes alone, and makes them of a constant."""
        found: set[str] = set()
        for node in reversed(self._index.graph.node):
            constant = node.op_type == "QuantizeLinear" and node.input[0] in self._index.constants
            if constant or node.op_type == "DequantizeLinear":
                readers = self._index.consumers.get(node.output[0], [])
                if not any(r.name in self._half and r.name not in found for r in readers):
                    found.add(node.name)
        return found

    def _renamed(self, name: str) -> bool:
        return name in self._index.outputs and self._types.get(name) == TensorProto.FLOAT16

    def _constant(self, name: str, wanted: int) -> str:
        tensor = self._index.constants[name]
        if tensor.data_type != TensorProto.FLOAT or wanted == TensorProto.FLOAT:
            self._constants.setdefault(name, tensor)
            return name
        made = f"{name}_fp16"
        if made not in self._constants:
            value = numpy_helper.to_array(tensor).astype(np.float16)
            self._constants[made] = numpy_helper.from_array(value, made)
        return made

    def _fits(self, node: onnx.NodeProto) -> bool:
        """Tell whether FP16 holds everything that a node reads and makes."""
        if node.op_type in _FP32_NODES:
            return False
        for name in (*node.input, *node.output):
            observed = name.removesuffix(DEQUANTIZED)
            if self._magnitudes.get(observed, 0.0) > ACTIVATION_LIMIT:
                return False
            tensor = self._index.constants.get(name)
            if tensor is not None and tensor.data_type == TensorProto.FLOAT:
                value = numpy_helper.to_array(tensor)
                if value.size and float(np.abs(value).max()) > _LARGEST:
                    return False
        return True

    def _tensor_types(self) -> dict[str, int]:
        types = {name: kind.elem_type for name, kind in self._index.types.items()}
        for node in self._index.graph.node:
            for name in node.output:
                # A Cast says itself what it makes.
                if node.name in self._half and node.op_type != "Cast" and types.get(name) == 1:
                    types[name] = TensorProto.FLOAT16
        return types


def half_scale(scale: Array) -> Array:
    """Round scales to what FP16 holds, up, so that nothing is clipped that was not before.

    Q and DQ may end in different types; a scale that is exact in both is the same to both.
    """
    half = scale.astype(np.float16)
    up = np.where(half.astype(np.float64) < scale, np.nextafter(half, np.float16(np.inf)), half)
    return np.asarray(np.maximum(up, np.float16(_SMALLEST)), np.float32)


def _cast(source: str, made: str, to: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [source], [made], name=f"{made}_Cast", to=to)
