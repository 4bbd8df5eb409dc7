# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The stand-in's plans run as ONNX Runtime runs the model, and load only where they may."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from helpers_qdq import IMAGE, Draft, convolution
from helpers_trt import ADA
from test_trt_stand_in_building import TYPED, Bench, Log, dynamic
from trt_stand_in import VERSIONS, make_module

from av_compress.engines.plans.options import CompileOptions
from av_compress.engines.tensorrt.compile import compile_plan

MODEL = convolution().model(17).SerializeToString()


def plan_of(module: Any, model: bytes = MODEL) -> bytes:
    if module.__version__.startswith("8"):
        bench = Bench(module, model, 1).flag("INT8")
        return bytes(bench.build())
    capabilities = ADA.capabilities if module.__name__ == "tensorrt_rtx" else ()
    inputs = onnx.load_model_from_string(model).graph.input
    extents = [extent for one in inputs for extent in one.type.tensor_type.shape.dim]
    is_open = not all(extent.HasField("dim_value") for extent in extents)
    batch = (1, 2, 4) if is_open else (1, 1, 1)
    return compile_plan(module, model, CompileOptions(capabilities, batch=batch)).data


class Loaded:
    """A loaded plan: its module, control, log, runtime, engine and context."""

    def __init__(self, version: str, model: bytes = MODEL, launch: Any = None) -> None:
        self.module, self.control = make_module(version, launch)
        self.log = Log.of(self.module)
        self.runtime = self.module.Runtime(self.log)
        self.engine = self.runtime.deserialize_cuda_engine(plan_of(self.module, model))
        self.context = self.engine.create_execution_context()

    def bind(self, **arrays: np.ndarray) -> Loaded:
        for name, array in arrays.items():
            assert self.context.set_tensor_address(name, array.ctypes.data)
        return self


def by_onnxruntime(model: bytes, **feeds: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)[0]


def image(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=IMAGE).astype(np.float32)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_run_is_what_onnxruntime_makes_of_the_pairs(version: str):
    loaded = Loaded(version)
    x, y = image(), np.zeros(IMAGE, np.float32)
    assert loaded.bind(x=x, y=y).context.execute_async_v3(0)
    np.testing.assert_array_equal(y, by_onnxruntime(MODEL, x=x))
    again = np.zeros_like(y)
    assert loaded.context.execute_v2([x.ctypes.data, again.ctypes.data])
    np.testing.assert_array_equal(again, y)
    assert not loaded.control.faults


@pytest.mark.parametrize("version", VERSIONS)
def test_the_engine_tells_of_its_tensors(version: str):
    loaded = Loaded(version)
    module, engine = loaded.module, loaded.engine
    assert [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)] == ["x", "y"]
    assert engine.get_tensor_name(2) is None
    modes = [engine.get_tensor_mode(name) for name in "xy"]
    assert modes == [module.TensorIOMode.INPUT, module.TensorIOMode.OUTPUT]
    assert engine.get_tensor_mode("z") == module.TensorIOMode.NONE
    assert "'z'" in loaded.log.errors()
    assert engine.get_tensor_dtype("x") == module.DataType.FLOAT
    assert tuple(engine.get_tensor_shape("x")) == tuple(IMAGE)
    assert [tuple(s) for s in engine.get_tensor_profile_shape("x", 0)] == [tuple(IMAGE)] * 3
    sizes = {
        getattr(engine, n)
        for n in ("device_memory_size", "device_memory_size_v2")
        if hasattr(engine, n)
    }
    assert len(sizes) == 1
    assert loaded.context.engine is engine
    assert bytes(engine.serialize()) == plan_of(module)


def test_half_and_integers_keep_their_types():
    half = convolution(np.float16).model().SerializeToString()
    loaded = Loaded("10.3", half)
    assert loaded.engine.get_tensor_dtype("y") == loaded.module.DataType.HALF
    x, y = image().astype(np.float16), np.zeros(IMAGE, np.float16)
    assert loaded.bind(x=x, y=y).context.execute_async_v3(0)
    np.testing.assert_array_equal(y, by_onnxruntime(half, x=x))
    whole = Draft().input("x", [3], 7).node("Neg", "x", "y").output("y", [3], 7).model(13)
    for version, name, dtype in (("8.6", "INT32", np.int32), ("10.3", "INT64", np.int64)):
        bench = Bench(version, whole.SerializeToString(), 1 if version == "8.6" else None)
        module = bench.module
        engine = module.Runtime(bench.log).deserialize_cuda_engine(bench.build())
        assert engine.get_tensor_dtype("x") == getattr(module.DataType, name)
        x, y = np.array([1, -2, 3], dtype), np.zeros(3, dtype)
        assert engine.create_execution_context().execute_v2([x.ctypes.data, y.ctypes.data])
        np.testing.assert_array_equal(y, -x)


