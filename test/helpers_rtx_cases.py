# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Graphs that TensorRT for RTX takes, changes silently, or refuses; what lint says of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from helpers_qdq import (
    CHANNELS,
    IMAGE,
    Draft,
    convolution,
    floats,
    product,
)
from onnx import TensorProto, helper

HALF = TensorProto.FLOAT16


@dataclass(frozen=True)
class Case:
    """A graph, the rules beyond advice that it breaks, and whether its `conv` stays INT8."""

    name: str
    model: onnx.ModelProto
    rules: tuple[str, ...] = ()
    int8: bool = True


def legal() -> Iterator[Case]:
    """Yield what is right: the ways of writing a pair, and what may stand around it."""
    for opset in (13, 17, 19, 20, 21, 23, 24):
        yield Case(f"opset {opset}", convolution().model(opset))
    yield Case("fp16", convolution(np.float16).model())
    yield Case("depthwise", convolution(group=CHANNELS).model())
    one = convolution().const("w_scale", np.float32(0.01)).const("w_zero", np.int8(0))
    yield Case("one weight scale", one.model())
    alone = convolution().const("w_scale", np.full(1, 0.01, np.float32))
    yield Case("a vector of one weight scale", alone.const("w_zero", np.zeros(1, np.int8)).model())
    half = convolution(np.float16).const("w_scale", np.float16(0.01)).const("w_zero", np.int8(0))
    yield Case("one FP16 weight scale", half.model())
    single = convolution(np.float16).const("w", np.ones((1, 16, 3, 3), np.float16))
    single.const("w_scale", np.full(1, 0.01, np.float16)).const("w_zero", np.zeros(1, np.int8))
    single.const("b", np.zeros(1, np.float16)).output("y", [1, 1, 8, 8], HALF)
    yield Case("one FP16 weight scale, one output channel", single.model())
    stored = convolution().drop("w_q").const("w_q", np.full((16, 16, 3, 3), -128, np.int8))
    yield Case("stored weights, -128", stored.model())
    negative = convolution(axis=-4)
    yield Case("axis -4", negative.model())
    by_node = convolution()
    value = by_node.constants.pop("x_scale")
    yield Case(
        "scale by a node", by_node.before("x_q", "Constant", "", "x_scale", value=value).model()
    )
    folded = convolution().const("half", np.float32(0.5)).const("tenth", np.float32(0.1))
    del folded.constants["x_scale"]
    yield Case("scale to fold", folded.before("x_q", "Mul", "half tenth", "x_scale").model())
    output_dtype = convolution()
    for node in output_dtype.nodes[:4]:
        del node.input[2:]
        if node.op_type == "QuantizeLinear":
            node.attribute.append(helper.make_attribute("output_dtype", TensorProto.INT8))
    yield Case("no zero point, but output_dtype", output_dtype.model(21))
    narrow = convolution().before("conv", "Cast", "x_d", "x_h", to=HALF)
    narrow.before("conv", "Cast", "w_d", "w_h", to=HALF).const("b", np.zeros(16, np.float16))
    narrow.rewire("conv", 0, "x_h").rewire("conv", 1, "w_h").output("y", IMAGE, HALF)
    yield Case("Cast to FP16 behind the pair", narrow.model())
    split = convolution().const("x_half", np.float16(0.05)).rewire("x_q", 0, "x_h")
    split.before("x_q", "Cast", "x", "x_h", to=HALF).rewire("x_q", 1, "x_half")
    yield Case("FP16 in, FP32 out of a pair", split.model())
    bias = convolution().before("conv", "DequantizeLinear", "b_q x_scale x_zero", "b_d")
    bias.before("b_d", "QuantizeLinear", "b x_scale x_zero", "b_q").rewire("conv", 2, "b_d")
    yield Case("INT8 bias", bias.model())
    yield Case("MatMul", product().model())
    yield Case("Gemm", product("Gemm").model())
    yield Case("Gemm transB", product("Gemm", axis=0, transB=1).model())
    yield from commuting()
    yield from without_int8()


