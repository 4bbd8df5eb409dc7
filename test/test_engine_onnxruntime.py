# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The ONNX Runtime engine against the ONNX reference evaluator."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from av_compress.engines.onnxruntime import OnnxRuntimeEngine, OrtOptions
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


def image(batch: int = 1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(batch, 3, 8, 10)).astype(np.float32)


@pytest.mark.parametrize("batch", [1, "n"])
def test_outputs_equal_the_reference_evaluator(batch):
    model = conv_model(batch)
    engine = OnnxRuntimeEngine(model.SerializeToString())
    array = image()
    result = engine.run({"image": array})
    expected = ReferenceEvaluator(model).run(None, {"image": array})
    for spec, want in zip(engine.outputs, expected):
        np.testing.assert_allclose(result.outputs[spec.name], want, rtol=1e-5, atol=1e-5)
    assert result.timing.execute_ns > 0


def test_dynamic_batch_takes_another_size_on_every_run():
    engine = OnnxRuntimeEngine(conv_model("n").SerializeToString())
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


def test_strided_and_read_only_inputs_give_the_same_result():
    engine = OnnxRuntimeEngine(conv_model().SerializeToString())
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
def test_wrong_input_is_named(tensors, words):
    engine = OnnxRuntimeEngine(conv_model().SerializeToString())
    with pytest.raises(EngineError) as caught:
        engine.run(tensors)
    assert words in str(caught.value)


def test_a_file_that_is_no_model_is_refused(tmp_path: Path):
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"not a model")
    with pytest.raises(EngineError, match=r"cannot load .*broken\.onnx"):
        OnnxRuntimeEngine(path)
    with pytest.raises(EngineError, match="cannot load the model"):
        OnnxRuntimeEngine(b"not a model")


def test_an_absent_provider_is_refused_not_skipped():
    options = OrtOptions(providers=("DmlExecutionProvider", "CPUExecutionProvider"))
    with pytest.raises(EngineError, match="DmlExecutionProvider is not in this ONNX Runtime"):
        OnnxRuntimeEngine(conv_model().SerializeToString(), options)


def test_closing_twice_is_fine_and_running_afterwards_is_an_error():
    engine = OnnxRuntimeEngine(conv_model().SerializeToString())
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.run({"image": image()})


@pytest.mark.gpu
def test_cuda_agrees_with_the_cpu():
    model = conv_model().SerializeToString()
    cpu = OnnxRuntimeEngine(model).run({"image": image()}).outputs["mean"]
    cuda = OnnxRuntimeEngine(model, OrtOptions(providers=("CUDAExecutionProvider",)))
    result = cuda.run({"image": image()})
    np.testing.assert_allclose(result.outputs["mean"], cpu, rtol=1e-3, atol=1e-3)
    assert result.timing.h2d_ns > 0
    assert result.timing.d2h_ns > 0
