# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What each target reads: opsets, types, operators; every fact with its source.

The rules of `tensorrt` proper are read off its parser's sources and pages, where no card can try
them. Those of TensorRT for RTX were tried with its real parser and builder, which need no card.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from onnx import TensorProto

from av_compress.errors import UsageError

_FLOATS = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE})
_INTEGERS = frozenset({TensorProto.INT8, TensorProto.INT32, TensorProto.INT64})
# UINT8 only at the graph's border and as a constant, which becomes INT32.
_TENSORRT_8 = _FLOATS | _INTEGERS | {TensorProto.BOOL, TensorProto.UINT8}
_TENSORRT_10 = _TENSORRT_8 | {
    TensorProto.BFLOAT16,
    TensorProto.FLOAT8E4M3FN,
    TensorProto.INT4,
}
# TensorProto.FLOAT4E2M1, which ONNX below 1.18 does not name.
_FLOAT4 = 23
_TENSORRT_11 = _TENSORRT_10 | {_FLOAT4}
_QUANTISED_10 = frozenset({TensorProto.INT8, TensorProto.FLOAT8E4M3FN, TensorProto.INT4})
_QUANTISED_11 = _QUANTISED_10 | {_FLOAT4}

# Operators that no release reads.
_UNREAD = frozenset(
    {
        *("Bernoulli", "BitShift", "Compress", "ConcatFromSequence", "ConvInteger", "DFT", "Det"),
        *("DynamicQuantizeLinear", "MatMulInteger", "MaxRoiPool", "MaxUnpool", "MelWeightMatrix"),
        *("Multinomial", "NegativeLogLikelihoodLoss", "Optional", "OptionalGetElement"),
        *("OptionalHasElement", "QLinearConv", "QLinearMatMul", "SequenceAt"),
        *("SequenceConstruct", "SequenceEmpty", "SequenceErase", "SequenceInsert"),
        *("SequenceLength", "SequenceMap", "SoftmaxCrossEntropyLoss", "SplitToSequence"),
        *("StringNormalizer", "TfIdfVectorizer", "Unique"),
    }
)
_WINDOWS = frozenset({"BlackmanWindow", "HammingWindow", "HannWindow", "STFT"})
_SINCE_OPSET_18 = frozenset(
    {
        *("AffineGrid", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "CenterCropPad"),
        *("Col2Im", "ImageDecoder", "RegexFullMatch", "StringConcat", "StringSplit"),
    }
)
_UNREAD_BY_10 = _UNREAD | _SINCE_OPSET_18
_UNREAD_BY_RTX = _UNREAD_BY_10 | {"BitCast", "CumProd", "DeformConv", "SwiGLU"}


@dataclass(frozen=True)
class Target:
    """What runs a model, and what it reads.

    Attributes:
        name: as the command line calls it.
        title: in words.
        opset_min: oldest opset that it promises to read.
        opset_max: newest opset that it promises to read.
        types: ONNX element types that a tensor may have.
        quantised: element types that QuantizeLinear may make.
        symmetric: zero points have to be zero.
        half_scales: scales of QuantizeLinear and DequantizeLinear may be FP16.
        mixed_scales: QuantizeLinear takes a scale of another float type than its tensor's, against
            the standard.
        unsupported: operators of the standard that it does not read.
        sources: field -> where the fact is from, and whether it was tried.

    """

    name: str
    title: str
    opset_min: int
    opset_max: int
    types: frozenset[int]
    quantised: frozenset[int]
    symmetric: bool
    half_scales: bool
    mixed_scales: bool
    unsupported: frozenset[str]
    sources: Mapping[str, str]

    @property
    def fp8(self) -> bool:
        """Tell whether it computes in FP8 (E4M3), given a card that does."""
        return TensorProto.FLOAT8E4M3FN in self.quantised

    @property
    def int4(self) -> bool:
        """Tell whether it reads INT4 weights."""
        return TensorProto.INT4 in self.quantised

    @property
    def uint8(self) -> bool:
        """Tell whether QuantizeLinear may make UINT8."""
        return TensorProto.UINT8 in self.quantised


_UNTRIED = "not tried: needs a card"
_PARSER_86 = f"onnx-tensorrt, branch 8.6-GA, builtin_op_importers.cpp; {_UNTRIED}"
_PARSER_101 = f"onnx-tensorrt, branch 10.1-GA, onnxOpImporters.cpp; {_UNTRIED}"
_PAGE_86 = f"onnx-tensorrt, branch 8.6-GA, docs/operators.md; {_UNTRIED}"
_PAGE_101 = f"onnx-tensorrt, branch 10.1-GA, docs/operators.md (10.3's is not kept); {_UNTRIED}"
_PAGE_1015 = f"onnx-tensorrt, docs/operators.md of 10.15, the nearest that was found; {_UNTRIED}"
_PAGE_11 = f"TensorRT release notes: opset 25 came with 11.5, 11.0 to 11.4 read 24; {_UNTRIED}"
_STANDARD = f"the standard's rule; nothing says that it is not held to; {_UNTRIED}"
_TRIED = "tried: parsed and built by tensorrt_rtx 1.7.1.116 for SM89"

