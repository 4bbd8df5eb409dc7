# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""A plan's layers, and how the builder's log and the inspector write them.

One layer for each node that computes; nothing is fused. The log's form was read off TensorRT for
RTX 1.7. The inspector's two layouts are those of NVIDIA's page "Migrating IEngineInspector Usage
from TensorRT 10.x to 11.x": until 10 `Bindings` are names and a tensor has one field
`Format/Datatype`; from 11 on `I/O Tensors` are objects, with `Format` and `DataType` apart.
"""

from __future__ import annotations

import json
from typing import Any

from trt_stand_in.network import Layer, Network
from trt_stand_in.world import shape_text

Layers = tuple[dict[str, Any], ...]

SPELLINGS = {"FLOAT": "Float", "HALF": "Half", "BF16": "BFloat16", "INT8": "Int8"}
SPELLINGS |= {"INT32": "Int32", "INT64": "Int64", "BOOL": "Bool", "UINT8": "UInt8", "FP8": "FP8"}
_FORMATS = {"FLOAT": "FP32", "HALF": "FP16", "BF16": "BF16", "INT8": "INT8", "INT32": "INT32"}
_SILENT = {"Constant", "DequantizeLinear", "Identity"}
_KINDS = {"Conv": "correlation", "MatMul": "gemm", "Gemm": "gemm"}


def describe_layers(network: Network, config: Any) -> Layers:
    """Return a layer for each node that computes. INT8 is read where all pairs stand."""
    made_by = {t.name: layer for layer in network.layers for t in layer.outputs}
    return tuple(
        _describe(network, layer, made_by, config)
        for layer in network.layers
        if layer.operator not in _SILENT and not _is_constant(network, layer)
    )


def _is_constant(network: Network, layer: Layer) -> bool:
    return all(t.name in network.constants for t in layer.inputs if t is not None)


def _describe(network: Network, layer: Layer, made_by: dict[str, Layer], config: Any) -> dict:
    quantised = _reads_int8(layer, made_by)
    inputs, constants, nodes = [], [], [layer.name]
    for tensor in layer.inputs:
        if tensor is None:
            continue
        source = made_by.get(tensor.name)
        if quantised and source is not None and source.operator == "DequantizeLinear":
            nodes.append(source.name)
        read = _source(tensor, source if quantised else None)
        which = constants if read.name in network.constants else inputs
        which.append(_entry(network, read, layer, config))
    return {
        "name": f"{layer.name}_myl0_{network.layers.index(layer)}",
        "kind": _KINDS.get(layer.operator, "kgen"),
        "inputs": inputs,
        "constants": constants,
        "outputs": [_entry(network, tensor, layer, config) for tensor in layer.outputs],
        "nodes": nodes,
    }


def _source(tensor: Any, source: Layer | None) -> Any:
    """Return what is read where a pair's second half is left out."""
    if source is None or source.operator != "DequantizeLinear":
        return tensor
    return source.inputs[0] or tensor


def _reads_int8(layer: Layer, made_by: dict[str, Layer]) -> bool:
    sources = [made_by.get(tensor.name) if tensor else None for tensor in layer.inputs[:2]]
    return layer.operator in _KINDS and all(
        source is not None and source.operator == "DequantizeLinear" for source in sources
    )


def _entry(network: Network, tensor: Any, layer: Layer, config: Any) -> dict[str, Any]:
    dtype = tensor.dtype.name
    if dtype == "FLOAT" and not network.strongly_typed and config.flag("FP16"):
        outside = tensor.is_network_input or tensor.is_network_output
        dtype = "FLOAT" if layer.precision_is_set or outside else "HALF"
    return {"name": tensor.name, "shape": [max(e, 1) for e in tensor.shape], "dtype": dtype}


def _strides(shape: list[int]) -> list[int]:
    strides = [1]
    for extent in reversed(shape[1:]):
        strides.insert(0, strides[0] * extent)
    return strides[: len(shape)] if shape else []


def _tensor_text(entry: dict[str, Any]) -> str:
    order = list(reversed(range(len(entry["shape"]))))
    return (
        f"{{ Name: {entry['name']}, Dimensions: {shape_text(entry['shape'])}, "
        f"Strides: {shape_text(_strides(entry['shape']))}, StrideOrder: {shape_text(order)}, "
        f"Datatype: {SPELLINGS.get(entry['dtype'], entry['dtype'])}, "
        "Format: (Linear) Row major linear format }"
    )


def layer_text(layer: dict[str, Any]) -> str:
    """Return a layer's line in the builder's log."""
    inputs, constants, outputs = (
        ", ".join(map(_tensor_text, layer[key])) for key in ("inputs", "constants", "outputs")
    )
    middle = f"Constants: [ {constants}], " if constants else ""
    nodes = "\x1f".join(f"[ONNX Layer: {name}]" for name in layer["nodes"])
    return (
        f"Name: {layer['name']}, LayerType: {layer['kind']}, Inputs: [ {inputs}], "
        f"{middle}Outputs: [ {outputs}], TacticName: stand_in, StreamId: 0, Metadata: {nodes}"
    )


def log_text(layers: Layers) -> str:
    """Return what the builder's log says of all layers, in one message."""
    return "Layers:\n" + "\n".join(layer_text(layer) for layer in layers) + "\n"


def _json_tensor(entry: dict[str, Any], eleven: bool) -> dict[str, Any]:
    dtype = entry["dtype"]
    layout = f"Row major linear {_FORMATS.get(dtype, dtype)} format"
    named = {"Name": entry["name"], "Dimensions": entry["shape"]}
    if eleven:
        return named | {"Format": layout, "DataType": SPELLINGS.get(dtype, dtype)}
    return named | {"Format/Datatype": layout}


def layer_json(layer: dict[str, Any], verbosity: str, eleven: bool) -> Any:
    """Return a layer as the inspector does: its name alone where the plan holds no details."""
    if verbosity != "DETAILED":
        return layer["name"]
    return {
        "Name": layer["name"],
        "LayerType": layer["kind"],
        "Inputs": [_json_tensor(entry, eleven) for entry in layer["inputs"]],
        "Outputs": [_json_tensor(entry, eleven) for entry in layer["outputs"]],
        "Constants": [_json_tensor(entry, eleven) for entry in layer["constants"]],
        "TacticName": "stand_in",
        "StreamId": 0,
        "Metadata": "\x1f".join(f"[ONNX Layer: {name}]" for name in layer["nodes"]),
    }


def engine_json(header: Any, eleven: bool) -> str:
    """Return what the inspector says of an engine."""
    layers = [layer_json(layer, header.verbosity, eleven) for layer in header.layers]
    if not eleven:
        return json.dumps({"Layers": layers, "Bindings": [t["name"] for t in header.tensors]})
    return json.dumps({"Layers": layers, "I/O Tensors": [_io(t, header) for t in header.tensors]})


def _io(tensor: dict[str, Any], header: Any) -> dict[str, Any]:
    layout = f"Row major linear {_FORMATS.get(tensor['dtype'], tensor['dtype'])} format (kLINEAR)"
    names = ("MinShape", "OptShape", "MaxShape")
    return {
        "Name": tensor["name"],
        "IOMode": tensor["mode"].capitalize(),
        "DataType": SPELLINGS.get(tensor["dtype"], tensor["dtype"]),
        "Dimensions": tensor["shape"],
        "Location": "Device",
        "IsShapeInferenceIO": False,
        "ProfileInfo": [
            dict(zip(names, profile.get(tensor["name"], ()))) | {"Format": layout}
            for profile in header.profiles
        ],
    }
