# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The kinds of quantisation: what each needs of a recipe, of calibration, and of what runs it."""

from __future__ import annotations

from dataclasses import dataclass

from onnx import TensorProto

from av_compress.compress.emit import lower_opset
from av_compress.compress.optimize.passes import OPSET

_HALF = TensorProto.FLOAT16
_TENSORRT = (
    "TensorRT 10 or newer",
    "TensorRT for RTX 1.7 or newer",
    "ONNX Runtime 1.18 or newer with CUDA",
)
_CPU = ("ONNX Runtime 1.18 or newer on a CPU",)


@dataclass(frozen=True)
class Kind:
    """A kind of quantisation.

    Attributes:
        name: in words.
        emitter: the form that holds it.
        recipe: what a recipe says to get it, besides the emitter; empty for nothing more.
        weights: what the weights of a quantised node are.
        activations: what its activations are.
        scales: where the activations' scales come from.
        calibration: whether ranges are observed on recorded frames.
        types: element types that it may bring into a graph, besides the source's own.
        operators: operators that it may bring into a graph, besides the source's own.
        opset: of what is written.
        targets: what runs it.

    """

    name: str
    emitter: str
    recipe: str
    weights: str
    activations: str
    scales: str
    calibration: bool
    types: frozenset[int]
    operators: frozenset[str]
    targets: tuple[str, ...]
    opset: int = OPSET


_PAIR = frozenset({"QuantizeLinear", "DequantizeLinear"})

KINDS: tuple[Kind, ...] = (
    Kind(
        name="FP16",
        emitter="tensorrt",
        recipe='precision: {exclude: ["*"]}',
        weights="FP16",
        activations="FP16",
        scales="none",
        calibration=False,
        types=frozenset({_HALF}),
        operators=frozenset({"Cast"}),
        targets=_TENSORRT,
    ),
    Kind(
        name="INT8, static",
        emitter="tensorrt",
        recipe="",
        weights="INT8, a scale a channel",
        activations="INT8, symmetric, a scale a tensor",
        scales="frames of the recipe",
        calibration=True,
        types=frozenset({TensorProto.INT8, _HALF}),
        operators=_PAIR | {"Cast"},
        targets=_TENSORRT,
    ),
    Kind(
        name="mixed",
        emitter="tensorrt",
        recipe="search: {}",
        weights="INT8, FP16 or FP32 by node",
        activations="INT8, FP16 or FP32 by node",
        scales="frames of the recipe",
        calibration=True,
        types=frozenset({TensorProto.INT8, _HALF}),
        operators=_PAIR | {"Cast"},
        targets=_TENSORRT,
    ),
    Kind(
        name="INT8, static, for CPUs",
        emitter="cpu",
        recipe="",
        weights="INT8 of 7 bits, a scale a channel",
        activations="UINT8, a scale and a zero point a tensor",
        scales="frames of the recipe",
        calibration=True,
        types=frozenset({TensorProto.INT8, TensorProto.UINT8, TensorProto.INT32}),
        operators=_PAIR,
        targets=_CPU,
    ),
    Kind(
        name="INT8, dynamic",
        emitter="cpu_dynamic",
        recipe="",
        weights="INT8 of 7 bits, a scale a column",
        activations="UINT8, a scale and a zero point a tensor",
        scales="each frame, while the model runs",
        calibration=False,
        types=frozenset({TensorProto.INT8, TensorProto.UINT8, TensorProto.INT32}),
        operators=frozenset({"DynamicQuantizeLinear", "MatMulInteger", "Cast", "Mul", "Add"}),
        targets=_CPU,
    ),
    Kind(
        name="INT8 weights",
        emitter="weight_only",
        recipe="",
        weights="INT8, a scale a channel",
        activations="FP32",
        scales="none",
        calibration=False,
        types=frozenset({TensorProto.INT8}),
        operators=frozenset({"DequantizeLinear"}),
        targets=(*_CPU, "TensorRT for RTX 1.7 or newer"),
    ),
    Kind(
        name="FP8",
        emitter="tensorrt_fp8",
        recipe="",
        weights="FP8 (E4M3), a scale a channel",
        activations="FP8 (E4M3), a scale a tensor",
        scales="frames of the recipe",
        calibration=True,
        types=frozenset({TensorProto.FLOAT8E4M3FN, _HALF}),
        operators=_PAIR | {"Cast"},
        targets=(
            "TensorRT 10 or newer",
            "TensorRT for RTX 1.7 or newer; GPUs of compute capability 8.9 or newer",
        ),
    ),
    Kind(
        name="INT8, static, for TensorRT 8",
        emitter="tensorrt_8",
        recipe="",
        weights="INT8, a scale a channel",
        activations="INT8, symmetric, a scale a tensor",
        scales="frames of the recipe",
        calibration=True,
        types=frozenset({TensorProto.INT8}),
        operators=_PAIR,
        targets=("TensorRT 8.6 to 10", "TensorRT for RTX 1.7 or newer, FP32 around INT8"),
        opset=lower_opset.OPSET,
    ),
)
