# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The stand-in builds what the real builder builds, and refuses what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from helpers_models import emitted, prepared, residual_network
from helpers_mutants import mutant
from helpers_qdq import CHANNELS, Draft, convolution, floats
from helpers_rtx_cases import CASES, Case
from helpers_trt import ADA, Refused, rtx, try_compile
from onnx import TensorProto
from trt_stand_in import VERSIONS, Card, make_module
from trt_stand_in.operator_types import TAKES

from av_compress.compress.plan.precision import PrecisionRules, make_plan
from av_compress.engines.plans.layers import parse_layers
from av_compress.engines.plans.options import CompileOptions
from av_compress.engines.tensorrt.compile import compile_plan
from av_compress.errors import EngineError, UsageError

TYPED = VERSIONS[1:]
KINDS = {"FLOAT": 1, "HALF": 10, "BF16": 16, "INT8": 3, "INT32": 6, "INT64": 7, "BOOL": 9}
KINDS |= {"UINT8": 2}


def refusal(model: bytes, version: str = "rtx-1.7") -> str | None:
    """Return why the stand-in refuses a model; None where it builds it."""
    module, _ = make_module(version)
    try:
        compile_plan(module, model, ADA if version == "rtx-1.7" else CompileOptions())
    except EngineError as error:
        return str(error)
    return None


def assert_agreement(model: onnx.ModelProto) -> None:
    data = model.SerializeToString()
    real, ours = try_compile(data), refusal(data)
    assert isinstance(real, Refused) == (ours is not None), (real, ours)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_it_agrees_with_the_real_builder_on_known_graphs(case: Case):
    assert_agreement(case.model)


@pytest.mark.parametrize("seed", range(0, 240, 20))
def test_it_agrees_with_the_real_builder_on_changed_graphs(seed: int):
    verdicts = []
    for one in range(seed, seed + 20):
        model = mutant(one)
        assert_agreement(model)
        verdicts.append(refusal(model.SerializeToString()) is None)
    assert {True, False} == set(verdicts)


def test_a_vector_of_one_fp16_scale_stops_the_real_compiler():
    """Found by changed graphs: its internal check fails on weights of convolutions alone."""
    one, zero = np.full(1, 0.01, np.float16), np.zeros(1, np.int8)
    model = convolution(np.float16).const("w_scale", one).const("w_zero", zero).model()
    assert_agreement(model)
    assert refusal(model.SerializeToString()) is not None
    assert refusal(model.SerializeToString(), "10.3") is None


UNARY = ["Relu", "Neg", "Abs", "Exp", "Sqrt", "Sigmoid", "Erf", "Sign", "Not", "HardSwish"]
UNARY += ["Softmax", "Identity", "Floor", "Mish"]
BINARY = ["Add", "Mul", "Pow", "And", "Max"]


@pytest.mark.parametrize("op_type", [*UNARY, *BINARY])
def test_operators_take_the_types_that_the_real_builder_takes(op_type: str):
    assert op_type in TAKES
    for kind in KINDS.values():
        draft = Draft().input("x", [1, 4], kind).input("z", [1, 4], kind)
        draft.node(op_type, "x z" if op_type in BINARY else "x", "y").output("y", [1, 4], kind)
        if op_type in UNARY:
            draft.inputs.pop()
        assert_agreement(draft.model(21))


@pytest.mark.shared_data
@pytest.mark.parametrize("version", TYPED)
def test_real_models_are_built_by_every_version(shared_data: Path, version: str):
    paths = sorted(shared_data.glob("*/*.onnx"))
    assert len(paths) == 11
    for path in paths:
        assert refusal(path.read_bytes(), version) is None, path


