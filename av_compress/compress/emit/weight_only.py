# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The `weight_only` form: weights stored as INT8, one scale a channel, computed in FP32.

A DequantizeLinear makes each weight float where the model runs: the file is a quarter as large,
the arithmetic and its time are FP32's, and no activation is rounded: nothing is calibrated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import onnx

from av_compress.compress.emit.insertion import (
    Inserter,
    Ranges,
    symmetric_weight,
    weight_axis,
)
from av_compress.compress.graph import WEIGHTED, GraphIndex
from av_compress.compress.plan.precision import PrecisionPlan, PrecisionRules, WeightScales

WEIGHT_LEVELS = 127


def adapt(rules: PrecisionRules) -> PrecisionRules:
    """Keep the excluded nodes alone: the other rules guard against rounded activations."""
    return replace(
        rules,
        first=True,
        prediction=True,
        depthwise=True,
        migrate=False,
        weight_scales=WeightScales.CHANNEL,
        gemv=True,
        min_channels=1,
    )


def narrow(
    model: onnx.ModelProto, plan: PrecisionPlan, magnitudes: Mapping[str, float]
) -> PrecisionPlan:
    """Return the plan in FP32; see `quantize.narrow_plan`."""
    return plan.in_fp32()


def tensors_to_observe(model: onnx.ModelProto, plan: PrecisionPlan) -> tuple[str, ...]:
    """Return nothing: no activation is quantised."""
    return ()


def emit(
    model: onnx.ModelProto,
    plan: PrecisionPlan,
    ranges: Ranges,
    magnitudes: Mapping[str, float],
) -> onnx.ModelProto:
    """Write the form; see `quantize.quantize`."""
    index = GraphIndex(model)
    inserter = Inserter(model)
    for node in index.graph.node:
        weight = index.weight(node)
        if weight is not None and node.name in plan.quantised():
            how = symmetric_weight(weight, weight_axis(node), WEIGHT_LEVELS)
            integers = how.integers(weight, -WEIGHT_LEVELS, WEIGHT_LEVELS)
            inserter.store_input(node, WEIGHTED[node.op_type], integers, how)
    return inserter.write()