def without_int8() -> Iterator[Case]:
    """Yield what is right, and has nothing in INT8."""
    draft = convolution().drop("x_q", "x_d").rewire("conv", 0, "x")
    yield Case("weight alone", draft.model(), int8=False)
    half = convolution(np.float16).drop("x_q", "x_d", "w_q", "w_d")
    half.rewire("conv", 0, "x").rewire("conv", 1, "w")
    yield Case("FP16 alone", half.model(), int8=False)
    draft = floats(("Gemm", "x w", "y", {}))
    draft.inputs.clear()
    draft.input("x", ["N", 8]).const("w", np.ones((8, 4), np.float32)).output("y", ["N", 4])
    yield Case("dynamic shape", draft.model(), int8=False)
    branches = [
        helper.make_graph(
            [helper.make_node(op_type, ["x"], [op_type])],
            op_type,
            [],
            [helper.make_tensor_value_info(op_type, TensorProto.FLOAT, IMAGE)],
        )
        for op_type in ("Relu", "Neg")
    ]
    draft = floats(("If", "k", "y", {"then_branch": branches[0], "else_branch": branches[1]}))
    yield Case("condition", draft.input("k", [], TensorProto.BOOL).model(), int8=False)
    draft = floats(("Twice", "x", "y", {"domain": "my.ops"}))
    twice = [helper.make_node("Add", ["a", "a"], ["b"])]
    opsets = [helper.make_opsetid("", 19)]
    draft.functions = [helper.make_function("my.ops", "Twice", ["a"], ["b"], twice, opsets)]
    yield Case("the model's own function", draft.model(my_ops=1), int8=False)
    yield Case("opset 8", floats(("Relu", "x", "y", {})).model(8), int8=False)
    mask = floats(("Add", "x k", "y", {})).const("k", np.array(-np.inf, np.float32))
    yield Case("infinite mask", mask.model(), int8=False)


def commuting() -> Iterator[Case]:
    """Yield what may stand between a pair and its node."""
    steps = {
        "MaxPool": {"kernel_shape": [3, 3], "pads": [1] * 4},
        "Identity": {},
        "Transpose": {"perm": [0, 1, 3, 2]},
    }
    for op_type, attributes in steps.items():
        draft = convolution().before("conv", op_type, "x_d", "x_m", **attributes)
        yield Case(f"{op_type} between", draft.rewire("conv", 0, "x_m").model())
    gathered = convolution().before("conv", "Gather", "x_d order", "x_m", axis=1)
    gathered.const("order", np.arange(16)[::-1].copy()).rewire("conv", 0, "x_m")
    yield Case("Gather between", gathered.model())
    turned = convolution(axis=1).before("conv", "Transpose", "w_d", "w_t", perm=[1, 0, 2, 3])
    yield Case("weight turned with its axis", turned.rewire("conv", 1, "w_t").model())


def refused() -> Iterator[Case]:
    """Yield what the parser or the builder refuses."""
    yield from refused_values()
    yield from refused_types()
    yield from refused_operators()


def refused_values() -> Iterator[Case]:
    for value, name in ((0.0, "zero"), (-0.1, "negative"), (np.nan, "NaN")):
        draft = convolution().const("x_scale", np.float32(value))
        yield Case(f"scale {name}", draft.model(), ("scale-not-positive",) * 2)
    scales = np.full(16, 0.01, np.float32)
    scales[3] = 0
    draft = convolution().const("w_scale", scales)
    yield Case("weight scale zero", draft.model(), ("scale-not-positive",) * 2)
    draft = convolution(np.float16).const("w_scale", np.full(16, 1e-9, np.float16))
    yield Case("FP16 scale underflows", draft.model(), ("scale-not-positive",) * 2)
    for zero, name in ((np.int8(3), "int8 3"), (np.uint8(128), "uint8 128")):
        uint8 = ("zero-point-uint8",) * isinstance(zero, np.uint8)
        draft = convolution().const("x_zero", zero)
        yield Case(f"zero point {name}", draft.model(), ("zero-point-not-zero",) * 2 + uint8)
    draft = convolution().const("w_zero", np.array([1] + [0] * 15, np.int8))
    yield Case("weight zero point", draft.model(), ("zero-point-not-zero",) * 2)
    draft = convolution().const("x_zero", np.zeros(16, np.int8))
    yield Case("too many zero points", draft.model(), ("zero-point-shape",) * 2)
    draft = convolution().const("w_zero", np.int8(0))
    yield Case("too few zero points", draft.model(), ("zero-point-shape",) * 2)
    draft = convolution().const("w_scale", np.full(9, 0.01, np.float32))
    draft.const("w_zero", np.zeros(9, np.int8))
    yield Case("nine scales", draft.model(), ("scale-length",) * 2)
    draft = convolution()
    del draft.constants["x_zero"]
    draft.input("x_zero", [], TensorProto.INT8)
    yield Case("zero point is an input", draft.model(), ("zero-point-dynamic",) * 2)


