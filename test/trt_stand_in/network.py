# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""INetworkDefinition, ITensor and ILayer: what a parser fills and a builder reads."""

from __future__ import annotations

from typing import Any

import onnx

from trt_stand_in.world import Behaviour, World

WEAK_FLAGS = ("FP16", "INT8", "BF16", "FP8", "INT4", "FP4")


class Tensor(Behaviour):
    """A tensor of a network."""

    kind = "ITensor"

    def __init__(self, network: Network, name: str, dtype: Any, shape: tuple[int, ...]) -> None:
        super().__init__(network.world, network.logger)
        self.network = network
        self.name, self._dtype, self._shape = name, dtype, shape
        self.is_network_input = self.is_network_output = False
        self.is_shape_tensor, self.is_execution_tensor = False, True
        self.broadcast_across_batch = False
        self.allowed_formats = 2 ** len(self.world.facts.enums["TensorFormat"]) - 1
        self.location = self.world.enum("TensorLocation", "DEVICE")
        self._range: tuple[float, float] | None = None
        self.axes: dict[int, str] = {}

    @property
    def dtype(self) -> Any:
        return self._dtype

    @dtype.setter
    def dtype(self, value: Any) -> None:
        if self.network.refuses_weak("ITensor::setType"):
            return
        self._dtype = value

    @property
    def shape(self) -> tuple[int, ...]:
        return self._shape

    @shape.setter
    def shape(self, value: tuple[int, ...]) -> None:
        if not self.is_network_input:
            self.error("ITensor::setDimensions: only of network inputs")
            return
        self._shape = value

    @property
    def dynamic_range(self) -> Any:
        return self._range

    @dynamic_range.setter
    def dynamic_range(self, value: Any) -> None:
        self.set_dynamic_range(*value)

    def set_dynamic_range(self, least: float, most: float) -> bool:
        if self.network.refuses_weak("ITensor::setDynamicRange") or not least <= most:
            return False
        self._range = (least, most)
        return True

    def reset_dynamic_range(self) -> None:
        self._range = None

    def get_dimension_name(self, index: int) -> str | None:
        return self.axes.get(index)

    def set_dimension_name(self, index: int, name: str) -> None:
        self.axes[index] = name


class Layer(Behaviour):
    """A layer: here, one for each node."""

    kind = "ILayer"

    def __init__(self, network: Network, node: onnx.NodeProto, layer_type: str) -> None:
        super().__init__(network.world, network.logger)
        self.network, self.operator = network, node.op_type
        self.name = node.name or f"node_of_{node.output[0]}"
        self.metadata = f"[ONNX Layer: {self.name}]"
        self.type = self.world.enum("LayerType", layer_type)
        self.inputs = [network.tensors.get(name) for name in node.input if name]
        self.outputs = [network.tensors[name] for name in node.output if name in network.tensors]
        self._precision: Any = None
        self.output_types: dict[int, Any] = {}
        self.num_ranks = 1

    @property
    def num_inputs(self) -> int:
        return len(self.inputs)

    @property
    def num_outputs(self) -> int:
        return len(self.outputs)

    def get_input(self, index: int) -> Any:
        return self.inputs[index] if 0 <= index < len(self.inputs) else None

    def get_output(self, index: int) -> Any:
        return self.outputs[index] if 0 <= index < len(self.outputs) else None

    @property
    def precision(self) -> Any:
        return self._precision or self.world.enum("DataType", "FLOAT")

    @precision.setter
    def precision(self, value: Any) -> None:
        if not self.network.refuses_weak("ILayer::setPrecision"):
            self._precision = value

    @property
    def precision_is_set(self) -> bool:
        return self._precision is not None

    def reset_precision(self) -> None:
        self._precision = None

    def set_output_type(self, index: int, dtype: Any) -> None:
        if self.network.refuses_weak("ILayer::setOutputType") or self.get_output(index) is None:
            return
        self.output_types[index] = dtype

    def get_output_type(self, index: int) -> Any:
        output = self.get_output(index)
        return self.output_types.get(index, output.dtype if output else None)

    def output_type_is_set(self, index: int) -> bool:
        return index in self.output_types

    def reset_output_type(self, index: int) -> None:
        self.output_types.pop(index, None)


class Network(Behaviour):
    """A network. Only a parser fills it: what builds one layer by layer is not here.

    Attributes:
        model: what was parsed.
        types: TensorRT's name of each tensor's type.
        constants: names of tensors that do not depend on the inputs.

    """

    kind = "INetworkDefinition"

    def __init__(self, world: World, builder: Any, flags: int) -> None:
        super().__init__(world, builder.logger)
        self.builder, self.flags = builder, flags
        self.name = "Unnamed Network 0"
        self.model: onnx.ModelProto | None = None
        self.types: dict[str, str] = {}
        self.constants: set[str] = set()
        self.tensors: dict[str, Tensor] = {}
        self.inputs: list[Tensor] = []
        self.outputs: list[Tensor] = []
        self.layers: list[Layer] = []
        self.has_implicit_batch_dimension = not self.explicit_batch
        self.has_explicit_precision = False

    @property
    def explicit_batch(self) -> bool:
        """8.6 alone has networks without a batch."""
        old = self.world.facts.number[0] == 8 and not self.world.facts.rtx
        return not old or bool(self.flags & 1)

    @property
    def strongly_typed(self) -> bool:
        """Tell whether types come from the graph alone."""
        if not self.world.has("BuilderFlag", "FP16"):
            return True
        flags = self.world.enums["NetworkDefinitionCreationFlag"].__members__
        return "STRONGLY_TYPED" in flags and bool(self.flags >> int(flags["STRONGLY_TYPED"]) & 1)

    def refuses_weak(self, member: str) -> bool:
        """Log an error where types are set of a strongly typed network."""
        if self.strongly_typed:
            self.error(f"{member}: the network is strongly typed: its types are the graph's")
        return self.strongly_typed

    @property
    def num_inputs(self) -> int:
        return len(self.inputs)

    @property
    def num_outputs(self) -> int:
        return len(self.outputs)

    @property
    def num_layers(self) -> int:
        return len(self.layers)

    def get_flag(self, flag: Any) -> bool:
        return bool(self.flags >> int(flag) & 1)

    def get_input(self, index: int) -> Any:
        return self.inputs[index] if 0 <= index < len(self.inputs) else None

    def get_output(self, index: int) -> Any:
        return self.outputs[index] if 0 <= index < len(self.outputs) else None

    def get_layer(self, index: int) -> Any:
        return self.layers[index] if 0 <= index < len(self.layers) else None

    def mark_output(self, tensor: Tensor) -> None:
        tensor.is_network_output = True
        if tensor not in self.outputs:
            self.outputs.append(tensor)

    def unmark_output(self, tensor: Tensor) -> None:
        tensor.is_network_output = False
        self.outputs = [one for one in self.outputs if one is not tensor]

    def mark_debug(self, tensor: Tensor) -> bool:
        return tensor.name in self.tensors

    def tensor_type(self, name: str) -> Any:
        """Return the member of DataType that a type's name stands for."""
        return self.world.enum("DataType", name)
