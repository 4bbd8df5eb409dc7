# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The ONNX Runtime engine against the ONNX reference evaluator, on the CPU and on a card."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from av_compress.engines.onnxruntime import CPU, CUDA, OnnxRuntimeEngine, OrtOptions
from av_compress.errors import EngineError


def conv_model(batch: int | str = 1, dtype: int = TensorProto.FLOAT) -> onnx.ModelProto:
    rng = np.random.default_rng(3)
    np_dtype = helper.tensor_dtype_to_np_dtype(dtype)
    weight = rng.normal(size=(4, 3, 3, 3)).astype(np_dtype)
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["image", "weight"], ["features"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["features"], ["positive"]),
            helper.make_node("ReduceMean", ["positive"], ["mean"], axes=[2, 3], keepdims=0),
        ],
        "conv",
        [helper.make_tensor_value_info("image", dtype, [batch, 3, 8, 10])],
        [
            helper.make_tensor_value_info("positive", dtype, [batch, 4, 8, 10]),
            helper.make_tensor_value_info("mean", dtype, [batch, 4]),
        ],
        [numpy_helper.from_array(weight, "weight")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture(params=[CPU, pytest.param(CUDA, marks=pytest.mark.gpu)])
def options(request) -> OrtOptions:
    if request.param not in onnxruntime.get_available_providers():
        pytest.skip(f"this ONNX Runtime has no {request.param}")
    return OrtOptions(providers=(request.param,))


def closeness(options: OrtOptions) -> float:
    """How far numbers may be off: cards multiply with fewer digits (TF32)."""
    return 1e-5 if options.providers == (CPU,) else 5e-3


def image(batch: int = 1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(batch, 3, 8, 10)).astype(np.float32)


@pytest.mark.parametrize("batch", [1, "n"])
def test_outputs_equal_the_reference_evaluator(batch, options):
    model = conv_model(batch)
    engine = OnnxRuntimeEngine(model.SerializeToString(), options)
    array = image()
    result = engine.run({"image": array})
    expected = ReferenceEvaluator(model).run(None, {"image": array})
    for spec, want in zip(engine.outputs, expected):
        off = closeness(options)
        np.testing.assert_allclose(result.outputs[spec.name], want, rtol=off, atol=off)
    assert result.timing.execute_ns > 0


def test_dynamic_batch_takes_another_size_on_every_run(options):
    engine = OnnxRuntimeEngine(conv_model("n").SerializeToString(), options)
    assert engine.inputs[0].shape == (None, 3, 8, 10)
    for batch in (1, 3, 2):
        outputs = engine.run({"image": image(batch)}).outputs
        assert outputs["mean"].shape == (batch, 4)


def test_static_outputs_are_written_into_the_same_memory():
    engine = OnnxRuntimeEngine(conv_model().SerializeToString())
    first = engine.run({"image": image(seed=1)}).outputs["mean"]
    before = first.copy()
    second = engine.run({"image": image(seed=2)}).outputs["mean"]
    assert np.shares_memory(first, second)
    assert not np.array_equal(before, second)


def test_strided_and_read_only_inputs_give_the_same_result(options):
    engine = OnnxRuntimeEngine(conv_model().SerializeToString(), options)
    array = image()
    expected = engine.run({"image": array}).outputs["mean"].copy()
    strided = np.ascontiguousarray(array.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    strided.flags.writeable = False
    np.testing.assert_array_equal(engine.run({"image": strided}).outputs["mean"], expected)


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({}, "image[1,3,8,10] float32 is missing"),
        ({"image": np.zeros((1, 3, 8, 10))}, "does not accept float64"),
        ({"image": np.zeros((1, 3, 8, 9), np.float32)}, "does not accept float32 (1, 3, 8, 9)"),
    ],
)
def test_wrong_input_is_named(tensors, words, options):
    engine = OnnxRuntimeEngine(conv_model().SerializeToString(), options)
    with pytest.raises(EngineError) as caught:
        engine.run(tensors)
    assert words in str(caught.value)


def test_a_file_that_is_no_model_is_refused(tmp_path: Path, options):
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"not a model")
    with pytest.raises(EngineError, match=r"cannot load .*broken\.onnx"):
        OnnxRuntimeEngine(path, options)
    with pytest.raises(EngineError, match="cannot load the model"):
        OnnxRuntimeEngine(b"not a model", options)


def test_an_absent_provider_is_refused_not_skipped():
    options = OrtOptions(providers=("DmlExecutionProvider", "CPUExecutionProvider"))
    with pytest.raises(EngineError, match="DmlExecutionProvider is not in this ONNX Runtime"):
        OnnxRuntimeEngine(conv_model().SerializeToString(), options)


def test_closing_twice_is_fine_and_running_afterwards_is_an_error(options):
    engine = OnnxRuntimeEngine(conv_model().SerializeToString(), options)
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.run({"image": image()})


def test_a_run_says_where_its_time_went(options):
    engine = OnnxRuntimeEngine(conv_model().SerializeToString(), options)
    timing = engine.run({"image": image()}).timing
    assert min(timing.h2d_ns, timing.execute_ns, timing.d2h_ns) > 0
    assert options.providers[0] in engine.description
