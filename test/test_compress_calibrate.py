# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Calibration runs against the ONNX reference evaluator."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers_models import prepared, residual_network, samples
from onnx.reference import ReferenceEvaluator

from av_compress.compress.observe.calibrate import Calibrator, MagnitudeProbe
from av_compress.errors import DataError, ModelError


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> onnx.ModelProto:
    return prepared(residual_network(), tmp_path_factory.mktemp("model"))


def activations(model: onnx.ModelProto) -> list[str]:
    return ["image", *(node.output[0] for node in model.graph.node)]


def reference(model: onnx.ModelProto, names: list[str], sample: dict) -> dict[str, np.ndarray]:
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    del watched.graph.output[:]
    inner = [name for name in names if name not in sample]
    watched.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in inner
    )
    return {**sample, **dict(zip(inner, ReferenceEvaluator(watched).run(None, sample)))}


def test_every_tensor_is_seen_as_the_reference_computes_it(model):
    names = activations(model)
    calibrator = Calibrator(model, names)
    largest = dict.fromkeys(names, 0.0)
    for sample in samples(model, 3):
        calibrator.observe(sample)
        for name, array in reference(model, names, sample).items():
            largest[name] = max(largest[name], float(np.abs(array).max()))
            size = array.size
            assert calibrator.observers[name].counts.sum() % size == 0
    for name, observer in calibrator.observers.items():
        assert observer.samples == 3
        assert observer.absmax == pytest.approx(largest[name], rel=1e-4)


def test_the_probe_finds_the_same_magnitudes(model):
    names = activations(model)
    calibrator, probe = Calibrator(model, names), MagnitudeProbe(model)
    for sample in samples(model, 3):
        calibrator.observe(sample)
        probe.observe(sample)
    for name, observer in calibrator.observers.items():
        assert probe.magnitudes[name] == pytest.approx(observer.absmax, rel=1e-5)


def test_a_sample_with_nan_names_the_tensor(model):
    calibrator = Calibrator(model, activations(model))
    sample = samples(model, 1)[0]
    sample["image"][0, 0, 0, 0] = np.nan
    with pytest.raises(DataError, match="tensor 'image' holds values that are not finite"):
        calibrator.observe(sample)


def test_an_unknown_tensor_is_named(model):
    with pytest.raises(ModelError, match="no tensor nothing"):
        Calibrator(model, ["image", "nothing"])


def test_a_model_that_does_not_load_is_a_model_error(model, tmp_path: Path):
    broken = onnx.ModelProto()
    broken.CopyFrom(model)
    broken.graph.node[0].op_type = "NoSuchOperator"
    with pytest.raises(ModelError, match="cannot be calibrated"):
        Calibrator(broken, [broken.graph.node[0].output[0]])
