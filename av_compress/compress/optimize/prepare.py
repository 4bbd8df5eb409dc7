# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Preparation: a model as it comes, made into one that can be quantised, and proven equal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import onnx

from av_compress.compress.optimize.activations import RewriteActivations
from av_compress.compress.optimize.check import Check
from av_compress.compress.optimize.constants import DequantizeConstants
from av_compress.compress.optimize.empty_planes import MakeEmptyPlanes
from av_compress.compress.optimize.float16 import CastToFloat
from av_compress.compress.optimize.focus import StrideFocus
from av_compress.compress.optimize.fold_affine import FoldAffine
from av_compress.compress.optimize.fold_pad import FoldPad
from av_compress.compress.optimize.fold_places import FoldPlaces
from av_compress.compress.optimize.gemm import PlainGemm
from av_compress.compress.optimize.layout import ShortenLayout
from av_compress.compress.optimize.nms import DetachNms
from av_compress.compress.optimize.passes import (
    OPSET,
    TOLERANCE,
    Cost,
    Pass,
    PassReport,
    apply,
    cost,
    report_of,
)
from av_compress.compress.optimize.proof import Proof, compare
from av_compress.compress.optimize.standard import (
    ChangeOpset,
    InferShapes,
    NameNodes,
    Simplify,
    Tidy,
)
from av_compress.compress.optimize.static_shapes import FixShapes
from av_compress.compress.optimize.transposes import CancelTransposes
from av_compress.errors import ModelError
from av_compress.tensors import Tensors

# What onnxslim lacks, in an order in which one prepares the ground for the next.
OPTIMIZATIONS: tuple[Pass, ...] = (
    DequantizeConstants(),
    PlainGemm(),
    StrideFocus(),
    FoldPad(),
    CancelTransposes(),
    ShortenLayout(),
    FoldPlaces(),
    FoldAffine(),
    RewriteActivations(),
    MakeEmptyPlanes(),
)


__all__ = ["PrepareOptions", "PreparedModel", "compare", "load_model", "prepare_model"]


@dataclass(frozen=True)
class PrepareOptions:
    """What may be done to a model.

    Attributes:
        shapes: input name -> extents that dynamic inputs are fixed to.
        detach_nms: cut a suppression inside the model off, see `nms.DetachNms`.
        skip: names of passes of `OPTIMIZATIONS`, or `simplify`, that are not to run.
        examples: inputs to prove equality on in place of random ones, for a model whose inputs
            depend on one another: features and indices of voxels, of which no two lie in one cell.

    """

    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    detach_nms: bool = False
    skip: frozenset[str] = frozenset()
    examples: tuple[Tensors, ...] = ()


@dataclass(frozen=True)
class PreparedModel:
    """A model ready to be calibrated and quantised.

    Attributes:
        model: FP32, opset 19, optimised, every node named, shapes inferred.
        reports: what each pass did.
        deviation: largest difference from the source model's outputs on random input, and on the
            samples where some were given, relative to the largest output; None where the model
            does not run here.
        unproven: why equality could not be proven; empty where it was.
        limit: the largest deviation that is allowed; more for a source in FP16.

    """

    model: onnx.ModelProto
    reports: tuple[PassReport, ...]
    deviation: float | None
    unproven: str = ""
    limit: float = TOLERANCE


def prepare_model(
    path: Path, options: PrepareOptions = PrepareOptions(), samples: Sequence[Tensors] = ()
) -> PreparedModel:
    """Load a model, run the passes on it, and prove what each of them does.

    A pass that is not needed is dropped where it changes what the model computes, or where that
    cannot be found out; its report says so.

    Args:
        path: the ONNX file.
        options: what may be done.
        samples: real inputs (name -> array) on which equality is proven beside random ones.

    Raises:
        ModelError: the file is absent or not ONNX, a needed pass's precondition does not hold, or
            the prepared model computes something else than the source.

    """
    source = load_model(path)
    try:
        return prepare_loaded(source, options, samples)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error


def prepare_loaded(
    source: onnx.ModelProto, options: PrepareOptions, samples: Sequence[Tensors] = ()
) -> PreparedModel:
    """Prepare a model that was loaded; see `prepare_model`.

    Args:
        source: the model. It is changed.
        options: what may be done.
        samples: real inputs.

    Raises:
        ModelError: see `prepare_model`.

    """
    return _Preparation(source, options, samples).run()


