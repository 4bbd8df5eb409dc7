# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""OnnxParser and ParserError."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError

from trt_stand_in.facts import operators_not_read
from trt_stand_in.graph import Reading, RefusalError, read_graph
from trt_stand_in.limits import limits_of
from trt_stand_in.network import Layer, Network, Tensor
from trt_stand_in.world import Behaviour, World

# ONNX operator -> LayerType; others are element-wise arithmetic, or several layers.
_LAYER_TYPES = {
    "Conv": "CONVOLUTION",
    "ConvTranspose": "DECONVOLUTION",
    "QuantizeLinear": "QUANTIZE",
    "DequantizeLinear": "DEQUANTIZE",
    "MatMul": "MATRIX_MULTIPLY",
    "Gemm": "MATRIX_MULTIPLY",
    "Concat": "CONCATENATION",
    "Softmax": "SOFTMAX",
    "MaxPool": "POOLING",
    "AveragePool": "POOLING",
    "GlobalAveragePool": "REDUCE",
    "ReduceMean": "REDUCE",
    "Resize": "RESIZE",
    "Slice": "SLICE",
    "Gather": "GATHER",
    "Reshape": "SHUFFLE",
    "Transpose": "SHUFFLE",
    "Flatten": "SHUFFLE",
    "Squeeze": "SHUFFLE",
    "Unsqueeze": "SHUFFLE",
    "Shape": "SHAPE",
    "Cast": "CAST",
    "Constant": "CONSTANT",
    "Identity": "IDENTITY",
    "TopK": "TOPK",
    "Where": "SELECT",
    "Relu": "ACTIVATION",
    "Sigmoid": "ACTIVATION",
    "Tanh": "ACTIVATION",
    "Clip": "ACTIVATION",
    "LeakyRelu": "ACTIVATION",
    "Exp": "UNARY",
    "Sqrt": "UNARY",
    "Neg": "UNARY",
}


class ParserError(Behaviour):
    """Why a node is not read."""

    kind = "ParserError"

    def __init__(self, world: World, refusal: RefusalError) -> None:
        super().__init__(world)
        self.refusal = refusal

    def code(self) -> Any:
        known = self.world.has("ErrorCode", self.refusal.code)
        # 8.6 knows fewer.
        return self.world.enum("ErrorCode", self.refusal.code if known else "UNSUPPORTED_NODE")

    def desc(self) -> str:
        return self.refusal.text

    def node(self) -> int:
        return self.refusal.index

    def node_name(self) -> str:
        return self.refusal.name

    def node_operator(self) -> str:
        return self.refusal.operator

    def file(self) -> str:
        return "stand_in"

    func = file

    def line(self) -> int:
        return 0

    def local_function_stack(self) -> list[str]:
        return []

    def local_function_stack_size(self) -> int:
        return 0


class Parser(Behaviour):
    """Reads ONNX into a network, or says why not."""

    kind = "OnnxParser"

    def __init__(self, world: World, network: Network, logger: Any) -> None:
        super().__init__(world, logger)
        self.network = network
        self.flags = 0
        self.errors: list[ParserError] = []
        self.nodes: tuple[int, list[int]] = (0, [])

    @property
    def num_errors(self) -> int:
        return len(self.errors)

    def get_error(self, index: int) -> Any:
        if 0 <= index < len(self.errors):
            return self.errors[index]
        self.error(f"get_error: {index} is not below {len(self.errors)}")
        return None

    def clear_errors(self) -> None:
        self.errors.clear()

    def set_flag(self, flag: Any) -> None:
        self.flags |= 1 << int(flag)

    def clear_flag(self, flag: Any) -> None:
        self.flags &= ~(1 << int(flag))

    def get_flag(self, flag: Any) -> bool:
        return bool(self.flags >> int(flag) & 1)

    def get_used_vc_plugin_libraries(self) -> list[str]:
        return []

    def supports_operator(self, name: str) -> bool:
        known = any(s.name == name and s.domain == "" for s in onnx.defs.get_all_schemas())
        return known and name not in operators_not_read()

    def get_layer_output_tensor(self, name: str, index: int) -> Any:
        for layer in self.network.layers:
            if layer.name == name:
                return layer.get_output(index)
        return None

    def parse_from_file(self, path: str) -> bool:
        file = Path(path)
        if not file.is_file():
            return self._fail(
                RefusalError(f"Failed to open file: {path}", "MODEL_DESERIALIZE_FAILED")
            )
        return self._parse(file.read_bytes(), path)

    def parse(self, model: memoryview, path: str | None) -> bool:
        return self._parse(bytes(model), path)

    def parse_with_weight_descriptors(self, model: memoryview) -> bool:
        return self._parse(bytes(model), None)

    def supports_model_v2(self, model: memoryview, path: str | None) -> bool:
        return self._read(bytes(model), path) is not None

    def supports_model(self, model: memoryview, path: str | None) -> Any:
        ok = self._read(bytes(model), path) is not None
        return ok, [(list(range(self.nodes[0])), ok)]

    def _fail(self, refusal: RefusalError) -> bool:
        self.errors.append(ParserError(self.world, refusal))
        self.error(f"{refusal.code}: {refusal.text}")
        return False

    def _read(self, data: bytes, path: str | None) -> Reading | None:
        model = onnx.ModelProto()
        try:
            model.ParseFromString(data)
            if path is not None:
                onnx.load_external_data_for_model(model, str(Path(path).parent))
        except DecodeError:
            self._fail(RefusalError("Failed to parse the ONNX model.", "MODEL_DESERIALIZE_FAILED"))
            return None
        if not model.graph.node and not model.graph.output:
            self._fail(RefusalError("Failed to parse the ONNX model.", "MODEL_DESERIALIZE_FAILED"))
            return None
        self.nodes = (len(model.graph.node), [])
        try:
            return read_graph(model, limits_of(self.world, self.network))
        except RefusalError as refusal:
            self._fail(refusal)
            return None

    def _parse(self, data: bytes, path: str | None) -> bool:
        if self.network.layers or self.network.inputs:
            return self.refuse("Parse was called with a non-empty network definition")
        reading = self._read(data, path)
        if reading is None:
            return False
        fill(self.network, reading)
        return True


def fill(network: Network, reading: Reading) -> None:
    """Make a network's tensors and layers out of a graph that was read."""
    graph = reading.model.graph
    network.model, network.types = reading.model, reading.types
    for name, dtype in reading.types.items():
        member = dtype if network.world.has("DataType", dtype) else "FLOAT"
        shape = reading.shapes.get(name, ())
        made = Tensor(network, name, network.world.enum("DataType", member), shape)
        network.tensors[name] = made
    constants = {one.name for one in graph.initializer}
    network.inputs = [network.tensors[v.name] for v in graph.input if v.name not in constants]
    for value, tensor in zip([v for v in graph.input if v.name not in constants], network.inputs):
        tensor.is_network_input = True
        for axis, extent in enumerate(value.type.tensor_type.shape.dim):
            if extent.dim_param:
                tensor.axes[axis] = extent.dim_param
    network.outputs = [network.tensors[value.name] for value in graph.output]
    for tensor in network.outputs:
        tensor.is_network_output = True
    known = network.world.facts.enums["LayerType"]
    network.constants = set(reading.stored)
    for node in graph.node:
        if all(name in network.constants for name in node.input if name):
            network.constants.update(node.output)
    for node in graph.node:
        layer_type = _LAYER_TYPES.get(node.op_type, "ELEMENTWISE")
        network.layers.append(
            Layer(network, node, layer_type if layer_type in known else "IDENTITY")
        )
