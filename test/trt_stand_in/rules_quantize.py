# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What the parser refuses of QuantizeLinear and DequantizeLinear."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

from trt_stand_in.graph import NAMES, Reading, RefusalError
from trt_stand_in.operator_types import FLOATS

_STORED = frozenset({"INT8", "FP8", "INT4"})


def check_quantize(reading: Reading, node: onnx.NodeProto, given: dict[str, Any]) -> str:
    """Return the type of a QuantizeLinear's result.

    Raises:
        RefusalError: scale, zero point or types are not what the version takes.

    """
    scale = _scale(reading, node)
    kind = reading.types[node.input[0]]
    if kind not in FLOATS:
        raise RefusalError(f"QuantizeLinear does not take {kind}", "UNSUPPORTED_NODE_DATATYPE")
    _check_axis(reading, node, given, scale)
    made = _zero_point(reading, node, scale, given)
    # Zero points of other integers are read as if they were INT8.
    return made if made in {"FP8", "INT4"} else "INT8"


def check_dequantize(reading: Reading, node: onnx.NodeProto, given: dict[str, Any]) -> str:
    """Return the type of a DequantizeLinear's result: its scale's.

    Raises:
        RefusalError: scale, zero point or types are not what the version takes.

    """
    scale = _scale(reading, node)
    kind = reading.types[node.input[0]]
    if kind not in _STORED:
        raise RefusalError(f"DequantizeLinear does not take {kind}", "UNSUPPORTED_NODE_DATATYPE")
    half = reading.types[node.input[1]] == "HALF" and scale.shape == (1,)
    if half and node.input[0] in reading.constants:
        reading.half_vectors.add(node.output[0])
    if node.input[0] not in reading.constants:
        reading.dequantised.add(node.output[0])
    _check_axis(reading, node, given, scale)
    _zero_point(reading, node, scale, given)
    return reading.types[node.input[1]]


def _scale(reading: Reading, node: onnx.NodeProto) -> np.ndarray:
    scale = reading.constants.get(node.input[1])
    if scale is None:
        raise RefusalError("scale must be an initializer", "UNSUPPORTED_NODE_INPUT")
    if reading.types[node.input[1]] not in reading.limits.scales:
        raise RefusalError(f"a scale of type {reading.types[node.input[1]]}")
    values = np.asarray(scale, np.float64)
    if not np.all(values > 0):
        raise RefusalError("Scale coefficients must all be positive")
    return values


def _check_axis(reading: Reading, node: onnx.NodeProto, given: dict, scale: np.ndarray) -> None:
    shape = reading.shapes.get(node.input[0])
    if scale.ndim == 0 or scale.size == 1 or shape is None:
        return
    axis = given.get("axis", 1)
    axis += len(shape) * (axis < 0)
    if not 0 <= axis < len(shape) or shape[axis] not in {scale.size, -1}:
        raise RefusalError(f"{scale.size} scales do not fit axis {axis} of {list(shape)}")


def _zero_point(
    reading: Reading, node: onnx.NodeProto, scale: np.ndarray, given: dict[str, Any]
) -> str:
    name = node.input[2] if len(node.input) > 2 else ""
    if not name:
        if reading.limits.zero_point:
            raise RefusalError("a zero point is needed")
        return NAMES.get(given.get("output_dtype") or TensorProto.UINT8, "?")
    zero = reading.constants.get(name)
    if zero is None:
        raise RefusalError("zero point must be an initializer", "UNSUPPORTED_NODE_INPUT")
    if np.shape(zero) != scale.shape and not np.size(zero) == scale.size == 1:
        raise RefusalError("zero point and scale must be of one shape")
    if np.any(np.asarray(zero).astype(np.float32) != 0):
        raise RefusalError("Non-zero zero point is not supported.")
    return reading.types[name]