class _Preparation:
    """A model on its way through the passes, with the proof of what has been done to it."""

    def __init__(
        self, source: onnx.ModelProto, options: PrepareOptions, samples: Sequence[Tensors]
    ) -> None:
        self._options = options
        self._reports: list[PassReport] = []
        for step in _first_steps(options):
            source, report = apply(step, source, self._cost)
            self._reports.append(report)
        # What the model computes from here on is what has to stay.
        self._model = source
        self._limit = TOLERANCE
        self._proof = Proof(source, samples, options.shapes, options.examples)

    def run(self) -> PreparedModel:
        """Run every pass."""
        for step in self._steps():
            self._reports.append(self._take(step))
        # What the optimisations made has no shapes that contradict each other either.
        self._model, _ = InferShapes().run(NameNodes().run(self._model)[0])
        proof = self._proof
        if not proof.possible:
            self._reports.append(self._untouched("prove", f"not proven: {proof.obstacle}"))
            return PreparedModel(self._model, tuple(self._reports), None, proof.obstacle)
        deviation = proof.total
        if deviation > self._limit:
            raise ModelError(
                f"the prepared model differs from the source by {deviation:.2g} of the largest "
                f"output (allowed {self._limit:g}); export the model again with opset {OPSET}"
            )
        return PreparedModel(self._model, tuple(self._reports), deviation, limit=self._limit)

    def _steps(self) -> tuple[Pass, ...]:
        shapes = (FixShapes(self._options.shapes),) if self._options.shapes else ()
        first = (CastToFloat(), *shapes, ChangeOpset(), Simplify(), NameNodes(), InferShapes())
        steps: tuple[Pass, ...] = (*first, *OPTIMIZATIONS)
        skip = self._options.skip
        return tuple(step for step in steps if step.required or step.name not in skip)

    def _take(self, step: Pass) -> PassReport:
        """Run a pass, and keep what it did where that is right."""
        if not step.required and not self._proof.possible:
            return self._untouched(step.name, "not tried: that it is right could not be proven")
        try:
            changed, report = apply(step, self._model, self._cost)
            deviation = self._measure(step, changed)
        except ModelError as error:
            if step.required:
                raise
            return self._untouched(step.name, f"dropped: {error}")
        if deviation is not None and deviation > step.tolerance:
            said = f"it changes the outputs by {deviation:.2g} of the largest"
            if step.required:
                raise ModelError(f"{step.name}: {said} (allowed {step.tolerance:g})")
            return self._untouched(step.name, f"dropped: {said}")
        if deviation is not None:
            self._proof.accept()
            self._limit = max(self._limit, step.tolerance)
        self._model = changed
        return replace(report, deviation=deviation)

    def _measure(self, step: Pass, changed: onnx.ModelProto) -> float | None:
        """Return how far a pass moved the outputs; None where it touched no arithmetic."""
        if changed is self._model or not step.rewrites or not self._proof.possible:
            return None
        return self._proof.attempt(changed)

    def _untouched(self, name: str, detail: str) -> PassReport:
        here = self._cost or cost(self._model)
        return report_of(name, here, here, detail)

    @property
    def _cost(self) -> Cost | None:
        return self._reports[-1].after if self._reports else None


def reference_of(model: onnx.ModelProto, options: PrepareOptions) -> onnx.ModelProto:
    """Return what a model prepared with these options has to equal: the source, its end cut off.

    Raises:
        ModelError: see `prepare_model`.

    """
    for step in _first_steps(options):
        model, _ = step.run(model)
    return model


def _first_steps(options: PrepareOptions) -> tuple[Pass, ...]:
    cuts: tuple[Pass, ...] = (DetachNms(),) if options.detach_nms else ()
    return (Tidy(), Check(), *cuts)


def load_model(path: Path) -> onnx.ModelProto:
    """Load an ONNX file with its external data.

    Raises:
        ModelError: absent, not ONNX, truncated, or with external data outside its folder.

    """
    if not path.is_file():
        raise ModelError(f"{path}: there is no such model")
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf's DecodeError has no stable import path.
        raise ModelError(f"{path} is not an ONNX model, or is truncated: {error}") from error
    if not model.graph.node and not model.graph.input:
        raise ModelError(f"{path} is not an ONNX model: it has no graph")
    _load_external_data(model, path)
    return model


def _load_external_data(model: onnx.ModelProto, path: Path) -> None:
    folder = path.parent.resolve()
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key != "location":
                continue
            target = (folder / entry.value).resolve()
            if not target.is_relative_to(folder):
                raise ModelError(
                    f"{path}: tensor {tensor.name} wants its data from {entry.value!r}, outside "
                    "the model's folder; this is refused"
                )
            if not target.is_file():
                raise ModelError(
                    f"{path}: the file {entry.value!r} with the data of {tensor.name} is absent"
                )
    try:
        onnx.load_external_data_for_model(model, str(folder))
    except Exception as error:  # ValidationError, ValueError, OSError by version and cause.
        raise ModelError(f"{path}: its external data cannot be read: {error}") from error
