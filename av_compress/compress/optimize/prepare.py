# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Preparation: a model as it comes, made into one that can be quantised, and proven equal."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

from av_compress.compress.optimize.passes import (
    Check,
    InferShapes,
    NameNodes,
    Pass,
    PassReport,
    RaiseOpset,
    SeparateConstants,
    Simplify,
    apply,
)
from av_compress.errors import ModelError

PASSES: tuple[Pass, ...] = (
    Check(),
    SeparateConstants(),
    RaiseOpset(),
    Simplify(),
    NameNodes(),
    InferShapes(),
)

# Reordered sums differ by some units in the last place per layer; a wrong conversion by far more.
_TOLERANCE = 1e-3
# Extent that a dynamic axis gets for the comparison.
_DYNAMIC_EXTENT = 1


@dataclass(frozen=True)
class PreparedModel:
    """A model ready to be calibrated and quantised.

    Attributes:
        model: FP32, raised opset, simplified, every node named, shapes inferred.
        reports: what each pass did.
        deviation: largest difference from the source model's outputs on random input, relative to
            the largest output.

    """

    model: onnx.ModelProto
    reports: tuple[PassReport, ...]
    deviation: float


def prepare_model(path: Path) -> PreparedModel:
    """Load a model and run every pass of `PASSES` on it.

    Raises:
        ModelError: the file is absent or not ONNX, a pass's precondition does not hold, or the
            prepared model computes something else than the source.

    """
    source = load_model(path)
    model, reports = source, []
    for step in PASSES:
        try:
            model, report = apply(step, model)
        except ModelError as error:
            raise ModelError(f"{path}: {error}") from error
        reports.append(report)
    deviation = compare(source, model)
    if deviation > _TOLERANCE:
        raise ModelError(
            f"{path}: the prepared model differs from the source by {deviation:.2g} of the "
            f"largest output (allowed {_TOLERANCE:g}); export the model again with opset 19"
        )
    return PreparedModel(model, tuple(reports), deviation)


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


def compare(first: onnx.ModelProto, second: onnx.ModelProto) -> float:
    """Return the largest difference of two models' outputs on random input.

    Inputs are drawn once, in the pixel range 0..255 for float tensors of rank 4 and as a standard
    normal for others. The difference is relative to the largest magnitude of the first model's
    outputs.

    Raises:
        ModelError: a model does not run.

    """
    sessions = [_session(model) for model in (first, second)]
    feeds = {node.name: _random(node) for node in sessions[1].get_inputs()}
    left, right = (_run(session, feeds) for session in sessions)
    names = [node.name for node in sessions[0].get_outputs()]
    return max(_difference(left[name], right[name]) for name in names)


def _session(model: onnx.ModelProto) -> Any:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    try:
        return ort.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # ONNX Runtime's errors have no common base class.
        raise ModelError(f"ONNX Runtime cannot load the model: {error}") from error


def _run(session: Any, feeds: dict[str, Any]) -> dict[str, Any]:
    names = [node.name for node in session.get_outputs()]
    wanted = {node.name for node in session.get_inputs()} & set(feeds)
    try:
        values = session.run(names, {name: feeds[name] for name in wanted})
    except Exception as error:  # ONNX Runtime's errors have no common base class.
        raise ModelError(f"ONNX Runtime cannot run the model: {error}") from error
    return dict(zip(names, values))


def _random(node: Any) -> Any:
    rng = np.random.default_rng(0)
    shape = [extent if isinstance(extent, int) else _DYNAMIC_EXTENT for extent in node.shape]
    kind = node.type.removeprefix("tensor(").removesuffix(")")
    dtype = {"float": "float32", "double": "float64"}.get(kind, kind)
    if "float" not in dtype:
        return np.zeros(shape, dtype)
    values = rng.uniform(0, 255, shape) if len(shape) == 4 else rng.normal(size=shape)
    return values.astype(dtype)


def _difference(left: Any, right: Any) -> float:
    left, right = np.asarray(left, np.float64), np.asarray(right, np.float64)
    if left.shape != right.shape:
        return float("inf")
    known = np.isfinite(left)
    if not np.array_equal(known, np.isfinite(right)):
        return float("inf")
    left, right = left[known], right[known]
    if left.size == 0:
        return 0.0
    scale = max(float(np.abs(left).max()), 1e-12)
    return float(np.abs(left - right).max()) / scale
