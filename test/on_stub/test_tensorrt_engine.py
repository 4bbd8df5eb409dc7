# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The TensorRT engine: stand-in for TensorRT, real PyCUDA, stub of the driver.

Nothing here was on a GPU. What is proven: the calls are those of each version, in an order that
needs no luck (the stub does work only when somebody waits for it), and nothing is allocated or
waited for without need.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import onnxruntime
import pytest
from helpers_cuda_stub import Stub
from helpers_qdq import IMAGE, convolution
from helpers_trt_stub import Launcher
from test_trt_stand_in_building import dynamic
from trt_stand_in import VERSIONS, Card, make_module

from av_compress.engines.cuda import CudaContext, CudaError
from av_compress.engines.plans.options import CompileOptions
from av_compress.engines.tensorrt.compile import NetworkSource, compile_plan
from av_compress.engines.tensorrt.engine import RunOptions, TensorRTEngine
from av_compress.engines.tensorrt.runtime_cache import RuntimeCache
from av_compress.errors import EngineError

MODEL = convolution().model(17).SerializeToString()
TYPED = [version for version in VERSIONS if version != "8.6"]


class Backend:
    """One version of TensorRT over the stub."""

    def __init__(self, version: str) -> None:
        self.module, self.control = make_module(version, Launcher())

    def compile(self, model: bytes = MODEL, batch: tuple[int, int, int] = (1, 1, 1)) -> bytes:
        capabilities = ("8.9",) if self.module.__name__ == "tensorrt_rtx" else ()
        options = CompileOptions(capabilities, batch=batch)
        return compile_plan(self.module, NetworkSource(model), options).data

    def open(self, plan: bytes | None = None, **options: Any) -> TensorRTEngine:
        cache = options.pop("cache", None)
        plan = self.compile() if plan is None else plan
        return TensorRTEngine(self.module, plan, CudaContext.open(), RunOptions(**options), cache)


@pytest.fixture
def opened() -> Iterator[list[TensorRTEngine]]:
    engines: list[TensorRTEngine] = []
    yield engines
    for engine in engines:
        engine.close()


def expected(model: bytes, array: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: array})[0]


def images(count: int) -> list[np.ndarray]:
    random = np.random.default_rng(3)
    return [random.normal(size=IMAGE).astype(np.float32) for _ in range(count)]


@pytest.mark.parametrize("graph", [True, False])
@pytest.mark.parametrize("version", VERSIONS)
def test_runs_are_what_onnxruntime_makes_of_the_model(stub: Stub, version: str, graph: bool):
    backend = Backend(version)
    engine = backend.open(graph=graph)
    assert [str(spec) for spec in engine.inputs] == ["x[1,16,8,8] float32"]
    assert ("CUDA graph" in engine.description) == graph
    for image in images(5):
        result = engine.run({"x": image})
        np.testing.assert_array_equal(result.outputs["y"], expected(MODEL, image))
        assert min(result.timing.h2d_ns, result.timing.execute_ns, result.timing.d2h_ns) >= 0
    engine.close()
    engine.close()
    assert not backend.control.faults


@pytest.mark.parametrize("graph", [True, False])
def test_frames_overlap_and_come_back_in_order(stub: Stub, graph: bool):
    backend = Backend("10.13")
    engine = backend.open(graph=graph)
    frames, results = images(9), []
    buffer = np.empty_like(frames[0])
    for image in frames:
        # One array for all frames: the engine must have taken it when `submit` returns.
        np.copyto(buffer, image)
        engine.submit({"x": buffer})
        if len(engine._busy) == 2:
            results.append(engine.collect().outputs["y"].copy())
    while len(results) < len(frames):
        results.append(engine.collect().outputs["y"].copy())
    for image, result in zip(frames, results):
        np.testing.assert_array_equal(result, expected(MODEL, image))
    engine.close()
    assert not backend.control.faults


def test_too_many_frames_and_none_are_refused(stub: Stub, opened: list[TensorRTEngine]):
    engine = Backend("10.3").open()
    opened.append(engine)
    (image,) = images(1)
    with pytest.raises(EngineError, match="nothing was submitted"):
        engine.collect()
    engine.submit({"x": image})
    engine.submit({"x": image})
    with pytest.raises(EngineError, match="all 2 slots are taken"):
        engine.submit({"x": image})
    with pytest.raises(EngineError, match="not collected"):
        engine.run({"x": image})


