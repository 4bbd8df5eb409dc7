# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The `tensorrt_fp8` form: pairs as in the `tensorrt` form, of E4M3 floats instead of integers.

E4M3 has 4 bits of exponent and 3 of mantissa: the largest number is 448, and full precision
reaches down to a 28672th of it. A scale only moves values into that reach. To clip them, which
buys integers a finer step, buys nothing here, so the scale comes from the largest magnitude
(Micikevicius et al., FP8 Formats for Deep Learning, 2022).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import ml_dtypes
import numpy as np
import onnx

from av_compress.compress.emit import tensorrt
from av_compress.compress.emit.insertion import (
    Quantiser,
    Ranges,
    symmetric_activation,
    symmetric_weight,
)
from av_compress.compress.plan.precision import PrecisionPlan, PrecisionRules
from av_compress.tensors import Array

LARGEST = 448


def adapt(rules: PrecisionRules) -> PrecisionRules:
    """Quantise depthwise convolutions without migrated scales: a float bears unlike channels."""
    return replace(rules, depthwise=rules.depthwise or rules.migrate, migrate=False)


def emit(
    model: onnx.ModelProto,
    plan: PrecisionPlan,
    ranges: Ranges,
    magnitudes: Mapping[str, float],
) -> onnx.ModelProto:
    """Write the form; see `quantize.quantize`."""

    def activation(name: str) -> Quantiser:
        largest = max(*map(abs, ranges[name]), magnitudes.get(name, 0.0))
        return _in_e4m3(symmetric_activation(-largest, largest, LARGEST))

    def weight(value: Array, axis: int | None) -> Quantiser:
        return _in_e4m3(symmetric_weight(value, axis, LARGEST))

    return tensorrt.place(model, plan, magnitudes, activation, weight)


def _in_e4m3(how: Quantiser) -> Quantiser:
    return replace(how, zero_point=np.zeros(how.scale.shape, ml_dtypes.float8_e4m3fn))
