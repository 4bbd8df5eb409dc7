# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Networks whose types do not come from the graph: TensorRT 8.6, and DLA up to TensorRT 10.

There flags say which types the builder may choose from, and constraints what a layer has to
compute in. The parser names a layer after its node, and where a node becomes several layers,
numbers them (`NAME_1`); layers that it adds around a node have no name of the model.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING

from av_compress.engines.tensorrt.module import member

if TYPE_CHECKING:
    from tensorrt_api import IBuilderConfig, ILayer, INetworkDefinition, ITensor, TensorRT

_NUMBERED = re.compile(r"^(?P<name>.*)_\d+$")


def choose_types(
    trt: TensorRT,
    network: INetworkDefinition,
    config: IBuilderConfig,
    fp32_nodes: Collection[str] | None,
    by_ranges: bool,
) -> None:
    """Allow the types that a model asks for, and bind the nodes that have to stay FP32.

    Args:
        trt: the backend's module.
        network: parsed.
        config: is changed.
        fp32_nodes: nodes that FP16 does not hold; None: no FP16 at all.
        by_ranges: whether INT8 comes from ranges; otherwise from pairs, where there are any.

    Raises:
        UsageError: this version has no such flag.

    """
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    if by_ranges or any(layer.type == trt.LayerType.QUANTIZE for layer in layers):
        config.set_flag(member(trt.BuilderFlag, "INT8", "flag"))
    if fp32_nodes is None:
        return
    config.set_flag(member(trt.BuilderFlag, "FP16", "flag"))
    bound = [layer for layer in layers if _made_of(layer.name, fp32_nodes)]
    if bound:
        config.set_flag(member(trt.BuilderFlag, "OBEY_PRECISION_CONSTRAINTS", "flag"))
    for layer in bound:
        _bind_to_fp32(trt, layer)


def give_ranges(network: INetworkDefinition, ranges: Mapping[str, float]) -> None:
    """Give tensors the ranges that INT8 stands for: symmetric, largest magnitudes.

    Tensors without a range compute in what else is allowed.
    """
    for tensor in _tensors(network):
        if tensor.name in ranges:
            limit = float(ranges[tensor.name])
            tensor.set_dynamic_range(-limit, limit)


def _made_of(layer: str, nodes: Collection[str]) -> bool:
    numbered = _NUMBERED.match(layer)
    return layer in nodes or (numbered is not None and numbered["name"] in nodes)


def _bind_to_fp32(trt: TensorRT, layer: ILayer) -> None:
    floats = {trt.DataType.FLOAT, trt.DataType.HALF}
    outputs = [layer.get_output(index) for index in range(layer.num_outputs)]
    # Shapes and indices are integers, and stay.
    if not outputs or any(output.dtype not in floats for output in outputs):
        return
    # What a pair makes keeps the types of the pair.
    if layer.type in {trt.LayerType.QUANTIZE, trt.LayerType.DEQUANTIZE}:
        return
    layer.precision = trt.DataType.FLOAT
    for index in range(layer.num_outputs):
        layer.set_output_type(index, trt.DataType.FLOAT)


def _tensors(network: INetworkDefinition) -> Iterator[ITensor]:
    for index in range(network.num_inputs):
        yield network.get_input(index)
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        for place in range(layer.num_outputs):
            yield layer.get_output(place)