@pytest.mark.parametrize("graph", [True, False])
@pytest.mark.parametrize("version", ["8.6", "10.3", "11.4", "rtx-1.7"])
def test_a_frame_allocates_nothing_and_waits_once(stub: Stub, version: str, graph: bool):
    engine = Backend(version).open(graph=graph)
    (image,) = images(1)
    engine.run({"x": image})
    stub.clear()
    for _ in range(10):
        engine.run({"x": image})
    called = stub.called()
    made = [
        name for name in called if "Alloc" in name or "Create" in name or "Instantiate" in name
    ]
    assert made == []
    for name in ("implicit synchronisation", "pageable copy", "legacy stream"):
        assert stub.count(name) == 0
    assert stub.count("cuCtxSynchronize") == stub.count("cuStreamSynchronize") == 0
    assert stub.count("cuEventSynchronize") == 10
    engine.close()


@pytest.mark.parametrize("version", TYPED)
def test_an_open_batch_takes_what_its_profile_allows(stub: Stub, version: str):
    model = dynamic()
    backend = Backend(version)
    engine = backend.open(backend.compile(model, batch=(1, 2, 4)))
    assert engine.max_batch == 4
    assert engine.inputs[0].shape == (None, 8)
    random = np.random.default_rng(1)
    for batch in (4, 1, 3, 2):
        array = random.normal(size=(batch, 8)).astype(np.float32)
        (output,) = engine.run({"x": array}).outputs.values()
        np.testing.assert_array_equal(output, expected(model, array))
    with pytest.raises(EngineError, match="a batch of 5; the plan was compiled for 1 to 4"):
        engine.run({"x": np.zeros((5, 8), np.float32)})
    engine.close()
    assert not backend.control.faults


def test_an_open_batch_that_was_compiled_for_one_is_a_graph(
    stub: Stub, opened: list[TensorRTEngine]
):
    model = dynamic()
    backend = Backend("10.3")
    engine = backend.open(backend.compile(model, batch=(1, 1, 1)))
    opened.append(engine)
    assert "CUDA graph" in engine.description
    assert engine.inputs[0].shape == (1, 8)
    array = np.arange(8, dtype=np.float32)[None]
    (output,) = engine.run({"x": array}).outputs.values()
    np.testing.assert_array_equal(output, expected(model, array))
    with pytest.raises(EngineError, match="does not accept"):
        engine.run({"x": np.zeros((2, 8), np.float32)})


def test_wrong_inputs_are_named(stub: Stub, opened: list[TensorRTEngine]):
    engine = Backend("10.3").open()
    opened.append(engine)
    with pytest.raises(EngineError, match=r"input x\[1,16,8,8\] float32 is missing; given: z"):
        engine.run({"z": np.zeros(1)})
    with pytest.raises(EngineError, match=r"does not accept float64 \(1, 16, 8, 8\)"):
        engine.run({"x": np.zeros(IMAGE)})
    # What was refused took no slot.
    for image in images(3):
        engine.run({"x": image})


def test_a_closed_engine_says_so(stub: Stub):
    engine = Backend("10.3").open()
    engine.close()
    with pytest.raises(EngineError, match="the engine is closed"):
        engine.run({"x": images(1)[0]})


def refused_plans() -> Iterator[tuple[str, Callable[[Backend], bytes], str]]:
    yield "truncated", lambda backend: backend.compile()[:100], "damaged or no plan"
    yield "no plan", lambda backend: b"no plan at all", "damaged or no plan"
    yield "older", lambda _: Backend("10.0").compile(), "another version of TensorRT"
    yield "newer", lambda _: Backend("11.4").compile(), "another version of TensorRT"


@pytest.mark.parametrize(
    ("make", "says"), [case[1:] for case in refused_plans()], ids=[c[0] for c in refused_plans()]
)
def test_a_plan_that_does_not_fit_is_refused_with_the_reason(stub: Stub, make: Any, says: str):
    backend = Backend("10.3")
    with pytest.raises(EngineError, match="refuses the plan") as refusal:
        backend.open(make(backend))
    assert says in str(refusal.value)
    assert stub.all_live() == {}


def test_a_plan_of_another_card_is_refused(stub: Stub):
    backend = Backend("10.3")
    plan = backend.compile()
    backend.control.card = Card("NVIDIA Thor", (11, 0))
    with pytest.raises(EngineError, match="compiled for another card"):
        backend.open(plan)


