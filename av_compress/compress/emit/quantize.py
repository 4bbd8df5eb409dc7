# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Quantisation: a prepared model, a plan and ranges in, a model with explicit Q/DQ out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import onnx

from av_compress.compress.emit import cpu, tensorrt
from av_compress.compress.emit.insertion import Ranges
from av_compress.compress.lint.lint import refuse_broken_form
from av_compress.compress.optimize.passes import refuse_quantised
from av_compress.compress.plan.precision import PrecisionPlan
from av_compress.errors import ConfigError, ModelError


@dataclass(frozen=True)
class Emitter:
    """The parts of an emitter; see the functions of these names below."""

    narrow: Callable[[onnx.ModelProto, PrecisionPlan], PrecisionPlan]
    tensors_to_observe: Callable[[onnx.ModelProto, PrecisionPlan], tuple[str, ...]]
    emit: Callable[[onnx.ModelProto, PrecisionPlan, Ranges, Mapping[str, float]], onnx.ModelProto]


EMITTERS: Mapping[str, Emitter] = {
    "tensorrt": Emitter(tensorrt.narrow, tensorrt.tensors_to_observe, tensorrt.emit),
    "cpu": Emitter(cpu.narrow, cpu.tensors_to_observe, cpu.emit),
}


def narrow_plan(model: onnx.ModelProto, plan: PrecisionPlan, emitter: str) -> PrecisionPlan:
    """Return what an emitter makes of a plan: nodes that it leaves in float, with its reasons.

    Raises:
        ConfigError: unknown emitter.

    """
    return _emitter(emitter).narrow(model, plan)


def tensors_to_observe(
    model: onnx.ModelProto, plan: PrecisionPlan, emitter: str
) -> tuple[str, ...]:
    """Return the activations whose ranges an emitter needs.

    Raises:
        ConfigError: unknown emitter.

    """
    return _emitter(emitter).tensors_to_observe(model, narrow_plan(model, plan, emitter))


def quantize(
    model: onnx.ModelProto,
    plan: PrecisionPlan,
    ranges: Ranges,
    magnitudes: Mapping[str, float],
    emitter: str,
) -> onnx.ModelProto:
    """Write the model in an emitter's form.

    Args:
        model: prepared FP32 model; it stays as it is.
        plan: precision of every weighted node.
        ranges: tensor name -> (lowest, highest) value represented, for `tensors_to_observe`.
        magnitudes: tensor name -> largest magnitude seen, for every float tensor; decides what
            FP16 can hold.
        emitter: `tensorrt` or `cpu`.

    Raises:
        ConfigError: unknown emitter.
        ModelError: a range is missing, or what was written is not valid ONNX, or in the `tensorrt`
            form breaks a rule of TensorRT.

    """
    refuse_quantised(model)
    missing = [t for t in tensors_to_observe(model, plan, emitter) if t not in ranges]
    if missing:
        raise ModelError(f"no range was observed for tensor {', '.join(missing)}")
    narrowed = narrow_plan(model, plan, emitter)
    emitted = _emitter(emitter).emit(model, narrowed, ranges, magnitudes)
    try:
        onnx.checker.check_model(emitted, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ModelError(f"the {emitter} form is not valid ONNX: {error}") from error
    if emitter == "tensorrt":
        refuse_broken_form(emitted)
    return emitted


def _emitter(name: str) -> Emitter:
    if name not in EMITTERS:
        raise ConfigError(f"emitter {name!r} is not allowed; allowed: {', '.join(EMITTERS)}")
    return EMITTERS[name]
