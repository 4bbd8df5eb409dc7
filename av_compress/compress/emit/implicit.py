# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Quantisation by ranges instead of pairs, for devices that know no pairs.

DLA up to TensorRT 10 takes the range of each tensor, either tensor by tensor or as a calibration
cache. Both are read off the pairs of a quantised model, so that what serves was calibrated once.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

import numpy as np
import onnx

from av_compress.compress.emit.strip import strip
from av_compress.compress.graph import GraphIndex

# A symmetric range's largest integer.
_LARGEST = 127


def without_pairs(model: onnx.ModelProto) -> tuple[onnx.ModelProto, dict[str, float]]:
    """Return a model without its pairs, and what they said.

    A tensor that several pairs read with different scales takes the widest range. Scales of
    weights are left out: the builder takes these from the weights.

    Args:
        model: with Q/DQ pairs; it stays as it is.

    Returns:
        The float model, and for each quantised activation the largest magnitude that INT8 stands
        for, float: tensor -> 127 times the scale.

    """
    index = GraphIndex(model)
    ranges: dict[str, float] = {}
    for node in model.graph.node:
        if node.op_type != "QuantizeLinear" or node.input[0] in index.constants:
            continue
        scale = index.constant(node.input[1])
        if scale is None or scale.size != 1:
            continue
        limit = float(np.float64(scale.reshape(-1)[0]) * _LARGEST)
        ranges[node.input[0]] = max(limit, ranges.get(node.input[0], 0.0))
    return strip(model), ranges


def calibration_cache(ranges: Mapping[str, float], version: str) -> str:
    """Write ranges as a calibration cache of TensorRT's entropy calibrator.

    One line a tensor: its name and its scale, the bits of an FP32 number in hexadecimal digits,
    most significant first. The first line names the calibrator and TensorRT's version, by which
    TensorRT decides whether it reads the rest.

    Args:
        ranges: tensor -> largest magnitude.
        version: of TensorRT, e.g. `10.3.0`.

    """
    major, minor, patch = ([int(part) for part in version.split(".")[:3]] + [0, 0])[:3]
    number = (
        major * 1000 + minor * 100 + patch if major < 10 else major * 10000 + minor * 100 + patch
    )
    lines = [f"TRT-{number}-EntropyCalibration2"]
    for name, limit in ranges.items():
        lines.append(f"{name}: {struct.pack('>f', limit / _LARGEST).hex()}")
    return "\n".join(lines) + "\n"
