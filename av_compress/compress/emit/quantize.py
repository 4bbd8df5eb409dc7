# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Quantisation: a prepared model, a plan and ranges in, a model in an emitter's form out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import onnx

from av_compress.compress.emit import (
    cpu,
    cpu_dynamic,
    tensorrt,
    tensorrt_8,
    tensorrt_fp8,
    weight_only,
)
from av_compress.compress.emit.insertion import Ranges, WeightGrid
from av_compress.compress.lint.lint import refuse_broken_form
from av_compress.compress.optimize.passes import refuse_quantised
from av_compress.compress.plan.precision import PrecisionPlan, PrecisionRules
from av_compress.errors import ConfigError, ModelError

# Tensor name -> the largest magnitude seen.
Magnitudes = Mapping[str, float]


def _as_they_are(rules: PrecisionRules) -> PrecisionRules:
    return rules


def _own_rounding(plan: PrecisionPlan) -> WeightGrid | None:
    return None


@dataclass(frozen=True)
class Emitter:
    """The parts of an emitter; see the functions below. `emit` gets a plan that is narrowed."""

    narrow: Callable[[onnx.ModelProto, PrecisionPlan, Magnitudes], PrecisionPlan]
    tensors_to_observe: Callable[[onnx.ModelProto, PrecisionPlan], tuple[str, ...]]
    emit: Callable[[onnx.ModelProto, PrecisionPlan, Ranges, Magnitudes], onnx.ModelProto]
    adapt: Callable[[PrecisionRules], PrecisionRules] = _as_they_are
    weight_grid: Callable[[PrecisionPlan], WeightGrid | None] = _own_rounding


EMITTERS: Mapping[str, Emitter] = {
    "tensorrt": Emitter(
        tensorrt.narrow,
        tensorrt.tensors_to_observe,
        tensorrt.emit,
        weight_grid=tensorrt.weight_grid,
    ),
    "cpu": Emitter(
        cpu.narrow, cpu.tensors_to_observe, cpu.emit, cpu.adapt, weight_grid=cpu.weight_grid
    ),
    "cpu_dynamic": Emitter(
        cpu_dynamic.narrow, cpu_dynamic.tensors_to_observe, cpu_dynamic.emit, cpu_dynamic.adapt
    ),
    "weight_only": Emitter(
        weight_only.narrow, weight_only.tensors_to_observe, weight_only.emit, weight_only.adapt
    ),
    "tensorrt_fp8": Emitter(
        tensorrt.narrow, tensorrt.tensors_to_observe, tensorrt_fp8.emit, tensorrt_fp8.adapt
    ),
    "tensorrt_8": Emitter(
        tensorrt.narrow,
        tensorrt.tensors_to_observe,
        tensorrt_8.emit,
        weight_grid=tensorrt_8.weight_grid,
    ),
}


def adapt_rules(rules: PrecisionRules, emitter: str) -> PrecisionRules:
    """Return what a recipe's rules mean for a form: some guard against what it does not do.

    Raises:
        ConfigError: unknown emitter.

    """
    return _emitter(emitter).adapt(rules)


def narrow_plan(
    model: onnx.ModelProto,
    plan: PrecisionPlan,
    emitter: str,
    magnitudes: Magnitudes | None = None,
) -> PrecisionPlan:
    """Return what an emitter makes of a plan: nodes that it leaves in float, with its reasons.

    Args:
        model: prepared FP32 model.
        plan: precision of every weighted node.
        emitter: a key of `EMITTERS`.
        magnitudes: what FP16 has to hold; without them every activation is taken to fit.

    Raises:
        ConfigError: unknown emitter.

    """
    return _emitter(emitter).narrow(model, plan, magnitudes or {})


def tensors_to_observe(
    model: onnx.ModelProto, plan: PrecisionPlan, emitter: str
) -> tuple[str, ...]:
    """Return the activations whose ranges an emitter needs; none where nothing is calibrated.

    Raises:
        ConfigError: unknown emitter.

    """
    return _emitter(emitter).tensors_to_observe(model, narrow_plan(model, plan, emitter))


def weight_grid(plan: PrecisionPlan, emitter: str) -> WeightGrid | None:
    """Return which weights a form stores, for whoever rounds them; None: it does so itself.

    Raises:
        ConfigError: unknown emitter.

    """
    return _emitter(emitter).weight_grid(plan)


def quantize(
    model: onnx.ModelProto,
    plan: PrecisionPlan,
    ranges: Ranges,
    magnitudes: Magnitudes,
    emitter: str,
) -> onnx.ModelProto:
    """Write the model in an emitter's form.

    Args:
        model: prepared FP32 model; it stays as it is.
        plan: precision of every weighted node.
        ranges: tensor name -> (lowest, highest) value represented, for `tensors_to_observe`.
        magnitudes: tensor name -> largest magnitude seen, for every float tensor; decides what
            FP16 can hold.
        emitter: a key of `EMITTERS`.

    Raises:
        ConfigError: unknown emitter.
        ModelError: a range is missing, or what was written is not valid ONNX, or breaks a
            rule of the TensorRT that the form is for.

    """
    refuse_quantised(model)
    narrowed = narrow_plan(model, plan, emitter, magnitudes)
    wanted = _emitter(emitter).tensors_to_observe(model, narrowed)
    missing = [tensor for tensor in wanted if tensor not in ranges]
    if missing:
        raise ModelError(f"no range was observed for tensor {', '.join(missing)}")
    try:
        emitted = _emitter(emitter).emit(model, narrowed, ranges, magnitudes)
        onnx.checker.check_model(emitted, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ModelError(f"the {emitter} form is not valid ONNX: {error}") from error
    refuse_broken_form(emitted, emitter)
    return emitted


def _emitter(name: str) -> Emitter:
    if name not in EMITTERS:
        raise ConfigError(f"emitter {name!r} is not allowed; allowed: {', '.join(EMITTERS)}")
    return EMITTERS[name]
