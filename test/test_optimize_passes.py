# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Optimisations, one by one: what they do, and that ONNX's reference sees no difference."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from helpers_graphs import Graph, assert_equal, kinds
from helpers_trt import compile_plan
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper, shape_inference

from av_compress.compress.optimize.activations import RewriteActivations
from av_compress.compress.optimize.constants import DequantizeConstants
from av_compress.compress.optimize.focus import StrideFocus
from av_compress.compress.optimize.fold_affine import FoldAffine
from av_compress.compress.optimize.fold_pad import FoldPad
from av_compress.compress.optimize.passes import Pass, apply, cost


def changed(step: Pass, model: onnx.ModelProto, batch: int = 1) -> onnx.ModelProto:
    """Run a pass that must change a model, and prove it."""
    inferred = shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    before = inferred.SerializeToString()
    result, report = apply(step, inferred)
    assert inferred.SerializeToString() == before, "a pass must not write into what it is given"
    assert report.detail
    assert report.macs_after == report.macs_before
    assert_equal(model, result, batch)
    return result


def untouched(step: Pass, model: onnx.ModelProto) -> None:
    inferred = shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    result, report = apply(step, inferred)
    assert report.detail == ""
    assert result is inferred


class TestFoldAffine:
    weighted = ("Conv", "grouped", "depthwise", "ConvTranspose", "grouped ConvTranspose")

    def convolved(self, g: Graph, kind: str, source: str, pad: int = 0, bias: bool = True) -> str:
        added = [g.normal(4)] if bias else []
        if kind.endswith("ConvTranspose"):
            group = 2 if "grouped" in kind else 1
            weight = g.normal(4, 4 // group, 2, 2)
            return g.op("ConvTranspose", source, weight, *added, strides=[2, 2], group=group)
        group = {"Conv": 1, "grouped": 2, "depthwise": 4}[kind]
        weight = g.normal(4, 4 // group, 3, 3)
        return g.op("Conv", source, weight, *added, group=group, pads=[pad] * 4)

    def affine(self, g: Graph, op_type: str, source: str, shape: tuple[int, ...], first: bool):
        inputs = [source, g.positive(*shape)]
        return g.op(op_type, *(inputs[::-1] if first else inputs))

    @settings(max_examples=40)
    @given(
        kind=st.sampled_from(weighted),
        op_type=st.sampled_from(["Mul", "Add", "Sub", "Div"]),
        shape=st.sampled_from([(), (1,), (4, 1, 1), (1, 4, 1, 1)]),
        first=st.booleans(),
        bias=st.booleans(),
    )
    def test_behind_a_convolution(self, kind, op_type, shape, first, bias):
        g = Graph()
        behind = self.affine(
            g, op_type, self.convolved(g, kind, "x", 1, bias), shape, first and op_type != "Div"
        )
        result = changed(FoldAffine(), g.model(g.op("Relu", behind)))
        assert len(result.graph.node) == 2

    @settings(max_examples=40)
    @given(
        kind=st.sampled_from(weighted),
        op_type=st.sampled_from(["Mul", "Add", "Sub", "Div"]),
        shape=st.sampled_from([(), (4, 1, 1)]),
        first=st.booleans(),
        pad=st.integers(0, 1),
    )
    def test_before_a_convolution(self, kind, op_type, shape, first, pad):
        g = Graph()
        before = self.affine(g, op_type, "x", shape, first and op_type != "Div")
        model = g.model(self.convolved(g, kind, before, pad))
        shifts = op_type in {"Add", "Sub"}
        if shifts and (pad or kind.endswith("ConvTranspose")):
            # What pads is zero, and not the constant.
            untouched(FoldAffine(), model)
        else:
            assert len(changed(FoldAffine(), model).graph.node) == 1

    @pytest.mark.parametrize("transposed", [0, 1])
    def test_around_a_gemm_with_factors(self, transposed):
        g = Graph()
        before = g.op("Add", g.op("Mul", "x", g.positive(6)), g.normal(6))
        weight = g.normal(5, 6) if transposed else g.normal(6, 5)
        gemm = g.op("Gemm", before, weight, g.normal(5), transB=transposed, alpha=0.5, beta=3.0)
        behind = g.op("Sub", g.op("Div", gemm, g.positive(1, 5)), g.const(2.0))
        result = changed(FoldAffine(), g.model(behind, {"x": ["n", 6]}), batch=3)
        assert kinds(result) == ["Gemm"]

    def test_around_a_matmul_factors_fold_and_summands_stay(self):
        g = Graph()
        product = g.op("MatMul", g.op("Mul", "x", g.positive(6)), g.normal(6, 5))
        behind = g.op("Add", g.op("Mul", product, g.positive(5)), g.normal(5))
        result = changed(FoldAffine(), g.model(behind, {"x": [2, 3, 6]}))
        assert kinds(result) == ["MatMul", "Add"]

    def test_a_normalisation_behind_a_matmul_and_a_reshape_leaves_its_summand(self):
        g = Graph()
        product = g.op("MatMul", "x", g.normal(6, 5))
        flat = g.op("Reshape", product, g.ints(-1, 5))
        constants = [g.positive(5), g.normal(5), g.normal(5), g.positive(5)]
        model = g.model(g.op("BatchNormalization", flat, *constants), {"x": [2, 3, 6]})
        assert kinds(changed(FoldAffine(), model)) == ["MatMul", "Reshape", "Add"]

    @pytest.mark.parametrize("kind", weighted)
    def test_batch_normalisation(self, kind):
        g = Graph()
        constants = [g.normal(4), g.normal(4), g.normal(4), g.positive(4)]
        conv = self.convolved(g, kind, "x", bias=False)
        model = g.model(g.op("BatchNormalization", conv, *constants, epsilon=1e-3))
        assert len(changed(FoldAffine(), model).graph.node) == 1

    def test_pixels_that_the_model_normalises_itself(self):
        """As in channels-last models: x / 127.5 - 1, transposed, convolved without padding."""
        g = Graph()
        scaled = g.op("Sub", g.op("Div", "x", g.const(127.5)), g.positive(3))
        turned = g.op("Transpose", scaled, perm=[0, 3, 1, 2])
        model = g.model(g.conv(turned, 3, 5), {"x": ["n", 9, 9, 3]})
        assert kinds(changed(FoldAffine(), model, batch=2)) == ["Transpose", "Conv"]

    def test_a_factor_that_several_convolutions_read(self):
        g = Graph()
        scaled = g.op("Mul", "x", g.positive(4, 1, 1))
        both = g.op("Add", g.conv(scaled, 4, 4), g.conv(scaled, 4, 4))
        assert kinds(changed(FoldAffine(), g.model(both))) == ["Conv", "Conv", "Add"]

    def test_shared_weights_are_not_changed_for_others(self):
        g = Graph()
        weight = g.normal(4, 4, 3, 3)
        scaled = g.op("Mul", g.op("Conv", "x", weight), g.positive(4, 1, 1))
        both = g.op("Add", scaled, g.op("Conv", "x", weight))
        assert kinds(changed(FoldAffine(), g.model(both))) == ["Conv", "Conv", "Add"]

    @pytest.mark.parametrize("why", ["read by others", "an output", "per pixel", "wider", "by If"])
    def test_left_alone(self, why):
        g = Graph()
        conv = g.conv("x", 4, 1 if why == "wider" else 4)
        shape = {"per pixel": (4, 6, 6), "wider": (4, 1, 1)}.get(why, ())
        scaled = g.op("Mul", conv, g.positive(*shape))
        if why == "read by others":
            scaled = g.op("Add", scaled, conv)
        if why == "by If":
            branches = {}
            for name in ("then_branch", "else_branch"):
                made = helper.make_tensor_value_info(f"{name}_y", 1, [1, 4, 6, 6])
                node = helper.make_node("Neg" if name[0] == "t" else "Abs", [conv], [f"{name}_y"])
                branches[name] = helper.make_graph([node], name, [], [made])
            condition = g.const(True, bool)
            scaled = g.op("Add", scaled, g.op("If", condition, **branches))
        outputs = [scaled, conv] if why == "an output" else [scaled]
        untouched(FoldAffine(), g.model(outputs))

    def test_the_name_of_an_output_stays(self):
        g = Graph()
        model = g.model(g.op("Mul", g.conv("x", 4, 4), g.positive(4, 1, 1), output="result"))
        assert changed(FoldAffine(), model).graph.node[0].output[0] == "result"


class TestFoldPad:
    def padded(self, kind: str, value: float = 0.0, relu: bool = True, amounts=(1, 2), **more):
        g = Graph()
        source = g.op("Relu", "x") if relu else g.op("Neg", "x")
        top, left = amounts
        pads = g.ints(0, 0, top, left, 0, 0, left, top)
        pad = g.op("Pad", source, pads, g.const(value))
        if kind == "Conv":
            return g.model(g.conv(pad, 4, 5, **more))
        return g.model(g.op(kind, pad, kernel_shape=[3, 3], **more))

    @pytest.mark.parametrize(
        ("kind", "more"),
        [
            ("Conv", {}),
            ("Conv", {"pads": [0, 1, 2, 0], "strides": [2, 2]}),
            ("Conv", {"auto_pad": "VALID"}),
            ("AveragePool", {}),
            ("AveragePool", {"pads": [0, 0, 0, 0], "strides": [2, 1]}),
            ("MaxPool", {}),
            ("MaxPool", {"value": float("-inf"), "relu": False}),
            ("MaxPool", {"value": -1.0}),
        ],
    )
    def test_folded(self, kind, more):
        result = changed(FoldPad(), self.padded(kind, **more))
        assert "Pad" not in kinds(result)

    @pytest.mark.parametrize(
        ("kind", "more"),
        [
            ("Conv", {"value": 1.0}),
            ("Conv", {"auto_pad": "SAME_UPPER"}),
            ("AveragePool", {"value": 0.5}),
            ("AveragePool", {"pads": [1, 1, 1, 1], "count_include_pad": 0}),
            ("AveragePool", {"ceil_mode": 1}),
            ("AveragePool", {"amounts": (3, 3)}),
            ("MaxPool", {"relu": False}),
            ("MaxPool", {"value": 0.5}),
            ("MaxPool", {"strides": [2, 2], "ceil_mode": 1}),
        ],
    )
    def test_left_alone(self, kind, more):
        untouched(FoldPad(), self.padded(kind, **more))

    def test_channels_and_chosen_axes(self):
        g = Graph()
        pad = g.op("Pad", "x", g.ints(1, 1, 1, 1), "", g.ints(-1, 2))
        assert kinds(changed(FoldPad(), g.model(g.conv(pad, 4, 5)))) == ["Conv"]
        g = Graph()
        pad = g.op("Pad", "x", g.ints(0, 1, 0, 0, 0, 0, 0, 0))
        untouched(FoldPad(), g.model(g.conv(pad, 5, 5)))

    def test_it_spares_a_kernel(self):
        g = Graph()
        pad = g.op("Pad", g.op("Relu", g.conv("x", 4, 8)), g.ints(0, 0, 1, 1, 0, 0, 1, 1))
        model = g.model(g.conv(g.op("MaxPool", pad, kernel_shape=[3, 3]), 8, 8))
        assert kernels(changed(FoldPad(), model)) < kernels(model)


def kernels(model: onnx.ModelProto) -> int:
    return len(compile_plan(model.SerializeToString()).layers)


def sliced(g: Graph, source: str, row: int, column: int, step: int = 2) -> str:
    rows = g.op("Slice", source, g.ints(row), g.ints(2**31 - 1), g.ints(2), g.ints(step))
    return g.op("Slice", rows, g.ints(column), g.ints(2**31 - 1), g.ints(3), g.ints(step))


class TestStrideFocus:
    yolox = ((0, 0), (1, 0), (0, 1), (1, 1))
    yolov5 = ((0, 0), (1, 0), (0, 1), (1, 1))[::-1]

    @pytest.mark.parametrize("order", [yolox, yolov5])
    @pytest.mark.parametrize(
        "attributes", [{"size": 1}, {"pads": [1] * 4}, {"pads": [0, 1, 1, 0], "strides": [2, 1]}]
    )
    def test_slices(self, order, attributes):
        g = Graph()
        joined = g.op("Concat", *(sliced(g, "x", *place) for place in order), axis=1)
        conv = g.conv(joined, 12, 5, **attributes)
        model = g.model(g.op("Relu", conv), {"x": ["n", 3, 8, 12]})
        result = changed(StrideFocus(), model, batch=2)
        assert kinds(result) == ["Conv", "Relu"]

    def test_space_to_depth_and_its_reshapes(self):
        g = Graph()
        conv = g.conv(g.op("SpaceToDepth", "x", blocksize=2), 16, 3)
        assert kinds(changed(StrideFocus(), g.model(conv))) == ["Conv"]
        g = Graph()
        split = g.op("Reshape", "x", g.ints(1, 4, 2, 4, 2, 4))
        turned = g.op("Transpose", split, perm=[0, 3, 5, 1, 2, 4])
        conv = g.conv(g.op("Reshape", turned, g.ints(1, 64, 2, 2)), 64, 3, 1)
        assert kinds(changed(StrideFocus(), g.model(conv))) == ["Conv"]

    def test_three_of_four_are_no_focus(self):
        g = Graph()
        joined = g.op("Concat", *(sliced(g, "x", *place) for place in self.yolox[:3]), axis=1)
        untouched(StrideFocus(), g.model(g.conv(joined, 12, 5)))

    def test_groups_and_dilations_stay(self):
        for attributes in ({"group": 2}, {"dilations": [2, 2], "size": 2}):
            g = Graph()
            joined = g.op("Concat", *(sliced(g, "x", *place) for place in self.yolox), axis=1)
            untouched(StrideFocus(), g.model(g.conv(joined, 16, 4, **attributes)))


def test_a_prelu_with_one_slope_is_a_leaky_relu_and_spares_a_kernel():
    g = Graph()
    activated = g.op("PRelu", g.conv("x", 4, 8), g.const(np.full((8, 1, 1), 0.1)))
    model = g.model(g.conv(activated, 8, 8))
    result = changed(RewriteActivations(), model)
    assert kinds(result) == ["Conv", "LeakyRelu", "Conv"]
    assert kernels(result) < kernels(model)


def test_a_prelu_with_a_slope_for_each_channel_stays():
    g = Graph()
    untouched(RewriteActivations(), g.model(g.op("PRelu", "x", g.positive(4, 1, 1))))


def test_integer_weights_become_float():
    g = Graph()
    integers = g.const(g.rng.integers(-127, 128, (5, 4, 3, 3)), np.int8)
    weight = g.op("DequantizeLinear", integers, g.positive(5), g.const([0] * 5, np.int8), axis=0)
    result = changed_but_for_macs(DequantizeConstants(), g.model(g.op("Conv", "x", weight)))
    assert kinds(result) == ["Conv"]
    assert numpy_helper.to_array(result.graph.initializer[0]).dtype == np.float32


def changed_but_for_macs(step: Pass, model: onnx.ModelProto) -> onnx.ModelProto:
    """Weights that were not known to be constants do not count."""
    result, _ = apply(step, shape_inference.infer_shapes(model))
    assert_equal(model, result)
    assert cost(result).macs == 5 * 6 * 6 * 4 * 9
    return result