def test_too_little_memory_frees_all_that_was_taken(stub: Stub):
    backend = Backend("10.3")
    plan = backend.compile()
    stub.fail("cuMemAlloc", 2, after=1)
    with pytest.raises(CudaError) as refusal:
        backend.open(plan)
    assert refusal.value.reason == "out_of_memory"
    assert stub.all_live() == {}
    stub.reset()
    backend.control.memory_limit = 0
    with pytest.raises(EngineError, match="no execution context"):
        backend.open(plan)
    assert stub.all_live() == {}


def test_a_plan_that_cannot_be_captured_is_enqueued(stub: Stub):
    backend = Backend("10.3")
    plan = backend.compile()
    stub.fail("cuStreamBeginCapture", 900)
    engine = backend.open(plan)
    assert "enqueued" in engine.description
    (image,) = images(1)
    np.testing.assert_array_equal(engine.run({"x": image}).outputs["y"], expected(MODEL, image))
    engine.close()


def test_a_run_that_fails_says_why(stub: Stub, opened: list[TensorRTEngine]):
    backend = Backend("10.3")
    engine = backend.open(graph=False)
    opened.append(engine)
    (image,) = images(1)
    backend.control.failures["IExecutionContext.execute_async_v3"] = "no room for scratch memory"
    with pytest.raises(EngineError, match=r"does not run: .*no room for scratch"):
        engine.run({"x": image})
    backend.control.failures.clear()
    np.testing.assert_array_equal(engine.run({"x": image}).outputs["y"], expected(MODEL, image))


def test_host_code_is_allowed_where_it_is_asked_for_and_only_there(stub: Stub):
    for wanted in (False, True):
        backend = Backend("10.3")
        engine = backend.open(host_code=wanted)
        assert engine._runtime.engine_host_code_allowed == wanted
        engine.close()


def test_what_rtx_compiles_just_in_time_is_kept(stub: Stub, tmp_path):
    path = tmp_path / "cache" / "plan.cache"
    for _ in range(2):
        engine = Backend("rtx-1.7").open(cache=RuntimeCache(path))
        engine.run({"x": images(1)[0]})
        engine.close()
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    Backend("rtx-1.7").open(cache=RuntimeCache(path)).close()
    assert path.read_bytes() == content


def test_other_versions_have_no_such_cache(stub: Stub, tmp_path):
    for version in ("8.6", "10.3", "11.4"):
        Backend(version).open(cache=RuntimeCache(tmp_path / "none")).close()
    assert list(tmp_path.iterdir()) == []


def test_a_plan_of_the_other_package_is_refused(stub: Stub):
    plan = Backend("rtx-1.7").compile()
    with pytest.raises(EngineError, match="refuses the plan"):
        Backend("11.4").open(plan)
    assert stub.all_live() == {}


def test_another_thread_is_refused_and_disturbs_nothing(stub: Stub, opened: list[TensorRTEngine]):
    engine = Backend("10.3").open()
    opened.append(engine)
    (image,) = images(1)
    with ThreadPoolExecutor(1) as other, pytest.raises(CudaError) as refusal:
        other.submit(engine.run, {"x": image}).result()
    assert refusal.value.reason == "wrong_thread"
    np.testing.assert_array_equal(engine.run({"x": image}).outputs["y"], expected(MODEL, image))


def test_a_lost_device_is_told_and_closing_still_works(stub: Stub):
    engine = Backend("10.3").open()
    (image,) = images(1)
    stub.lose(700)
    with pytest.raises(CudaError) as refusal:
        engine.run({"x": image})
    assert refusal.value.reason == "context_lost"
    engine.close()
    stub.reset()


def test_closing_in_another_thread_is_refused_and_frees_nothing(stub: Stub):
    engine = Backend("10.3").open()
    with ThreadPoolExecutor(1) as other, pytest.raises(CudaError) as refusal:
        other.submit(engine.close).result()
    assert refusal.value.reason == "wrong_thread"
    (image,) = images(1)
    np.testing.assert_array_equal(engine.run({"x": image}).outputs["y"], expected(MODEL, image))
    engine.close()
    assert stub.all_live() == {}


def test_every_slot_has_a_context_of_its_own(stub: Stub, opened: list[TensorRTEngine]):
    engine = Backend("10.3").open(slots=3)
    opened.append(engine)
    assert len({id(slot.context) for slot in engine._slots}) == 3


def test_what_was_compiled_just_in_time_is_kept_at_once(stub: Stub, tmp_path):
    path = tmp_path / "plan.cache"
    engine = Backend("rtx-1.7").open(cache=RuntimeCache(path))
    assert not path.exists()
    engine.run({"x": images(1)[0]})
    assert path.exists()
    engine.close()