@pytest.mark.parametrize("version", TYPED)
def test_the_projects_own_path_compiles_with_every_typed_version(version: str):
    module, control = make_module(version)
    steps: list[str] = []
    options = CompileOptions(workspace=2**28, optimization_level=2)
    plan = compile_plan(
        module,
        convolution(np.float16).model().SerializeToString(),
        options,
        lambda phase, _step, _all: steps.append(phase) or True,
    )
    assert plan.data.startswith(b"STANDIN")
    assert {"Building engine", "Timing graph nodes"} <= set(steps)
    last = plan.layers[-1]
    assert (last.name, last.kind, last.nodes) == (
        "conv_myl0_4",
        "correlation",
        ("conv", "x_d", "w_d"),
    )
    assert [tensor.dtype for tensor in last.inputs] == ["Int8"]
    assert [tensor.dtype for tensor in last.outputs] == ["Half"]
    assert [tensor.shape for tensor in last.constants] == [(16, 16, 3, 3), (16,)]
    assert control.calls["Builder.build_serialized_network"] == 1


@pytest.mark.parametrize("version", TYPED)
def test_a_progress_monitor_stops_a_build(version: str):
    module, _ = make_module(version)
    model = convolution().model().SerializeToString()
    with pytest.raises(KeyboardInterrupt):
        compile_plan(module, model, CompileOptions(), lambda *_: False)


def test_what_is_emitted_for_a_version_builds_in_it(tmp_path: Path):
    model = prepared(residual_network(), tmp_path)
    plan = make_plan(model, PrecisionRules())
    assert plan.quantised()
    for version in TYPED:
        data = emitted(model, plan, "tensorrt").SerializeToString()
        layers = compile_plan(make_module(version)[0], data, CompileOptions()).layers
        inside = {layer.nodes[0] for layer in layers if layer.inputs[0].dtype == "Int8"}
        assert plan.quantised() <= inside, version
    data = emitted(model, plan, "tensorrt_8").SerializeToString()
    old = Bench("8.6", data, 1).flag("INT8").flag("FP16")
    assert old.parsed
    assert old.build() is not None


def dynamic() -> bytes:
    draft = Draft().input("x", ["N", 8]).output("y", ["N", 4])
    return (
        draft.node("Gemm", "x w", "y")
        .const("w", np.ones((8, 4), np.float32))
        .model(17)
        .SerializeToString()
    )


class Log:
    """Builds a logger of a module's own class that keeps what it is told."""

    @staticmethod
    def of(module: Any) -> Any:
        class Kept(module.ILogger):
            def __init__(self) -> None:
                module.ILogger.__init__(self)
                self.messages: list[tuple[str, str]] = []

            def log(self, severity: Any, message: str) -> None:
                self.messages.append((severity.name, message))

            def errors(self) -> str:
                return "; ".join(text for name, text in self.messages if name == "ERROR")

        return Kept()


class Bench:
    """A parsed network, and what is needed to build it."""

    def __init__(self, version: str | Any, model: bytes, flags: int | None = None) -> None:
        self.module = make_module(version)[0] if isinstance(version, str) else version
        self.log = Log.of(self.module)
        self.builder = self.module.Builder(self.log)
        typed = self.module.NetworkDefinitionCreationFlag.__members__.get("STRONGLY_TYPED")
        flags = (0 if typed is None else 1 << int(typed)) if flags is None else flags
        self.network = self.builder.create_network(flags)
        self.parser = self.module.OnnxParser(self.network, self.log)
        self.parsed = self.parser.parse(model)
        self.config = self.builder.create_builder_config()

    def flag(self, name: str) -> Bench:
        self.config.set_flag(getattr(self.module.BuilderFlag, name))
        return self

    def build(self) -> Any:
        return self.builder.build_serialized_network(self.network, self.config)


PROFILES = [
    (((1, 8), (2, 8), (3, 8)), True),
    (((2, 8), (1, 8), (3, 8)), False),
    (((1, 4), (1, 8), (1, 8)), False),
    (((1,), (1,), (1,)), False),
    (None, False),
]