@pytest.mark.parametrize("version", TYPED)
def test_open_extents_are_set_within_the_profile(version: str):
    loaded = Loaded(version, dynamic())
    context = loaded.context
    assert tuple(context.get_tensor_shape("y")) == (-1, 4)
    assert context.infer_shapes() == ["x"]
    assert not context.all_binding_shapes_specified
    x, y = np.ones((3, 8), np.float32), np.zeros((3, 4), np.float32)
    loaded.bind(x=x, y=y)
    assert not context.execute_async_v3(0)
    assert "the shape of 'x'" in loaded.log.errors()
    for wrong in ((5, 8), (0, 8), (3, 7), (3,)):
        assert not context.set_input_shape("x", wrong)
    assert not context.set_input_shape("y", (3, 4))
    assert context.set_input_shape("x", (3, 8))
    assert context.infer_shapes() == []
    assert tuple(context.get_tensor_shape("y")) == (3, 4)
    assert tuple(context.get_tensor_strides("x")) == (8, 1)
    assert context.execute_async_v3(0)
    np.testing.assert_array_equal(y, np.full((3, 4), 8, np.float32))
    assert context.get_max_output_size("y") == 4 * 4 * 4
    assert not context.set_optimization_profile_async(1, 0)
    assert context.set_optimization_profile_async(0, 0)
    assert context.infer_shapes() == ["x"]


@pytest.mark.parametrize("version", VERSIONS)
def test_an_address_that_is_not_set_is_refused(version: str):
    loaded = Loaded(version)
    y = np.zeros(IMAGE, np.float32)
    loaded.bind(y=y)
    assert not loaded.context.execute_async_v3(0)
    assert "address of 'x'" in loaded.log.errors()
    assert not loaded.context.set_tensor_address("z", 64)
    with pytest.raises(TypeError):
        loaded.context.set_tensor_address("x", "y")
    with pytest.raises(TypeError):
        loaded.context.set_tensor_address("x", -1)


def test_rtx_keeps_a_cache_of_kernels():
    loaded = Loaded("rtx-1.7")
    config = loaded.engine.create_runtime_config()
    cache = config.create_runtime_cache()
    assert config.set_runtime_cache(cache)
    assert loaded.engine.create_execution_context(config) is not None
    data = cache.serialize()
    assert config.create_runtime_cache().deserialize(data)
    assert not config.create_runtime_cache().deserialize(b"junk")
    assert bytes(data) != bytes(config.create_runtime_cache().serialize())


def test_too_little_memory_makes_no_context():
    for version in VERSIONS:
        module, control = make_module(version)
        log = Log.of(module)
        engine = module.Runtime(log).deserialize_cuda_engine(plan_of(module))
        control.memory_limit = 1000
        assert engine.create_execution_context() is None
        assert "OutOfMemory" in log.errors()


def test_a_context_without_its_own_memory_wants_some():
    for version in ("8.6", "10.3", "11.4"):
        loaded = Loaded(version)
        if version == "11.4":
            strategy = loaded.module.ExecutionContextAllocationStrategy.USER_MANAGED
            context = loaded.engine.create_execution_context(strategy)
        else:
            context = loaded.engine.create_execution_context_without_device_memory()
        x, y = image(), np.zeros(IMAGE, np.float32)
        context.set_tensor_address("x", x.ctypes.data)
        context.set_tensor_address("y", y.ctypes.data)
        assert not context.execute_async_v3(0)
        scratch = np.zeros(2**20, np.uint8)
        context.device_memory = scratch.ctypes.data
        assert context.execute_async_v3(0)


class Streams:
    """Streams whose work waits until a test lets it run."""

    def __init__(self) -> None:
        self.waiting: list[tuple[int, Callable[[], None]]] = []

    def launch(self, stream: int, work: Callable[[], None]) -> None:
        self.waiting.append((stream, work))

    def synchronise(self) -> None:
        while self.waiting:
            self.waiting.pop(0)[1]()


def test_a_run_waits_on_its_stream_and_reads_then():
    streams = Streams()
    loaded = Loaded("10.3", launch=streams.launch)
    x, y = image(), np.zeros(IMAGE, np.float32)
    assert loaded.bind(x=x, y=y).context.execute_async_v3(7)
    assert (streams.waiting[0][0], y.any()) == (7, False)
    x[:] = image(1)
    streams.synchronise()
    np.testing.assert_array_equal(y, by_onnxruntime(MODEL, x=image(1)))


def test_a_run_keeps_the_addresses_that_it_was_enqueued_with():
    streams = Streams()
    loaded = Loaded("10.3", launch=streams.launch)
    x, first, second = image(), np.zeros(IMAGE, np.float32), np.zeros(IMAGE, np.float32)
    assert loaded.bind(x=x, y=first).context.execute_async_v3(7)
    loaded.bind(y=second)
    streams.synchronise()
    assert first.any()
    assert not second.any()


def test_lifetimes_are_those_of_the_bindings():
    streams = Streams()
    loaded = Loaded("10.3", launch=streams.launch)
    live, context = loaded.control.live, loaded.context
    x, y = image(), np.zeros(IMAGE, np.float32)
    loaded.bind(x=x, y=y)
    control = loaded.control
    del loaded
    gc.collect()
    assert (live["Runtime"], live["ICudaEngine"], live["IExecutionContext"]) == (1, 1, 1)
    assert context.execute_async_v3(7)
    del context
    gc.collect()
    assert (live["Runtime"], live["ICudaEngine"], live["IExecutionContext"]) == (0, 0, 0)
    streams.synchronise()
    assert control.faults == ["a context was freed while its run was on a stream"]
    assert not y.any()


