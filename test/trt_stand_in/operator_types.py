# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Which types an operator's operands may have, as TensorRT for RTX 1.7 was found to take them.

Each operator was built alone, with each type. Operators that are not here are held to ONNX's own
types, and take no integers of eight bits.
"""

from __future__ import annotations

FLOATS = frozenset({"FLOAT", "HALF", "BF16"})
WHOLE = frozenset({"INT32", "INT64"})
NUMBERS = FLOATS | WHOLE | {"INT8"}
MOVED = NUMBERS | {"BOOL"}
ANY = MOVED | {"UINT8", "FP8", "INT4"}

_TAKES: tuple[tuple[str, frozenset[str]], ...] = (
    ("Identity Shape Size Cast CastLike Equal If Loop Scan", ANY),
    (
        "Transpose Flatten Concat Where Gather Slice Reshape Squeeze Unsqueeze Expand Tile Pad "
        "ScatterND ScatterElements GatherElements GatherND Split DepthToSpace SpaceToDepth",
        MOVED,
    ),
    (
        "Neg Abs Sign GlobalMaxPool ReduceSum ReduceMax ReduceMin ReduceProd ReduceL1 ArgMax "
        "ArgMin Add Sub Mul Div Max Min Sum Less Greater LessOrEqual GreaterOrEqual Clip TopK",
        NUMBERS,
    ),
    (
        "Erf Reciprocal LeakyRelu HardSigmoid Softsign PRelu MaxPool AveragePool Resize Upsample "
        "Conv",
        FLOATS | {"INT8"},
    ),
    ("GlobalAveragePool ReduceMean Pow Mod", FLOATS | WHOLE),
    ("Relu", FLOATS | {"INT8", "INT64"}),
    ("HardSwish", frozenset({"FLOAT", "HALF", "INT8"})),
    ("Mish", frozenset({"FLOAT", "HALF"})),
    ("Celu", frozenset({"FLOAT"})),
    (
        "Exp Log Sqrt Sigmoid Tanh Floor Ceil Round Softplus Elu Selu Sin Cos Tan Softmax "
        "LogSoftmax ReduceL2 IsNaN IsInf Gelu MatMul Mean Gemm Einsum BatchNormalization "
        "LayerNormalization",
        FLOATS,
    ),
    ("Not And Or Xor", frozenset({"BOOL"})),
    # A plugin of its own, which the package does not hold.
    ("NonZero", frozenset()),
)
TAKES = {name: types for names, types in _TAKES for name in names.split()}