def one_half_scale(stored: bool) -> Draft:
    """Return a convolution in FP16 whose weight has one scale, in a vector."""
    draft = convolution(np.float16).const("w_scale", np.full(1, 0.01, np.float16))
    draft.const("w_zero", np.zeros(1, np.int8))
    if stored:
        draft.drop("w_q").const("w_q", np.full((16, 16, 3, 3), 5, np.int8))
    return draft


def refused_types() -> Iterator[Case]:
    draft = convolution().before("conv", "DequantizeLinear", "b_q b_scale b_zero", "b_d", axis=0)
    draft.const("b_q", np.arange(16, dtype=np.int32)).const("b_zero", np.zeros(16, np.int32))
    draft.const("b_scale", np.full(16, 1e-3, np.float32)).rewire("conv", 2, "b_d")
    yield Case("INT32 bias", draft.model(), ("int32-dequantised",))
    draft = convolution(np.float16).const("x_scale", np.float32(0.05))
    mixed = ("scale-type", "mixed-types", "not-standard")
    yield Case("FP32 scale, FP16 tensor", draft.model(), mixed)
    draft = convolution().const("x_half", np.float16(0.05)).rewire("x_d", 1, "x_half")
    mixed = ("mixed-types", "not-standard")
    yield Case("FP16 scale of DequantizeLinear alone", draft.model(), mixed)
    draft = convolution().const("x_scale", np.float16(0.05))
    mixed = ("scale-type", "mixed-types", "not-standard")
    yield Case("FP16 scale of both, FP32 tensor", draft.model(), mixed)
    for stored in (False, True):
        draft = one_half_scale(stored)
        yield Case(f"one FP16 scale, stored {stored}", draft.model(), ("half-scale-of-one",))
    draft = convolution(np.float16, group=CHANNELS).const("w_scale", np.full(1, 0.01, np.float16))
    draft.const("w_zero", np.zeros(1, np.int8))
    yield Case("one FP16 scale, depthwise", draft.model(), ("half-scale-of-one",))
    for zero_point in (True, False):
        draft = convolution().drop("w_q").const("w_q", np.full((16, 16, 3, 3), 5, np.uint8))
        draft.const("w_zero", np.zeros(16, np.uint8))
        if not zero_point:
            del draft.nodes[-2].input[2:]
        name = f"stored UINT8, zero point {zero_point}"
        yield Case(name, draft.model(), ("uint8-dequantised",))
    draft = Draft().input("x", IMAGE, TensorProto.UINT8).const("s", np.float32(0.1))
    draft.const("z", np.uint8(0)).node("DequantizeLinear", "x s z", "y").output("y", IMAGE)
    yield Case("UINT8 input dequantised", draft.model(), ("uint8-dequantised",))
    draft = floats(("Add", "x k", "y", {})).const("k", np.ones(8, np.float16))
    yield Case("Half and Float", draft.model(), ("mixed-types", "not-standard"))
    draft = convolution().before("conv", "Cast", "x_d", "x_h", to=HALF).rewire("conv", 0, "x_h")
    yield Case("FP16 activation, FP32 weight", draft.model(), ("mixed-types", "not-standard"))
    draft = convolution().drop("x_d").rewire("conv", 0, "x_q")
    broke = ("mixed-types", "integer-arithmetic", "not-standard")
    yield Case("integers into a convolution", draft.model(), broke)
    draft = floats(("Add", "x8 x8", "s", {}), ("Cast", "s", "y", {"to": 1}))
    draft.input("x8", IMAGE, TensorProto.UINT8)
    yield Case("UINT8 addition", draft.model(), ("uint8-arithmetic",))
    draft = floats(("Cast", "k", "c", {"to": 1}), ("Add", "x c", "y", {}))
    yield Case(
        "stored INT8", draft.const("k", np.ones(8, np.int8)).model(), ("quantised-constant",)
    )
    for kind in (TensorProto.INT16, TensorProto.UINT64, TensorProto.FLOAT8E5M2):
        draft = Draft().input("x", [4], kind).node("Cast", "x", "y", to=1).output("y", [4])
        name = f"input of {TensorProto.DataType.Name(kind)}"
        yield Case(name, draft.model(), ("unsupported-type",))


