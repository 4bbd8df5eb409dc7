# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The `tensorrt_8` form: pairs as in the `tensorrt` form, for TensorRT 8.6.

By its sources (see `lint.targets`) the parser of 8.6 knows opset 17, wants a zero point in every
pair, and takes the bytes of a scale for FP32. So scales and all other floats are FP32, and FP16 is
a flag of the builder, with the nodes noted that have to stay FP32 (see `builder_half`). Weights
are FP32 before a pair, which the builder folds; stored integers behind a DequantizeLinear get past
the parser, but what the builder makes of them could not be tried.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx

from av_compress.compress.emit import tensorrt
from av_compress.compress.emit.builder_half import allow_half, forbid_half
from av_compress.compress.emit.fp16 import fp32_reasons
from av_compress.compress.emit.insertion import Ranges, WeightGrid
from av_compress.compress.emit.lower_opset import lower_opset, with_known_operators
from av_compress.compress.plan.precision import Precision, PrecisionPlan


def weight_grid(plan: PrecisionPlan) -> WeightGrid | None:
    """See `quantize.weight_grid`; scales are FP32 whatever the base is."""
    return tensorrt.weight_grid(plan.in_fp32())


def emit(
    model: onnx.ModelProto,
    plan: PrecisionPlan,
    ranges: Ranges,
    magnitudes: Mapping[str, float],
) -> onnx.ModelProto:
    """Write the form; see `quantize.quantize`.

    Raises:
        ModelError: opset 17 cannot say what an operator does; operator and node are named.

    """
    source = with_known_operators(model)
    emitted = lower_opset(tensorrt.emit(source, plan.in_fp32(), ranges, magnitudes))
    forbid_half(emitted)
    if plan.base is Precision.FP16:
        planned = {node.node for node in plan.nodes if node.precision is Precision.FP32}
        allow_half(emitted, planned.union(fp32_reasons(source, magnitudes)))
    return emitted
