# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Checks of values: scales, zero points, stored weights, constants."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import TensorProto

from av_compress.compress.graph import attribute
from av_compress.compress.lint.rule import Finding
from av_compress.compress.lint.targets import Target
from av_compress.compress.lint.view import DEQUANTIZE, QUANTIZE, LintView, name_of, type_name
from av_compress.tensors import Array

_HALF_LARGEST = float(np.finfo(np.float16).max)
_HALF_NORMAL = float(np.finfo(np.float16).smallest_normal)
# Products with 8-bit activations of which two fit 16 bits.
_SAFE_WEIGHT = 64
# Nodes in which an infinite constant is a mask or a bound.
_MASKING = frozenset({"Where", "Add", "Max", "Min", "Clip", "Pad", "ConstantOfShape", "ReduceMax"})


def scale_not_positive(view: LintView, target: Target) -> Iterator[Finding]:
    """Find scales that are zero, negative or NaN."""
    for node, scale in _scales(view):
        if not (scale > 0).all():
            yield Finding(name_of(node), f"scale {_worst(scale, scale > 0)}")


def scale_infinite(view: LintView, target: Target) -> Iterator[Finding]:
    """Find scales that are infinite."""
    for node, scale in _scales(view):
        if np.isposinf(scale).any():
            yield Finding(name_of(node), "scale inf")


def scale_dynamic(view: LintView, target: Target) -> Iterator[Finding]:
    """Find scales that the model computes, or reads from an input."""
    for node in view.of_type(QUANTIZE, DEQUANTIZE):
        if not view.is_constant(node.input[1]):
            yield Finding(name_of(node), f"scale {node.input[1]} is no constant")


def scale_length(view: LintView, target: Target) -> Iterator[Finding]:
    """Find scales whose number is not that of the channels."""
    for node in view.of_type(QUANTIZE, DEQUANTIZE):
        scale, axis = view.index.shape(node.input[1]), view.axis(node)
        shape = view.index.shape(node.input[0])
        # With as many axes as the tensor has, scales belong to blocks of it.
        if axis is None or scale is None or len(scale) != 1 or shape is None:
            continue
        there = 0 <= axis < len(shape)
        if not there or shape[axis] not in {None, scale[0]}:
            extent = shape[axis] if there else "no axis"
            yield Finding(
                name_of(node), f"{scale[0]} scales for {extent} channels along axis {axis}"
            )


def scale_of_one(view: LintView, target: Target) -> Iterator[Finding]:
    """Find activations whose single scale is a vector."""
    for node in view.of_type(QUANTIZE):
        if not view.is_constant(node.input[0]) and view.index.shape(node.input[1]) == (1,):
            yield Finding(name_of(node), "scale of shape [1] on an activation")


def half_scale_of_one(view: LintView, target: Target) -> Iterator[Finding]:
    """Find INT8 convolutions with a vector of one FP16 scale for a weight of many channels."""
    for node, activation, weight in view.weighted:
        if node.op_type != "Conv" or not activation.quantised or weight.pair is None:
            continue
        scale, shape = weight.pair.input[1], view.index.shape(node.input[1])
        single = view.index.shape(scale) == (1,) and (shape is None or shape[0] != 1)
        if single and view.type_of(scale) == TensorProto.FLOAT16:
            yield Finding(name_of(node), f"FP16 scale {scale} of shape [1] for its weight")


def activation_per_channel(view: LintView, target: Target) -> Iterator[Finding]:
    """Find activations with one scale a channel."""
    for node in view.of_type(QUANTIZE):
        if view.axis(node) is not None and not view.is_constant(node.input[0]):
            scale = view.index.shape(node.input[1]) or ()
            count = "x".join(map(str, scale))
            yield Finding(name_of(node), f"{count} scales on activation {node.input[0]}")


def half_scale(view: LintView, target: Target) -> Iterator[Finding]:
    """Find FP16 scales where the target knows none."""
    for node in view.of_type(QUANTIZE, DEQUANTIZE):
        if not target.half_scales and view.type_of(node.input[1]) == TensorProto.FLOAT16:
            yield Finding(name_of(node), "FP16 scale")


def half_scale_subnormal(view: LintView, target: Target) -> Iterator[Finding]:
    """Find FP16 scales below the range in which FP16 has all of its digits."""
    for node, scale in _scales(view):
        small = (scale > 0) & (scale < _HALF_NORMAL)
        if scale.dtype == np.float16 and small.any():
            yield Finding(name_of(node), f"FP16 scale {_worst(scale, ~small)}")


def zero_point_not_zero(view: LintView, target: Target) -> Iterator[Finding]:
    """Find zero points other than zero."""
    for node in view.of_type(QUANTIZE, DEQUANTIZE):
        value = view.constant(node.input[2]) if _has_zero_point(node) else None
        if value is not None and value.astype(np.float32).any():
            worst = _worst(value.astype(np.float32), value.astype(np.float32) == 0)
            yield Finding(name_of(node), f"zero point {worst}")


def zero_point_missing(view: LintView, target: Target) -> Iterator[Finding]:
    """Find quantisers without a zero point, which makes their result UINT8 by the standard."""
    for node in view.of_type(QUANTIZE):
        if not _has_zero_point(node) and not attribute(node, "output_dtype", 0):
            yield Finding(name_of(node), "no zero point: UINT8 by the standard")


def zero_point_absent(view: LintView, target: Target) -> Iterator[Finding]:
    """Find pairs without a zero point, where the target wants one."""
    for node in view.of_type(QUANTIZE, DEQUANTIZE):
        if not _has_zero_point(node):
            yield Finding(name_of(node), "no zero point")


