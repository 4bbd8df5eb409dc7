# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Compiling with versions that cannot be had here, against the stand-in of each."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from helpers_qdq import Draft, convolution
from helpers_trt import rtx
from onnx import TensorProto
from trt_stand_in import VERSIONS, make_module

from av_compress.compress.emit.implicit import calibration_cache, without_pairs
from av_compress.engines.plans.options import CompileOptions
from av_compress.engines.tensorrt.compile import NetworkSource, compile_plan
from av_compress.engines.tensorrt.inspect import inspect_layers, read_layers
from av_compress.engines.tensorrt.load import load_plan
from av_compress.engines.tensorrt.log import make_log
from av_compress.engines.tensorrt.module import takes_ranges, types_from_graph
from av_compress.engines.tensorrt.timing import TimingCache
from av_compress.errors import EngineError, UsageError

PAIRS = convolution().model(17)
MODEL = PAIRS.SerializeToString()
BOTH_LAYOUTS = ["10.3", "11.4"]


def options_for(module: Any) -> CompileOptions:
    return CompileOptions(("8.9",) if module.__name__ == "tensorrt_rtx" else ())


class Recorded:
    """What a builder was told, read off the network and its configuration when it builds."""

    def __init__(self, module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.flags: set[str] = set()
        self.bound: set[str] = set()
        self.ranges: dict[str, tuple[float, float]] = {}
        build = module.Builder.build_serialized_network

        def recording(builder: Any, network: Any, config: Any) -> Any:
            members = module.BuilderFlag.__members__
            self.flags = {name for name, flag in members.items() if config.get_flag(flag)}
            for index in range(network.num_layers):
                layer = network.get_layer(index)
                if layer.precision_is_set:
                    assert layer.precision == module.DataType.FLOAT
                    assert layer.get_output_type(0) == module.DataType.FLOAT
                    self.bound.add(layer.name)
                self._note(layer.get_output(0))
            for index in range(network.num_inputs):
                self._note(network.get_input(index))
            return build(builder, network, config)

        monkeypatch.setattr(module.Builder, "build_serialized_network", recording)

    def _note(self, tensor: Any) -> None:
        if tensor.dynamic_range is not None:
            self.ranges[tensor.name] = tensor.dynamic_range


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_compiles(version: str):
    module, _ = make_module(version)
    plan = compile_plan(module, MODEL, options_for(module))
    engine = load_plan(module, make_log(module), plan.data)[1]
    assert engine.num_io_tensors == 2
    assert types_from_graph(module) == (version != "8.6")


def test_types_are_chosen_where_the_graph_gives_none(monkeypatch):
    module, _ = make_module("8.6")
    told = Recorded(module, monkeypatch)
    compile_plan(module, NetworkSource(MODEL), CompileOptions())
    assert told.flags & {"INT8", "FP16", "OBEY_PRECISION_CONSTRAINTS"} == {"INT8"}
    compile_plan(module, NetworkSource(MODEL, frozenset()), CompileOptions())
    assert told.flags & {"INT8", "FP16", "OBEY_PRECISION_CONSTRAINTS"} == {"INT8", "FP16"}
    assert told.bound == set()
    compile_plan(module, NetworkSource(MODEL, frozenset({"conv"})), CompileOptions())
    assert "OBEY_PRECISION_CONSTRAINTS" in told.flags
    assert told.bound == {"conv"}


def test_no_pairs_no_int8_flag(monkeypatch):
    module, _ = make_module("8.6")
    told = Recorded(module, monkeypatch)
    floats = without_pairs(PAIRS)[0].SerializeToString()
    compile_plan(module, NetworkSource(floats, frozenset()), CompileOptions())
    assert "INT8" not in told.flags


def test_an_error_of_8_6_names_the_node_too():
    module, _ = make_module("8.6")
    draft = Draft().input("x", [3], TensorProto.FLOAT).node("Frobnicate", "x", "y", name="odd")
    model = draft.output("y", [3], TensorProto.FLOAT).model(17)
    with pytest.raises(EngineError, match=r"node 'odd' \(Frobnicate\)"):
        compile_plan(module, model.SerializeToString(), CompileOptions())


def test_ranges_stand_for_pairs_on_dla(monkeypatch):
    floats, ranges = without_pairs(PAIRS)
    assert not any("Quantize" in node.op_type for node in floats.graph.node)
    scale = next(t for t in PAIRS.graph.initializer if t.name == "x_scale")
    expected = float(onnx.numpy_helper.to_array(scale)) * 127
    assert ranges == {"x": pytest.approx(expected)}
    module, control = make_module("10.3")
    control.dla_cores = 2
    told = Recorded(module, monkeypatch)
    source = NetworkSource(floats.SerializeToString(), frozenset(), ranges)
    compile_plan(module, source, CompileOptions(dla_core=1))
    assert {"INT8", "FP16", "GPU_FALLBACK"} <= told.flags
    assert told.ranges == {"x": (pytest.approx(-expected), pytest.approx(expected))}
    with pytest.raises(UsageError, match="this machine has 2 DLA cores"):
        compile_plan(module, source, CompileOptions(dla_core=2))


@pytest.mark.parametrize("version", ["11.0", "rtx-1.7"])
def test_ranges_are_refused_where_there_are_none(version: str):
    module, _ = make_module(version)
    assert not takes_ranges(module)
    with pytest.raises(EngineError, match="takes no ranges"):
        compile_plan(module, NetworkSource(MODEL, None, {"x": 1.0}), options_for(module))


def test_the_widest_of_several_pairs_counts():
    model = onnx.ModelProto()
    model.CopyFrom(PAIRS)
    wide = next(t for t in model.graph.initializer if t.name == "x_scale")
    other = model.graph.initializer.add()
    other.CopyFrom(wide)
    other.name = "other"
    other.CopyFrom(onnx.numpy_helper.from_array(np.float32(9.0), "other"))
    quantise = next(
        n for n in model.graph.node if n.op_type == "QuantizeLinear" and n.input[0] == "x"
    )
    again = model.graph.node.add()
    again.CopyFrom(quantise)
    again.name, again.input[1], again.output[0] = "again", "other", "unused"
    assert without_pairs(model)[1]["x"] == pytest.approx(9.0 * 127)


def test_a_calibration_cache_holds_scales_as_bits():
    text = calibration_cache({"x": 127.0, "a b": 254.0}, "10.3.0")
    assert text == "TRT-100300-EntropyCalibration2\nx: 3f800000\na b: 40000000\n"
    assert calibration_cache({}, "8.6.1.6").startswith("TRT-8601-")
    scale = 0.0312890625
    (line,) = calibration_cache({"t": scale * 127}, "8.5.2").splitlines()[1:]
    assert struct.unpack(">f", bytes.fromhex(line.split(": ")[1]))[0] == pytest.approx(scale)


@pytest.mark.parametrize("version", ["8.6", "10.0", "10.16", "11.4"])
def test_timings_are_kept_and_given_again(version: str, tmp_path):
    module, _ = make_module(version)
    cache = TimingCache(tmp_path / "timing" / "one.cache")
    first = compile_plan(module, MODEL, CompileOptions(), timings=cache)
    assert len(first.timing_cache) == 64
    content = cache.path.read_bytes()
    assert content.startswith(first.timing_cache.encode() + b"\n")
    given: list[bytes] = []
    make = module.IBuilderConfig.create_timing_cache
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            module.IBuilderConfig,
            "create_timing_cache",
            lambda config, blob: given.append(bytes(blob)) or make(config, blob),
        )
        again = compile_plan(module, MODEL, CompileOptions(), timings=cache)
    assert given[0] == content.partition(b"\n")[2]
    assert again.timing_cache == first.timing_cache