def refused_operators() -> Iterator[Case]:
    draft = floats(
        ("QuantizeLinear", "x s z", "q", {}), ("QLinearConv", "q s z w s z s z", "r", {})
    )
    draft.node("DequantizeLinear", "r s z", "y").output("y", [1, 16, 8, 8])
    draft.const("s", np.float32(0.05)).const("z", np.int8(0))
    draft.const("w", np.ones((16, 16, 1, 1), np.int8))
    yield Case("QLinearConv", draft.model(), ("integer-operator",))
    draft = Draft().input("x", [4, 16]).output("y", [4, 8])
    draft.node("DynamicQuantizeLinear", "x", "q s z").node("MatMulInteger", "q w z", "m")
    draft.node("Cast", "m", "y", to=1).const("w", np.ones((16, 8), np.int8))
    yield Case("dynamic", draft.model(), ("integer-operator",) * 2)
    draft = Draft().input("x", [4, 4]).node("Det", "x", "y").output("y", [])
    yield Case("Det", draft.model(), ("unsupported-operator",))
    draft = floats(("Foo", "x", "y", {"domain": "my.ops"}))
    yield Case("custom operator", draft.model(my_ops=1), ("custom-operator",))
    draft = floats(("Scaler", "x", "y", {"domain": "ai.onnx.ml", "offset": [0.0], "scale": [1.0]}))
    yield Case("ml operator", draft.model(ai_onnx_ml=2), ("custom-operator",))
    resized = [1, 16, 16, 16]
    crop = {"mode": "linear", "coordinate_transformation_mode": "tf_crop_and_resize"}
    for attributes in (crop, {"mode": "linear", "antialias": 1}):
        draft = floats(("Resize", "x roi s", "y", attributes), output=resized)
        draft.const("s", np.array([1, 1, 2, 2], np.float32)).const("roi", np.ones(8, np.float32))
        yield Case(f"Resize {len(attributes)}", draft.model(), ("operator-form",))
    pool = {"kernel_shape": [2, 2], "dilations": [2, 2]}
    draft = floats(("MaxPool", "x", "y", pool), output=[1, 16, 6, 6])
    yield Case("dilated pool", draft.model(), ("operator-form",))
    draft = floats(("MaxPool", "x", "y where", {"kernel_shape": [1, 1]}))
    draft.output("y", IMAGE).outputs.append(
        helper.make_tensor_value_info("where", TensorProto.INT64, IMAGE)
    )
    yield Case("MaxPool's Indices", draft.model(), ("operator-form",))


