# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What a loaded plan is made of, as the engine inspector tells it.

Its JSON lists layers with their tensors. Up to TensorRT 10 a tensor has one text for layout and
type (`Format/Datatype`: `Row major linear FP32`); from 11 on the type stands apart (`DataType`:
`Float`). Where a plan was not compiled with DETAILED verbosity, layers are names alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from av_compress.engines.plans.layers import PlanLayer, PlanTensor, nodes_of, only_synchronises
from av_compress.errors import EngineError

if TYPE_CHECKING:
    from tensorrt_api import ICudaEngine, TensorRT

# How texts of layouts name types -> TensorRT's names of types.
_TYPES = {
    "fp32": "Float",
    "fp16": "Half",
    "bf16": "BFloat16",
    "int8": "Int8",
    "uint8": "UInt8",
    "fp8": "FP8",
    "int32": "Int32",
    "int64": "Int64",
    "bool": "Bool",
    "int4": "Int4",
    "fp4": "FP4",
}
_TYPE = re.compile(r"\b(" + "|".join(_TYPES) + r")\b", re.IGNORECASE)


def inspect_layers(trt: TensorRT, engine: ICudaEngine) -> tuple[PlanLayer, ...]:
    """List the layers of a plan.

    Args:
        trt: the backend's module.
        engine: the loaded plan.

    Returns:
        The layers, but for those that only synchronise; none where the plan does not tell.

    Raises:
        EngineError: what the inspector says cannot be read.

    """
    text = engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    return read_layers(text)


def read_layers(text: str) -> tuple[PlanLayer, ...]:
    """Read the layers out of the inspector's JSON; see `inspect_layers`."""
    try:
        layers = json.loads(text)["Layers"]
        told = [layer for layer in layers if isinstance(layer, Mapping)]
        return tuple(_layer(layer) for layer in told if not only_synchronises(layer["LayerType"]))
    except (ValueError, KeyError, TypeError) as error:
        raise EngineError(f"what the engine inspector says cannot be read: {error!r}") from error


def _layer(layer: Mapping[str, Any]) -> PlanLayer:
    return PlanLayer(
        name=layer["Name"],
        kind=layer["LayerType"],
        inputs=_tensors(layer.get("Inputs", ())),
        constants=_tensors(layer.get("Constants", ())),
        outputs=_tensors(layer.get("Outputs", ())),
        tactic=str(layer.get("TacticName", "")),
        nodes=nodes_of(layer.get("Metadata", "")),
    )


def _tensors(tensors: Sequence[Mapping[str, Any]]) -> tuple[PlanTensor, ...]:
    return tuple(
        PlanTensor(
            name=tensor["Name"],
            shape=tuple(int(extent) for extent in tensor["Dimensions"]),
            dtype=_dtype(tensor),
            strides=tuple(int(stride) for stride in tensor.get("Strides", ())),
        )
        for tensor in tensors
    )


def _dtype(tensor: Mapping[str, Any]) -> str:
    if "DataType" in tensor:
        return str(tensor["DataType"])
    found = _TYPE.search(str(tensor["Format/Datatype"]))
    return _TYPES[found[1].lower()] if found else str(tensor["Format/Datatype"])
