# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The `cpu_dynamic` form: matrix products in integers, activations quantised while the model runs.

DynamicQuantizeLinear finds each activation's range anew for each frame, so that nothing is
calibrated. ONNX Runtime fuses what is written here into one DynamicQuantizeMatMul. Convolutions
stay in float: through ConvInteger they take longer than in FP32 (docs/quantization.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from av_compress.compress.emit.cpu import WEIGHT_LEVELS
from av_compress.compress.emit.insertion import (
    Ranges,
    drop_unused_constants,
    symmetric_weight,
)
from av_compress.compress.graph import GraphIndex, attribute, float_attribute
from av_compress.compress.names import Names
from av_compress.compress.plan.precision import PrecisionPlan, PrecisionRules, WeightScales
from av_compress.tensors import Array


def adapt(rules: PrecisionRules) -> PrecisionRules:
    """Quantise products with a single row too: a quarter of the matrix is read."""
    return replace(rules, migrate=False, gemv=True, weight_scales=WeightScales.CHANNEL)


def narrow(
    model: onnx.ModelProto, plan: PrecisionPlan, magnitudes: Mapping[str, float]
) -> PrecisionPlan:
    """Leave out what this form does not quantise; see `quantize.narrow_plan`."""
    index = GraphIndex(model)
    reasons = {node.name: _against(index, node) for node in index.graph.node}
    return plan.in_fp32().spared({name: reason for name, reason in reasons.items() if reason})


def tensors_to_observe(model: onnx.ModelProto, plan: PrecisionPlan) -> tuple[str, ...]:
    """Return nothing: ranges are found when the model runs."""
    return ()


def emit(
    model: onnx.ModelProto,
    plan: PrecisionPlan,
    ranges: Ranges,
    magnitudes: Mapping[str, float],
) -> onnx.ModelProto:
    """Write the form; see `quantize.quantize`."""
    return _Writer(model, plan.quantised()).write()


def _against(index: GraphIndex, node: onnx.NodeProto) -> str:
    """Say what is against integers for a node; empty where nothing is."""
    if node.op_type not in {"MatMul", "Gemm"}:
        return "quantised while the model runs, it would be slower than in FP32"
    if node.op_type == "Gemm" and attribute(node, "transA", 0):
        return "its input is transposed"
    scaled = node.op_type == "Gemm" and float_attribute(node, "beta", 1.0) != 1.0
    if scaled and len(node.input) > 2 and index.constant(node.input[2]) is None:
        return "its bias is scaled and no constant"
    return ""


class _Writer:
    def __init__(self, model: onnx.ModelProto, quantised: frozenset[str]) -> None:
        self._index = GraphIndex(model)
        self._quantised = quantised
        self._result = onnx.ModelProto()
        self._result.CopyFrom(model)
        self._nodes: list[onnx.NodeProto] = []
        self._names = Names(model.graph)
        # Source -> its integers, their scale and their zero point.
        self._activations: dict[str, tuple[str, str, str]] = {}

    def write(self) -> onnx.ModelProto:
        graph = self._result.graph
        for node in self._index.graph.node:
            if node.name in self._quantised:
                self._product(node)
            else:
                self._nodes.append(node)
        del graph.node[:]
        graph.node.extend(self._nodes)
        drop_unused_constants(graph)
        return self._result

    def _product(self, node: onnx.NodeProto) -> None:
        """Write a product as integers, scaled back to float, and its bias."""
        name, source, made = node.name, node.input[0], node.output[0]
        weight = self._matrix(node)
        how = symmetric_weight(weight, 1, WEIGHT_LEVELS)
        integers = how.integers(weight, -WEIGHT_LEVELS, WEIGHT_LEVELS)
        stored = self._constant(f"{name}_weight", integers)
        weight_scale = self._constant(f"{name}_weight_scale", how.scale)
        weight_zero = self._constant(f"{name}_weight_zero_point", how.zero_point)
        dynamic, scale, zero = self._quantise(source)
        bias = self._bias(node)
        total, exact, step = (self._tensor(node, what) for what in ("sum", "float", "scale"))
        product = self._tensor(node, "product") if bias else made
        self._add("MatMulInteger", [dynamic, stored, zero, weight_zero], total, name)
        self._add("Cast", [total], exact)
        self._nodes[-1].attribute.append(helper.make_attribute("to", TensorProto.FLOAT))
        self._add("Mul", [scale, weight_scale], step)
        self._add("Mul", [exact, step], product)
        if bias:
            self._add("Add", [product, bias], made)

    def _matrix(self, node: onnx.NodeProto) -> Array:
        """Return the weights as [inputs, outputs], times what the node multiplies by."""
        weight = self._index.weight(node)
        assert weight is not None
        if attribute(node, "transB", 0):
            weight = weight.T
        return np.asarray(weight * np.float32(float_attribute(node, "alpha", 1.0)))

    def _bias(self, node: onnx.NodeProto) -> str:
        """Return the name of what is added to the product; empty for nothing."""
        if len(node.input) < 3 or not node.input[2]:
            return ""
        factor, value = float_attribute(node, "beta", 1.0), self._index.constant(node.input[2])
        if factor == 1.0 or value is None:
            return str(node.input[2])
        return self._constant(f"{node.name}_bias", np.asarray(value * np.float32(factor)))

    def _quantise(self, source: str) -> tuple[str, str, str]:
        """Quantise an activation, once for all that read it."""
        if source not in self._activations:
            wanted = (f"{source}_dynamic{what}" for what in ("", "_scale", "_zero_point"))
            made, scale, zero = (self._names.tensor(name) for name in wanted)
            name = self._names.node(f"{made}_DynamicQuantizeLinear")
            outputs = [made, scale, zero]
            self._nodes.append(helper.make_node("DynamicQuantizeLinear", [source], outputs, name))
            self._activations[source] = made, scale, zero
        return self._activations[source]

    def _add(self, op_type: str, inputs: list[str], made: str, name: str = "") -> None:
        name = name or self._names.node(f"{made}_{op_type}")
        self._nodes.append(helper.make_node(op_type, inputs, [made], name))

    def _tensor(self, node: onnx.NodeProto, what: str) -> str:
        return self._names.tensor(f"{node.name}_{what}")

    def _constant(self, wanted: str, value: Array) -> str:
        name = self._names.tensor(wanted)
        self._result.graph.initializer.append(numpy_helper.from_array(value, name))
        return name
