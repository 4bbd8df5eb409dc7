# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Rules about where pairs stand; columns as in `rule.Row`."""

from __future__ import annotations

from av_compress.compress.lint.checks import placement
from av_compress.compress.lint.rule import ADVICE, TRAP, Subject, make_rules
from av_compress.compress.lint.targets import RTX, TENSORRT

PLACEMENT_RULES = make_rules(
    Subject.PLACEMENT,
    (
        (
            "activation-alone",
            TENSORRT,
            TRAP,
            "activation quantised, the other factor not",
            placement.activation_only,
            "runs in float, with the rounding of INT8 and none of its speed",
            "let both factors come through pairs, or neither",
        ),
        (
            "weight-alone",
            TENSORRT,
            ADVICE,
            "weight quantised, activation not",
            placement.weight_only,
            "the weight is stored in few bits, the node runs in float",
            "for INT8 arithmetic let the activation come through a pair too",
        ),
        (
            "pair-hidden",
            TENSORRT,
            TRAP,
            "something stands between a pair and its node",
            placement.pair_hidden,
            "the node runs in float; an activation, Resize, AveragePool, or a Cast from FP16 to "
            "FP32 is enough, while operators that move values are not",
            "put the pair right before the node; give DequantizeLinear a scale of the node's own "
            "type in place of the Cast",
        ),
        (
            "weight-axis",
            TENSORRT,
            TRAP,
            "weight's scales not along its outputs",
            placement.weight_axis,
            "a convolution runs in float, a matrix product multiplies its weights out at run time",
            "axis 0 of Conv, 1 of ConvTranspose, the output axis of Gemm and MatMul; `axis` is 1 "
            "where it is left out",
        ),
        (
            "bias-quantised",
            TENSORRT,
            ADVICE,
            "bias through a pair of 8 bits",
            placement.bias,
            "built; the bias is rounded for nothing",
            "leave biases in float",
        ),
        (
            "transposed-in-float",
            RTX,
            TRAP,
            "transposed convolution between pairs",
            placement.transposed,
            "runs in float whatever its scales (tried for SM75, 86, 89 and 120)",
            "leave transposed convolutions out of INT8 (`precision: {exclude: [...]}`)",
        ),
        (
            "depthwise-padded",
            RTX,
            ADVICE,
            "depthwise convolution in INT8",
            placement.depthwise,
            "built in INT8 with its channels padded fourfold: FP16 is likely faster",
            "measure both on the card",
        ),
        (
            "integers-unread",
            TENSORRT,
            ADVICE,
            "QuantizeLinear without DequantizeLinear",
            placement.dangling,
            "built; integers leave the graph, or were made for nothing",
            "let DequantizeLinear follow",
        ),
        (
            "residual-branch",
            TENSORRT,
            ADVICE,
            "residual addition with a pair on its convolution's branch",
            placement.residual_both,
            "built; the branch is rounded once more before the addition",
            "quantise the skip connection alone",
        ),
        (
            "residual-skip",
            TENSORRT,
            ADVICE,
            "residual addition that reads its skip as float",
            placement.residual_skip,
            "built; the addition reads four times the bytes, though the integers exist",
            "let the skip come through the pair that its tensor has",
        ),
        (
            "one-sided",
            TENSORRT,
            ADVICE,
            "operator without weights between INT8 and float",
            placement.one_sided,
            "built; it runs in float behind a kernel that restores its inputs",
            "quantise both of its sides, or neither",
        ),
        (
            "pair-before-activation",
            TENSORRT,
            ADVICE,
            "pair between a convolution and its activation or normalisation",
            placement.before_activation,
            "built; rounds once more, and keeps convolution and activation from one kernel",
            "put the pair before the next convolution",
        ),
        (
            "concat-scales",
            TENSORRT,
            ADVICE,
            "INT8 concatenation of different scales",
            placement.concat_scales,
            "built; inputs are quantised again to the output's scale",
            "give all of its tensors one scale, if accuracy allows",
        ),
    ),
)
