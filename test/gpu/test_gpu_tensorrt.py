# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Plans compiled, loaded and run on a real card, and held against ONNX Runtime on the CPU.

Each installed backend is asked; where one does not take the card's compute capability, the reason
of the skip says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from helpers_qdq import IMAGE, convolution
from test_build import recipe, world  # noqa: F401 (a fixture)
from test_trt_stand_in_building import dynamic

from av_compress.build.compile import compile_bundle
from av_compress.cli.main import main
from av_compress.data.folder import ImageFolder
from av_compress.engines.bundle import Bundle, load_bundle
from av_compress.engines.cuda import CudaContext, find_device
from av_compress.engines.onnxruntime import OnnxRuntimeEngine, OrtOptions
from av_compress.engines.plans.measured import load_times
from av_compress.engines.plans.options import CompileOptions
from av_compress.engines.tensorrt.compile import compile_plan
from av_compress.engines.tensorrt.engine import RunOptions, TensorRTEngine
from av_compress.engines.tensorrt.module import compiles_ahead_of_time, load_module
from av_compress.errors import EngineError, UsageError
from av_compress.validate.compare import Comparison
from av_compress.validate.side_by_side import run_side_by_side

pytestmark = pytest.mark.gpu
EXACT = OrtOptions(exact_quantization=True)
# Half and TF32 keep 10 bits; what they round may tip an INT8 value to its neighbour.
CLOSE = 2e-2


@pytest.fixture(params=["tensorrt_rtx", "tensorrt"])
def backend(request) -> str:
    pytest.importorskip("pycuda.driver", reason="PyCUDA is not installed")
    pytest.importorskip(request.param, reason=f"{request.param} is not installed")
    return request.param


def options(backend: str, **more) -> CompileOptions:
    """Compile for this card, where that has to be said."""
    trt = load_module(backend)
    ahead = compiles_ahead_of_time(trt)
    capabilities = (find_device().capability,) if ahead else ()
    return CompileOptions(capabilities, **more)


def compiled(backend: str, model: bytes, **more) -> bytes:
    try:
        return compile_plan(load_module(backend), model, options(backend, **more)).data
    except UsageError as error:
        pytest.skip(f"{backend} does not take this card: {error}")


@pytest.fixture
def engines() -> Iterator[list[TensorRTEngine]]:
    opened: list[TensorRTEngine] = []
    yield opened
    for engine in opened:
        engine.close()


def images(count: int) -> list[np.ndarray]:
    random = np.random.default_rng(5)
    return [random.normal(size=IMAGE).astype(np.float32) for _ in range(count)]