def trapped() -> Iterator[Case]:
    """Yield what is built, and is not what the graph says."""
    draft = convolution().const("x_zero", np.uint8(0))
    yield Case("uint8", draft.model(), ("zero-point-uint8",))
    draft = convolution().const("w_zero", np.zeros(16, np.uint8))
    yield Case("uint8 weights", draft.model(), ("zero-point-uint8",))
    draft = convolution()
    for node in draft.nodes[:2]:
        del node.input[2:]
    yield Case("no zero point", draft.model(), ("zero-point-missing",))
    draft = convolution().const("x_scale", np.full(16, 0.05, np.float32))
    draft.const("x_zero", np.zeros(16, np.int8))
    yield Case("per-channel activation", draft.model(), ("activation-per-channel",), int8=False)
    draft = convolution().const("x_scale", np.full(1, 0.05, np.float32))
    draft.const("x_zero", np.zeros(1, np.int8))
    yield Case("a vector of one scale", draft.model(), ("scale-of-one",), int8=False)
    yield Case("weight axis", convolution(axis=1).model(), ("weight-axis",), int8=False)
    draft = convolution()
    for node in draft.nodes[2:4]:
        del node.attribute[:]
    yield Case("axis left out", draft.model(), ("weight-axis",), int8=False)
    draft = convolution().before("conv", "Transpose", "w_d", "w_t", perm=[1, 0, 2, 3])
    draft.rewire("conv", 1, "w_t")
    yield Case("weight turned", draft.model(), ("weight-axis",), int8=False)
    draft = convolution().drop("w_q", "w_d").rewire("conv", 1, "w")
    yield Case("activation alone", draft.model(), ("activation-alone",), int8=False)
    draft = convolution().const("x_scale", np.float32(np.inf))
    yield Case("infinite scale", draft.model(), ("scale-infinite",) * 2)
    old = ("not-standard",)
    yield Case("FP16 scales in opset 17", convolution(np.float16).model(17), old)
    yield Case("opset 27", convolution().model(27), ("opset-new",))
    draft = floats(("Gelu", "x", "y", {"domain": "com.microsoft"}))
    yield Case("contributed Gelu", draft.model(com_microsoft=1), ("domain-ignored",), int8=False)
    broke = ("scale-type", "not-standard")
    draft = convolution().const("x_half", np.float16(0.05)).rewire("x_q", 1, "x_half")
    yield Case("FP16 scale of QuantizeLinear alone", draft.model(), broke)
    draft = convolution().const("w_half", np.full(16, 0.01, np.float16)).rewire("w_q", 1, "w_half")
    yield Case("FP16 scale of the weight's QuantizeLinear alone", draft.model(), broke)
    draft = convolution(np.float16).const("x_wide", np.float32(0.05)).rewire("x_q", 1, "x_wide")
    yield Case("FP32 scale of QuantizeLinear alone, FP16 tensor", draft.model(), broke)
    alone = one_half_scale(stored=False).drop("x_q", "x_d").rewire("conv", 0, "x")
    yield Case("weight alone, one FP16 scale", alone.model(), int8=False)
    draft = floats(("Mul", "x k", "y", {})).const("k", np.array(np.inf, np.float32))
    yield Case("infinite constant", draft.model(), ("constant-not-finite",), int8=False)
    draft = floats(("Cast", "k", "c", {"to": HALF}), ("Cast", "c", "f", {"to": 1}))
    draft.node("Mul", "x f", "y").output("y", IMAGE).const("k", np.array(1e6, np.float32))
    yield Case("FP16 overflow", draft.model(), ("half-overflow",), int8=False)
    yield from hidden()
    yield from transposed()


def hidden() -> Iterator[Case]:
    """Yield what hides a pair from its node."""
    steps = {
        "Relu": {},
        "AveragePool": {"kernel_shape": [3, 3], "pads": [1] * 4},
    }
    for op_type, attributes in steps.items():
        draft = convolution().before("conv", op_type, "x_d", "x_m", **attributes)
        draft.rewire("conv", 0, "x_m")
        yield Case(f"{op_type} hides", draft.model(), ("pair-hidden",), int8=False)
    for both in (False, True):
        draft = convolution(np.float16).before("conv", "Cast", "x_d", "x_f", to=1)
        draft.rewire("conv", 0, "x_f").const("b", np.zeros(16, np.float32))
        draft.output("y", IMAGE)
        if both:
            draft.before("conv", "Cast", "w_d", "w_f", to=1).rewire("conv", 1, "w_f")
        else:
            draft.const("w", np.ones((16, 16, 3, 3), np.float32))
            draft.const("w_scale", np.full(16, 0.01, np.float32))
        yield Case(f"Cast hides, {both}", draft.model(), ("pair-hidden",), int8=False)


def transposed() -> Iterator[Case]:
    for axis in (0, 1):
        draft = convolution(axis=axis)
        draft.drop("conv").node("ConvTranspose", "x_d w_d b", "y", name="conv", pads=[1] * 4)
        rules = ("weight-axis",) * (axis == 0) + ("transposed-in-float",)
        yield Case(f"transposed convolution {axis}", draft.model(), rules, int8=False)


CASES = [*legal(), *refused(), *trapped()]
