# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Rules about element types and the opset; columns as in `rule.Row`."""

from __future__ import annotations

from av_compress.compress.lint.checks import element_types
from av_compress.compress.lint.rule import ADVICE, ERROR, TRAP, Subject, make_rules
from av_compress.compress.lint.targets import CPU, EVERY, RTX, SINCE_TENSORRT_10, TENSORRT

TYPES_RULES = make_rules(
    Subject.TYPES,
    (
        (
            "opset-new",
            EVERY,
            TRAP,
            "opset beyond the target's",
            element_types.opset_new,
            "parsers look operators up by name: a newer meaning is read as the older one, or "
            "refused",
            "export with, or convert to, an opset that the target reads",
        ),
        (
            "opset-old",
            EVERY,
            ADVICE,
            "opset before the target's",
            element_types.opset_old,
            "read without a promise",
            "raise the opset (`av-compress build` does)",
        ),
        (
            "not-standard",
            EVERY,
            TRAP,
            "not valid ONNX",
            element_types.not_standard,
            "every parser makes of it what it will: the real ones build some such graphs, and "
            "refuse others",
            "repair what the checker names",
        ),
        (
            "unsupported-type",
            TENSORRT,
            ERROR,
            "tensor of a type that the target does not have",
            element_types.unsupported_type,
            "the parser refuses the model",
            "cast it to a type that the target has",
        ),
        (
            "mixed-types",
            EVERY,
            ERROR,
            "inputs of different types",
            element_types.mixed_types,
            "type error: nothing is converted unasked; the result of DequantizeLinear has its "
            "scale's type",
            "cast one of them; give the scale the type of its tensor",
        ),
        (
            "integer-arithmetic",
            EVERY,
            ERROR,
            "operator on integers that it does not know",
            element_types.integer_arithmetic,
            "type error (TensorRT for RTX does pool INT8, outside the standard)",
            "restore the integers by DequantizeLinear first",
        ),
        (
            "scale-type",
            RTX,
            TRAP,
            "quantiser's scale of another type than its tensor",
            element_types.scale_type,
            "built, though the standard has no such node: QuantizeLinear alone takes it; behind "
            "DequantizeLinear values have the scale's type, and what reads both types is refused",
            "give the scale the type of its tensor",
        ),
        (
            "uint8-dequantised",
            TENSORRT,
            ERROR,
            "stored UINT8, or a UINT8 input, behind DequantizeLinear",
            element_types.uint8_dequantised,
            "the parser refuses the node: DequantizeLinear reads signed integers",
            "store signed integers, zero at zero (subtract 128 from both)",
        ),
        (
            "uint8-arithmetic",
            TENSORRT,
            ERROR,
            "UINT8 read by something else than Cast",
            element_types.uint8_arithmetic,
            "the parser refuses the node: UINT8 exists at the graph's border",
            "cast to float right behind the input",
        ),
        (
            "quantised-constant",
            SINCE_TENSORRT_10,
            ERROR,
            "stored integers read by something else than DequantizeLinear",
            element_types.quantised_constant,
            "the builder refuses the constant",
            "restore the integers by DequantizeLinear first",
        ),
        (
            "double",
            TENSORRT,
            ADVICE,
            "FP64",
            element_types.double,
            "computed in FP32, larger values clamped",
            "export in FP32",
        ),
        (
            "half-on-cpu",
            CPU,
            ADVICE,
            "FP16 on a CPU",
            element_types.half_on_cpu,
            "computed in FP32 between casts: slower than FP32",
            "serve the `cpu` form",
        ),
    ),
)