def expected(model: bytes, tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    with closing(OnnxRuntimeEngine(model, EXACT)) as engine:
        return {name: array.copy() for name, array in engine.run(tensors).outputs.items()}


def assert_close(found: np.ndarray, wanted: np.ndarray) -> None:
    scale = np.abs(wanted).max()
    np.testing.assert_allclose(found / scale, wanted / scale, atol=CLOSE, rtol=0)


@pytest.mark.parametrize("graph", [True, False])
def test_a_quantised_convolution_is_what_onnxruntime_makes_of_it(backend, engines, graph):
    model = convolution().model(17).SerializeToString()
    plan = compiled(backend, model)
    run = RunOptions(graph=graph)
    engine = TensorRTEngine(load_module(backend), plan, CudaContext.open(), run)
    engines.append(engine)
    for image in images(3):
        result = engine.run({"x": image})
        assert_close(result.outputs["y"], expected(model, {"x": image})["y"])
        assert result.timing.execute_ns > 0
        assert min(result.timing.h2d_ns, result.timing.d2h_ns) >= 0
    if not graph:
        assert "enqueued" in engine.description


def test_frames_in_flight_come_back_in_order(backend, engines):
    model = convolution().model(17).SerializeToString()
    plan = compiled(backend, model)
    engine = TensorRTEngine(load_module(backend), plan, CudaContext.open())
    engines.append(engine)
    frames, results = images(12), []
    waiting = 0
    for image in frames:
        engine.submit({"x": image})
        waiting += 1
        if waiting == engine.slots:
            results.append(engine.collect().outputs["y"].copy())
            waiting -= 1
    results += [engine.collect().outputs["y"].copy() for _ in range(waiting)]
    alone = [engine.run({"x": image}).outputs["y"].copy() for image in frames]
    for one, other in zip(results, alone):
        np.testing.assert_array_equal(one, other)


def test_an_open_batch_is_taken_within_its_profile(backend, engines):
    plan = compiled(backend, dynamic(), batch=(1, 2, 4))
    engine = TensorRTEngine(load_module(backend), plan, CudaContext.open())
    engines.append(engine)
    assert engine.max_batch == 4
    for batch in (1, 4, 2):
        array = np.random.default_rng(batch).normal(size=(batch, 8)).astype(np.float32)
        found = engine.run({"x": array}).outputs["y"]
        assert found.shape == (batch, 4)
        assert_close(found, array @ np.ones((8, 4), np.float32))
    with pytest.raises(EngineError, match="compiled for 1 to 4"):
        engine.run({"x": np.zeros((5, 8), np.float32)})


def test_layers_take_time(backend, engines):
    plan = compiled(backend, convolution().model(17).SerializeToString())
    engine = TensorRTEngine(load_module(backend), plan, CudaContext.open())
    engines.append(engine)
    layers = engine.profile({"x": images(1)[0]}, 5)
    assert sum(layer.median_ms for layer in layers) > 0


def test_what_is_no_plan_is_refused_and_another_is_loaded(backend, engines):
    plan = compiled(backend, convolution().model(17).SerializeToString())
    trt = load_module(backend)
    for broken in (b"no plan", plan[: len(plan) // 2]):
        with pytest.raises(EngineError, match="refuses the plan"):
            TensorRTEngine(trt, broken, CudaContext.open())
    engines.append(TensorRTEngine(trt, plan, CudaContext.open()))
    engines[0].run({"x": images(1)[0]})


@pytest.fixture(scope="module")
def bundle(world: Path) -> Bundle:
    output = world / "on_card" / "demo"
    path = recipe(world, "on_card.yaml", emitters=["tensorrt", "tensorrt_8"])
    assert main(["build", str(path), "--output", str(output)]) == 0
    return load_bundle(output)


def compile_demo(bundle: Bundle, backend: str):
    try:
        return compile_bundle(bundle, backend, options(backend), lambda label: None)
    except UsageError as error:
        pytest.skip(f"{backend} does not take this card: {error}")


def test_a_plan_sees_what_onnxruntime_sees(backend, bundle: Bundle, world: Path):
    made = compile_demo(bundle, backend)
    emitter = made.record.target.emitter
    with (
        closing(ImageFolder(world / "gate")) as source,
        closing(bundle.open_pipeline(emitter=emitter)) as here,
        closing(bundle.open_pipeline(backend)) as there,
    ):
        found = run_side_by_side(here, there, source, 8, Comparison(0.5, 0.4))
    assert found.agreement.matched > 0
    assert found.agreement.rate >= 0.95


def test_a_plan_is_timed_and_what_it_took_is_kept(backend, bundle: Bundle, capsys):
    made = compile_demo(bundle, backend)
    arguments = ["--backend", backend, "--seconds", "0.2", "--layers"]
    assert main(["benchmark", str(bundle.root), *arguments]) == 0
    assert find_device().name in capsys.readouterr().out
    (times,) = load_times(bundle.plans(), made.record)
    assert times.machine["gpu"] == find_device().name
    assert 0 < times.stages_ms["execute"] <= times.latency_ms["max"]
    assert times.frames_per_s["1"] > 0
    assert times.frames_per_s["2"] > 0
    assert main(["inspect", str(bundle.root)]) == 0
    assert "took:" in capsys.readouterr().out


def test_a_second_load_finds_what_the_first_compiled(
    backend, bundle: Bundle, tmp_path, monkeypatch
):
    monkeypatch.setenv("AV_COMPRESS_CACHE", str(tmp_path))
    compile_demo(bundle, backend)
    for _ in range(2):
        bundle.open_engine(backend).close()
    kept = list((tmp_path / "runtime").glob("*.cache"))
    # TensorRT for RTX alone compiles just in time.
    assert len(kept) == (backend == "tensorrt_rtx")