@pytest.mark.parametrize(("shapes", "built"), PROFILES)
@pytest.mark.parametrize("version", ["8.6", "10.3", "11.4", "rtx-1.7", "real"])
def test_profiles_are_checked(version: str, shapes: Any, built: bool):
    bench = Bench(
        rtx() if version == "real" else version, dynamic(), 1 if version == "8.6" else None
    )
    if version in {"rtx-1.7", "real"}:
        bench.config.num_compute_capabilities = 1
        bench.config.set_compute_capability(bench.module.ComputeCapability.SM89, 0)
    if shapes is not None:
        profile = bench.builder.create_optimization_profile()
        profile.set_shape("x", *shapes)
        ascending = shapes[0][0] <= shapes[1][0]
        assert bench.config.add_optimization_profile(profile) == (0 if ascending else -1)
    assert (bench.build() is not None) == built


def test_parser_errors_have_the_members_of_the_version():
    model = convolution().const("x_zero", np.int8(3)).model(17).SerializeToString()
    for version in VERSIONS:
        bench = Bench(version, model, 1 if version == "8.6" else None)
        assert not bench.parsed
        assert bench.parser.num_errors == 1
        error = bench.parser.get_error(0)
        assert error.code() == bench.module.ErrorCode.INVALID_NODE
        assert (error.node(), "zero point" in error.desc()) == (0, True)
        assert hasattr(error, "node_name") == (version != "8.6")
        if version != "8.6":
            assert (error.node_name(), error.node_operator()) == ("x_q", "QuantizeLinear")
        assert bench.parser.get_error(7) is None
        bench.parser.clear_errors()
        assert bench.parser.num_errors == 0


@pytest.mark.parametrize("version", VERSIONS)
def test_bytes_that_are_no_model_are_refused(version: str):
    bench = Bench(version, b"no model", 1 if version == "8.6" else None)
    assert not bench.parsed
    assert bench.parser.get_error(0).code() == bench.module.ErrorCode.MODEL_DESERIALIZE_FAILED
    assert bench.build() is None
    assert "at least one output" in bench.log.errors()


def test_opsets_and_scales_are_limited_by_version():
    for version, newest in (("8.6", 17), ("10.3", 20), ("10.16", 23)):
        for opset in (17, 20, 21, 23):
            bench = Bench(version, convolution().model(opset).SerializeToString(), 1)
            assert bench.parsed == (opset <= newest), (version, opset)
    half = convolution(np.float16).model(17).SerializeToString()
    assert not Bench("8.6", half, 1).parsed
    bare = convolution()
    for node in bare.nodes[:2]:
        del node.input[2:]
    assert not Bench("8.6", bare.model(17).SerializeToString(), 1).parsed
    assert Bench("10.3", bare.model(17).SerializeToString(), 2).parsed


def test_weak_typing_takes_types_from_flags_and_layers():
    model = convolution().model(17).SerializeToString()
    bench = Bench("8.6", model, 1)
    assert bench.build() is None
    assert "int8 is not configured" in bench.log.errors()
    assert bench.flag("INT8").build() is not None
    layer = next(one for one in map(bench.network.get_layer, range(5)) if one.name == "conv")
    assert (layer.precision_is_set, layer.type) == (False, bench.module.LayerType.CONVOLUTION)
    layer.precision = bench.module.DataType.HALF
    layer.set_output_type(0, bench.module.DataType.HALF)
    assert layer.precision_is_set
    assert layer.get_output_type(0) == bench.module.DataType.HALF
    assert bench.build() is None
    assert "fp16 is not configured" in bench.log.errors()
    assert bench.flag("FP16").build() is not None
    tensor = bench.network.get_input(0)
    assert tensor.set_dynamic_range(-1, 1)
    assert tensor.dynamic_range == (-1, 1)


def test_a_layer_kept_in_fp32_is_told_apart_in_the_log():
    net = floats(("Relu", "x", "a", {}), ("Exp", "a", "b", {}), ("Relu", "b", "y", {}))
    bench = Bench("8.6", net.model(17).SerializeToString(), 1).flag("FP16")
    bench.config.profiling_verbosity = bench.module.ProfilingVerbosity.DETAILED
    bench.network.get_layer(1).precision = bench.module.DataType.FLOAT
    assert bench.build() is not None
    layers = parse_layers(text for _, text in bench.log.messages)
    assert [layer.outputs[0].dtype for layer in layers] == ["Half", "Float", "Float"]