def zero_point_uint8(view: LintView, target: Target) -> Iterator[Finding]:
    """Find quantisers that say they make UINT8."""
    for node in view.of_type(QUANTIZE):
        said = _has_zero_point(node) or attribute(node, "output_dtype", 0)
        if said and _made_type(view, node) == TensorProto.UINT8:
            yield Finding(name_of(node), "makes UINT8")


def zero_point_dynamic(view: LintView, target: Target) -> Iterator[Finding]:
    """Find zero points that are no constants."""
    for node in view.of_type(QUANTIZE, DEQUANTIZE):
        if _has_zero_point(node) and not view.is_constant(node.input[2]):
            yield Finding(name_of(node), f"zero point {node.input[2]} is no constant")


def zero_point_shape(view: LintView, target: Target) -> Iterator[Finding]:
    """Find zero points that are fewer or more than the scales."""
    for node in view.of_type(QUANTIZE, DEQUANTIZE):
        if not _has_zero_point(node):
            continue
        zero, scale = view.index.shape(node.input[2]), view.index.shape(node.input[1])
        if zero is not None and scale is not None and _size(zero) != _size(scale):
            yield Finding(name_of(node), f"{_size(zero)} zero points for {_size(scale)} scales")


def quantised_type(view: LintView, target: Target) -> Iterator[Finding]:
    """Find quantisers to a type that the target does not compute in."""
    for node in view.of_type(QUANTIZE):
        kind = _made_type(view, node)
        if kind not in {0, TensorProto.UINT8, *target.quantised}:
            yield Finding(name_of(node), f"makes {type_name(kind)}")


def fp8(view: LintView, target: Target) -> Iterator[Finding]:
    """Find quantisers to FP8."""
    for node in view.of_type(QUANTIZE):
        if target.fp8 and _made_type(view, node) == TensorProto.FLOAT8E4M3FN:
            yield Finding(name_of(node), "makes FP8 (E4M3)")


def dequantised_int32(view: LintView, target: Target) -> Iterator[Finding]:
    """Find INT32 behind DequantizeLinear: biases, as ONNX Runtime writes them."""
    for node in view.of_type(DEQUANTIZE):
        if view.type_of(node.input[0]) == TensorProto.INT32:
            yield Finding(name_of(node), f"restores INT32 {node.input[0]}")


def weight_of_128(view: LintView, target: Target) -> Iterator[Finding]:
    """Find weights that use -128."""
    for node, _, weight in view.weighted:
        values = None if weight.pair is None else view.integers(weight.pair)
        if values is not None and values.size and values.min() < -127:
            yield Finding(name_of(node), f"weights down to {values.min():.0f}")


def weight_saturates(view: LintView, target: Target) -> Iterator[Finding]:
    """Find weights whose products overflow the 16-bit sums of older CPUs."""
    for node, activation, weight in view.weighted:
        if not activation.quantised or weight.pair is None:
            continue
        values = view.integers(weight.pair)
        if values is not None and values.size and np.abs(values).max() > _SAFE_WEIGHT:
            yield Finding(name_of(node), f"weights up to {np.abs(values).max():.0f}")


def signed_activation(view: LintView, target: Target) -> Iterator[Finding]:
    """Find activations in signed integers."""
    for node in view.of_type(QUANTIZE):
        signed = _made_type(view, node) == TensorProto.INT8
        if signed and not view.is_constant(node.input[0]):
            yield Finding(name_of(node), "makes INT8")


def constant_not_finite(view: LintView, target: Target) -> Iterator[Finding]:
    """Find constants with NaN, and with infinity where it is no mask."""
    scales = {node.input[1] for node in view.of_type(QUANTIZE, DEQUANTIZE)}
    for name in view.index.constants:
        value = None if name in scales else view.constant(name)
        if value is None or value.dtype.kind != "f" or np.isfinite(value).all():
            continue
        readers = {node.op_type for node in view.index.consumers.get(name, ())}
        if np.isnan(value).any() or readers - _MASKING:
            yield Finding(name, f"constant holds {_worst(value, np.isfinite(value))}")


def half_overflow(view: LintView, target: Target) -> Iterator[Finding]:
    """Find constants cast to FP16 that FP16 cannot hold."""
    for node in view.of_type("Cast"):
        value = view.constant(node.input[0])
        to_half = attribute(node, "to", 0) == TensorProto.FLOAT16
        if to_half and value is not None and value.size:
            largest = float(np.abs(value.astype(np.float64)).max())
            if np.isfinite(largest) and largest > _HALF_LARGEST:
                yield Finding(name_of(node), f"casts {largest:.3g} to FP16")


def _scales(view: LintView) -> Iterator[tuple[onnx.NodeProto, Array]]:
    for node in view.of_type(QUANTIZE, DEQUANTIZE):
        scale = view.constant(node.input[1])
        if scale is not None and scale.size and scale.dtype.kind == "f":
            yield node, scale


def _made_type(view: LintView, node: onnx.NodeProto) -> int:
    """Return the type that a quantiser makes."""
    if _has_zero_point(node):
        return view.type_of(node.input[2])
    return attribute(node, "output_dtype", 0) or int(TensorProto.UINT8)


def _has_zero_point(node: onnx.NodeProto) -> bool:
    return len(node.input) > 2 and bool(node.input[2])


def _size(shape: tuple[int | None, ...]) -> int:
    return int(np.prod([extent or 1 for extent in shape]))


def _worst(values: Array, good: Array) -> str:
    """Name the first value that is not good, and how many there are where it is not the only."""
    bad = values[~good]
    more = f" and {bad.size - 1} more" if bad.size > 1 else ""
    return f"{bad.reshape(-1)[0]:g}{more}"