def test_damaged_timings_count_as_none(tmp_path):
    module, _ = make_module("10.3")
    cache = TimingCache(tmp_path / "one.cache")
    compile_plan(module, MODEL, CompileOptions(), timings=cache)
    whole = cache.path.read_bytes()
    cache.path.write_bytes(whole[:-1])
    assert compile_plan(module, MODEL, CompileOptions(), timings=cache).timing_cache
    assert cache.path.read_bytes() == whole


@pytest.mark.parametrize("version", BOTH_LAYOUTS)
def test_the_inspector_says_what_the_log_says(version: str):
    module, _ = make_module(version)
    plan = compile_plan(module, MODEL, CompileOptions())
    _, engine = load_plan(module, make_log(module), plan.data)
    inspected = inspect_layers(module, engine)
    assert [layer.name for layer in inspected] == [layer.name for layer in plan.layers]
    for told, logged in zip(inspected, plan.layers):
        assert told.nodes == logged.nodes
        for one, other in zip((*told.inputs, *told.outputs), (*logged.inputs, *logged.outputs)):
            assert (one.name, one.shape, one.dtype) == (other.name, other.shape, other.dtype)


def test_layouts_name_their_types():
    tensor = {"Name": "t", "Dimensions": [1, 2]}
    texts = {
        "Row major linear FP32": "Float",
        "Thirty-two wide channel vectorized row major Int8 format": "Int8",
        "Channel major FP16 format where channel % 8 == 0": "Half",
        "Row major linear BOOL": "Bool",
    }
    for text, dtype in texts.items():
        layer = {
            "Name": "l",
            "LayerType": "CaskConvolution",
            "Inputs": [{**tensor, "Format/Datatype": text}],
            "Outputs": [],
        }
        (read,) = read_layers(json.dumps({"Layers": [layer, "a name alone"], "Bindings": []}))
        assert read.inputs[0].dtype == dtype
    for broken in ("", "[]", '{"Layers": [{"Name": "x"}]}'):
        with pytest.raises(EngineError, match="engine inspector"):
            read_layers(broken)