@pytest.mark.parametrize("name", ["FP16", "INT8", "BF16"])
def test_a_strongly_typed_network_allows_no_types_by_flag(name: str):
    bench = Bench("10.3", convolution().model().SerializeToString()).flag(name)
    assert bench.build() is None
    assert "strongly typed" in bench.log.errors()
    layer = bench.network.get_layer(0)
    layer.precision = bench.module.DataType.HALF
    assert not layer.precision_is_set


@pytest.mark.parametrize("version", ["10.3", "11.4"])
def test_a_timing_cache_is_kept_and_knows_its_maker(version: str):
    model = convolution().model().SerializeToString()
    bench = Bench(version, model)
    cache = bench.config.create_timing_cache(b"")
    assert bench.config.set_timing_cache(cache, False)
    strict = Bench(version, model).flag("ERROR_ON_TIMING_CACHE_MISS")
    assert strict.build() is None
    assert bench.build() is not None
    data = bytes(cache.serialize())
    strict.config.set_timing_cache(strict.config.create_timing_cache(data), False)
    assert strict.build() is not None
    assert bench.config.create_timing_cache(b"junk") is None
    module, control = make_module(version)
    control.card = Card("Stand-in B", (8, 6))
    other = Bench(module, model)
    foreign = other.config.create_timing_cache(data)
    assert not other.config.set_timing_cache(foreign, False)
    assert other.config.set_timing_cache(foreign, True)


def test_dla_wants_a_core_and_layers_that_it_runs():
    model = floats(("Exp", "x", "y", {})).model().SerializeToString()
    module, control = make_module("10.3")
    options = CompileOptions(dla_core=0)
    with pytest.raises(UsageError, match="0 DLA cores"):
        compile_plan(module, model, options)
    control.dla_cores = 2
    assert compile_plan(module, model, options).data
    bench = Bench(module, model)
    bench.config.default_device_type = module.DeviceType.DLA
    bench.config.DLA_core = 0
    assert bench.build() is None
    assert "GPU_FALLBACK" in bench.log.errors()


def test_capabilities_are_those_of_rtx_alone():
    draft = convolution()
    for name, shape in (("x_zero", []), ("w_zero", [CHANNELS])):
        zeros = [0.0] * (CHANNELS if shape else 1)
        draft.const(name, onnx.helper.make_tensor(name, TensorProto.FLOAT8E4M3FN, shape, zeros))
    model = draft.model().SerializeToString()
    for module in (rtx(), make_module("rtx-1.7")[0]):
        with pytest.raises(EngineError):
            compile_plan(module, model, CompileOptions(capabilities=("8.6",)))
        assert compile_plan(module, model, CompileOptions(capabilities=("8.9",))).data
        with pytest.raises(UsageError):
            compile_plan(module, model, CompileOptions(capabilities=("7.0",)))
    with pytest.raises(UsageError):
        compile_plan(make_module("10.3")[0], model, CompileOptions(capabilities=("8.9",)))


def test_without_a_card_only_rtx_builds():
    model = convolution().model().SerializeToString()
    for version in TYPED:
        module, control = make_module(version)
        control.card = None
        if version == "rtx-1.7":
            assert compile_plan(module, model, ADA).data
            refused = [Bench(module, model).flag("REFIT"), Bench(rtx(), model).flag("REFIT")]
            assert [bench.build() for bench in refused] == [None, None]
        else:
            with pytest.raises(TypeError, match="nullptr"):
                module.Builder(Log.of(module))


def test_failures_are_injected_by_name():
    module, control = make_module("10.3")
    control.failures["Builder.build_serialized_network"] = "out of everything"
    with pytest.raises(EngineError, match="out of everything"):
        compile_plan(module, convolution().model().SerializeToString(), CompileOptions())