def test_memory_that_is_freed_under_a_run_is_a_fault():
    streams = Streams()
    loaded = Loaded("10.3", launch=streams.launch)
    x, y = image(), np.zeros(IMAGE, np.float32)
    held = {x.ctypes.data: x.nbytes, y.ctypes.data: y.nbytes}
    loaded.control.is_memory = lambda address, size: held.get(address, -1) >= size
    assert loaded.bind(x=x, y=y).context.execute_async_v3(7)
    assert not loaded.control.faults
    del held[y.ctypes.data]
    streams.synchronise()
    assert len(loaded.control.faults) == 1
    assert "'y'" in loaded.control.faults[0]
    assert not y.any()


def test_one_context_on_two_streams_is_a_fault():
    streams = Streams()
    loaded = Loaded("11.4", launch=streams.launch)
    x, y = image(), np.zeros(IMAGE, np.float32)
    loaded.bind(x=x, y=y)
    assert loaded.context.execute_async_v3(7)
    assert loaded.context.execute_async_v3(7)
    assert not loaded.control.faults
    assert loaded.context.execute_async_v3(8)
    assert loaded.control.faults == ["one context runs on two streams at once"]
    streams.synchronise()
    assert loaded.context.execute_async_v3(9)
    assert len(loaded.control.faults) == 1


def test_a_run_fails_where_a_test_wants_it_to():
    loaded = Loaded("10.3")
    x, y = image(), np.zeros(IMAGE, np.float32)
    loaded.bind(x=x, y=y)
    loaded.control.failures_of_work.append("an illegal memory access")
    assert loaded.context.execute_async_v3(0)
    assert loaded.control.faults == ["an illegal memory access"]
    assert not y.any()
    loaded.control.failures["IExecutionContext.execute_async_v3"] = "refused"
    assert not loaded.context.execute_async_v3(0)


def test_an_error_recorder_is_told():
    loaded = Loaded("10.3")
    base = loaded.module.IErrorRecorder
    told: list[tuple[str, str]] = []

    class Recorder(base):
        def __init__(self) -> None:
            base.__init__(self)

        def report_error(self, code: Any, text: str) -> bool:
            told.append((code.name, text))
            return True

    loaded.context.error_recorder = Recorder()
    assert not loaded.context.execute_async_v3(0)
    assert told[0][0] == "INVALID_ARGUMENT"


def test_a_profiler_is_told_of_every_layer_and_of_no_time():
    loaded = Loaded("10.3")
    base = loaded.module.IProfiler
    times: dict[str, float] = {}

    class Kept(base):
        def __init__(self) -> None:
            base.__init__(self)

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            times[layer_name] = ms

    x, y = image(), np.zeros(IMAGE, np.float32)
    loaded.context.profiler = Kept()
    assert loaded.bind(x=x, y=y).context.execute_async_v3(0)
    assert times == {"x_q_myl0_0": 0.0, "conv_myl0_4": 0.0}


@pytest.mark.parametrize("version", TYPED)
def test_the_inspector_speaks_its_versions_layout(version: str):
    loaded = Loaded(version)
    inspector = loaded.engine.create_engine_inspector()
    layout = loaded.module.LayerInformationFormat
    told = json.loads(inspector.get_engine_information(layout.JSON))
    tensor = told["Layers"][-1]["Inputs"][0]
    if version.startswith("10"):
        assert told["Bindings"] == ["x", "y"]
        assert "Format/Datatype" in tensor
    else:
        assert [one["Name"] for one in told["I/O Tensors"]] == ["x", "y"]
        assert told["I/O Tensors"][0]["ProfileInfo"][0]["MinShape"] == IMAGE
        assert tensor["DataType"] == "Int8"
    one = json.loads(inspector.get_layer_information(1, layout.JSON))
    assert (one["Name"], loaded.engine.num_layers) == ("conv_myl0_4", 2)
    assert inspector.get_layer_information(2, layout.JSON) is None


def test_an_output_allocator_makes_room():
    loaded = Loaded("10.3")
    base = loaded.module.IOutputAllocator
    room = np.zeros(IMAGE, np.float32)
    shapes: list[tuple[int, ...]] = []

    class Allocator(base):
        def __init__(self) -> None:
            base.__init__(self)

        def reallocate_output(self, _name: str, _memory: int, size: int, _alignment: int) -> int:
            return room.ctypes.data if size <= room.nbytes else 0

        def notify_shape(self, _name: str, shape: Any) -> None:
            shapes.append(tuple(shape))

    x = image()
    assert loaded.context.set_output_allocator("y", Allocator())
    assert not loaded.context.set_output_allocator("x", None)
    assert loaded.bind(x=x).context.execute_async_v3(0)
    np.testing.assert_array_equal(room, by_onnxruntime(MODEL, x=x))
    assert shapes == [tuple(IMAGE)]