TARGETS: Mapping[str, Target] = {
    target.name: target
    for target in (
        Target(
            "tensorrt-8.6",
            "TensorRT 8.6 (JetPack 6.0, DRIVE OS 6)",
            opset_min=9,
            opset_max=17,
            types=_TENSORRT_8,
            quantised=frozenset({TensorProto.INT8}),
            symmetric=True,
            half_scales=False,
            mixed_scales=False,
            unsupported=_UNREAD | _WINDOWS,
            sources={
                "opset_min": f"NVIDIA's opset guide: backward support from 9; {_UNTRIED}",
                "opset_max": _PAGE_86,
                "types": _PAGE_86,
                "quantised": f"{_PARSER_86} (FP8 only by its own TRT_FP8QuantizeLinear)",
                "symmetric": _PARSER_86,
                "half_scales": f"{_PARSER_86} (reads the bytes of a scale as FP32)",
                "mixed_scales": f"NVIDIA's operator page of 8.6.1: scales are FP32; {_UNTRIED}",
                "unsupported": _PAGE_86,
            },
        ),
        Target(
            "tensorrt-10.3",
            "TensorRT 10.3 (JetPack 6.1, 6.2)",
            opset_min=9,
            opset_max=20,
            types=_TENSORRT_10,
            quantised=_QUANTISED_10,
            symmetric=True,
            half_scales=True,
            mixed_scales=False,
            unsupported=_UNREAD_BY_10 | _WINDOWS,
            sources={
                "opset_min": _PAGE_101,
                "opset_max": _PAGE_101,
                "types": _PAGE_101,
                "quantised": _PARSER_101,
                "symmetric": _PARSER_101,
                "half_scales": _PARSER_101,
                "mixed_scales": _STANDARD,
                "unsupported": _PAGE_101,
            },
        ),
        Target(
            "tensorrt-10.16",
            "TensorRT 10.16 (JetPack 7)",
            opset_min=9,
            opset_max=24,
            types=_TENSORRT_11,
            quantised=_QUANTISED_11,
            symmetric=True,
            half_scales=True,
            mixed_scales=False,
            unsupported=_UNREAD_BY_10,
            sources={
                "opset_min": _PAGE_1015,
                "opset_max": _PAGE_1015,
                "types": _PAGE_1015,
                "quantised": _PAGE_1015,
                "symmetric": _PAGE_1015,
                "half_scales": _PARSER_101,
                "mixed_scales": _STANDARD,
                "unsupported": _PAGE_1015,
            },
        ),
        Target(
            "tensorrt-11",
            "TensorRT 11.0 to 11.4",
            opset_min=9,
            opset_max=24,
            types=_TENSORRT_11,
            quantised=_QUANTISED_11,
            symmetric=True,
            half_scales=True,
            mixed_scales=False,
            unsupported=_UNREAD_BY_10,
            sources={
                "opset_min": f"NVIDIA's opset guide: backward support from 9; {_UNTRIED}",
                "opset_max": _PAGE_11,
                "types": _PAGE_1015,
                "quantised": _PAGE_1015,
                "symmetric": _PAGE_1015,
                "half_scales": "as TensorRT for RTX, whose API is that of 11; not tried itself",
                "mixed_scales": _STANDARD,
                "unsupported": _PAGE_1015,
            },
        ),
        Target(
            "rtx-1.7",
            "TensorRT for RTX 1.7",
            opset_min=9,
            opset_max=24,
            types=_TENSORRT_11,
            quantised=_QUANTISED_11,
            symmetric=True,
            half_scales=True,
            mixed_scales=True,
            unsupported=_UNREAD_BY_RTX,
            sources={
                "opset_min": "as TensorRT 11; the parser warns below 7 only",
                "opset_max": "as TensorRT 11.4, whose API it has; the parser looks at none",
                "types": _TRIED,
                "quantised": f"INT8, FP8 {_TRIED}; INT4 and FP4 as TensorRT 11",
                "symmetric": _TRIED,
                "half_scales": _TRIED,
                "mixed_scales": _TRIED,
                "unsupported": "tried: the real parser's supports_operator",
            },
        ),
        Target(
            "cpu",
            "ONNX Runtime on a CPU",
            opset_min=7,
            opset_max=21,
            types=frozenset(TensorProto.DataType.values()) - {TensorProto.UNDEFINED},
            quantised=frozenset(
                {TensorProto.INT8, TensorProto.UINT8, TensorProto.INT16, TensorProto.UINT16}
            ),
            symmetric=False,
            half_scales=True,
            mixed_scales=False,
            unsupported=frozenset(),
            sources={
                "opset_min": "tried: ONNX Runtime 1.32 warns below 7",
                "opset_max": "ONNX 1.16, which ONNX Runtime 1.18 came with, the oldest that this "
                "project allows; tried: 1.32 loads 27",
                "types": "the standard's; ONNX Runtime has no kernel for some pairs",
                "quantised": "the integer kernels of ONNX Runtime",
                "symmetric": "tried: the cpu form",
                "half_scales": "tried: since ONNX Runtime 1.24 rounded as the standard says",
                "mixed_scales": "tried: ONNX Runtime 1.32 does not load the model",
                "unsupported": "none: what has no kernel is said by ONNX Runtime itself",
            },
        ),
    )
}

# Groups of targets that share rules.
EVERY = frozenset(TARGETS)
CPU = frozenset({"cpu"})
RTX = frozenset({"rtx-1.7"})
TENSORRT_8 = frozenset({"tensorrt-8.6"})
TENSORRT = EVERY - CPU
SINCE_TENSORRT_10 = TENSORRT - TENSORRT_8
# Whose parsers refuse UINT8 zero points; later ones take them for INT8.
REFUSING_UINT8 = TENSORRT_8 | {"tensorrt-10.3"}


def find_target(name: str) -> Target:
    """Return a target by its name.

    Raises:
        UsageError: there is none; the known ones are listed.

    """
    if name not in TARGETS:
        raise UsageError(f"target {name!r} is unknown; known: {', '.join(TARGETS)}")
    return TARGETS[name]
