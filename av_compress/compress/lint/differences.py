# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Where TensorRT for RTX, whose builder is tried, and `tensorrt`, which needs a card, differ.

What is said of `tensorrt` is read off the sources of its parser and off NVIDIA's pages; where
neither says anything, that is said.
"""

from __future__ import annotations

from dataclasses import dataclass

_PARSER = "onnx-tensorrt, branches 8.6-GA and 10.1-GA, QuantDequantLinearHelper"
_NEWER = (
    "onnx-tensorrt, the parser with ENABLE_UINT8_AND_ASYMMETRIC_QUANTIZATION_DLA, same function"
)
_SILENT = "nothing was found that says it"


@dataclass(frozen=True)
class Difference:
    """A rule on both.

    Attributes:
        rule: its id.
        rtx: what TensorRT for RTX 1.7 was seen to do.
        tensorrt: what `tensorrt` does, as far as it is known.
        source: of what is said of `tensorrt`.

    """

    rule: str
    rtx: str
    tensorrt: str
    source: str


DIFFERENCES: tuple[Difference, ...] = (
    Difference(
        "scale-dynamic",
        "the builder crashes",
        "the parser passes it on; a scale has to be constant when the engine is built",
        f"{_PARSER}; NVIDIA's operator page of 8.6.1, Quantize",
    ),
    Difference(
        "scale-of-one",
        "what reads the activation runs in float",
        "the parser takes any scale of one number for one scale; what its builder makes of the "
        "vector is not known",
        _PARSER,
    ),
    Difference(
        "half-scale-of-one",
        "the builder fails",
        "the parser takes it, as above; what its builder makes of it is not known",
        _PARSER,
    ),
    Difference(
        "scale-type",
        "built in INT8, whichever of the two is FP16",
        "below opset 19 the parser of 10 casts the scale to its tensor's type, from 19 on it "
        "passes it on; what its builder makes of it is not known, and lint says `mixed-types`",
        "onnx-tensorrt, branch 10.1-GA, QuantDequantLinearHelper",
    ),
    Difference(
        "half-scale",
        "FP16 scales are read",
        "8.6 reads their bytes as FP32; 10 and 11 read FP16",
        _PARSER,
    ),
    Difference(
        "zero-point-uint8",
        "built in INT8, with a warning",
        "10.16 and 11 warn and quantise to INT8 as well",
        _NEWER,
    ),
    Difference(
        "zero-point-uint8-refused",
        "built, see `zero-point-uint8`",
        "8.6 and 10.3 refuse the node",
        _PARSER,
    ),
    Difference(
        "zero-point-missing",
        "built in INT8",
        "10 and 11 quantise to INT8; 8.6 wants the zero point, see `zero-point-absent`",
        _PARSER,
    ),
    Difference(
        "zero-point-absent",
        "built, see `zero-point-missing`",
        "8.6 wants three inputs",
        _PARSER,
    ),
    Difference(
        "fp8-hardware",
        "refused below compute capability 8.9",
        "8.6 has FP8 by operators of its own alone; the cards are the same",
        _PARSER,
    ),
    Difference(
        "quantised-constant",
        "the builder refuses the constant",
        "not known of 8.6, so that lint says nothing there",
        _SILENT,
    ),
    Difference(
        "transposed-in-float",
        "runs in float whatever its scales",
        "not known",
        _SILENT,
    ),
    Difference(
        "depthwise-padded",
        "built in INT8, channels padded fourfold",
        "not known",
        _SILENT,
    ),
    Difference(
        "mixed-types",
        "the scale of QuantizeLinear may be of another type, see `scale-type`",
        "refused where types come from the graph, by the standard's rule",
        _SILENT,
    ),
    Difference(
        "integer-arithmetic",
        "pools INT8, outside the standard",
        "not known",
        _SILENT,
    ),
    Difference(
        "unsupported-operator",
        "does not read BitCast, CumProd, DeformConv and SwiGLU either",
        "as the table of targets says",
        "see the table of sources below",
    ),
)