@pytest.mark.parametrize("version", ["8.6", "10.3", "11.4"])
def test_without_a_card_it_is_said_where_to_compile(version: str):
    module, control = make_module(version)
    control.card = None
    with pytest.raises(EngineError, match=r"makes no builder.*ahead of time"):
        compile_plan(module, MODEL, CompileOptions())
    with pytest.raises(EngineError, match="makes no runtime"):
        load_plan(module, make_log(module), b"")


@pytest.mark.parametrize("version", ["8.6", "10.3", "11.4", "rtx-1.7"])
def test_a_builder_that_fails_says_why(version: str):
    module, control = make_module(version)
    control.failures["Builder.build_serialized_network"] = "Requested size was 1 TB: out of memory"
    with pytest.raises(EngineError, match=r"the builder refuses the model: .*out of memory"):
        compile_plan(module, MODEL, options_for(module))


@pytest.mark.parametrize("version", ["10.3", "11.4"])
def test_a_plan_is_not_lost_where_its_timings_cannot_be_kept(version: str, tmp_path: Path):
    module, _ = make_module(version)
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    timings = TimingCache(blocked / "timings.cache")
    made = compile_plan(module, MODEL, CompileOptions(), timings=timings)
    assert made.data
    assert made.timing_cache == ""
    assert any("what was timed is not kept" in warning for warning in made.warnings)


def test_an_interrupt_in_the_middle_of_a_step_stops_the_real_builder():
    def step(phase: str, done: int, total: int) -> bool:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compile_plan(rtx(), MODEL, CompileOptions(("8.9",)), step)


def test_a_plan_without_weights_is_refused():
    for module in (rtx(), make_module("10.3")[0]):
        with pytest.raises(UsageError, match="STRIP_PLAN: such a plan has no weights"):
            compile_plan(module, MODEL, CompileOptions(flags=("STRIP_PLAN",)))
