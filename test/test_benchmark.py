# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""`av-compress benchmark` with ONNX Runtime, and how models take turns."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper
from test_bundle import write_bundle

from av_compress.cli.main import main
from av_compress.data.demo.drive import Drive, write_dataset
from av_compress.data.folder import ImageFolder
from av_compress.engines.base import RunTiming
from av_compress.engines.bundle import load_bundle
from av_compress.engines.onnxruntime import OrtOptions
from av_compress.engines.onnxruntime_profile import profile_model, read_profile
from av_compress.engines.plans.measured import PlanTimes, keep_times, load_times, times_path
from av_compress.engines.plans.options import CompileOptions
from av_compress.engines.plans.store import PlanRecord, PlanStore, PlanTarget
from av_compress.errors import DataError, EngineError, UsageError
from av_compress.tensors import TensorSpec
from av_compress.validate.benchmark.inputs import random_inputs, recorded_inputs
from av_compress.validate.benchmark.measure import BenchmarkOptions, Taken, measure

SHORT = ("--iterations", "4", "--seconds", "0", "--warm-up", "0")


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """Return a folder with images, the demo detector, and bundles of it for 1 and 3 frames."""
    folder = tmp_path_factory.mktemp("benchmark")
    for name in ("detector.onnx", "detector.task.yaml"):
        source = resources.files("av_compress.data.demo") / name
        (folder / name).write_bytes(source.read_bytes())
    write_dataset([Drive(950, 2.0, 2.0)], folder / "images")
    for name, more in {"plain": {}, "batched": {"optimize": {"max_batch": 3}}}.items():
        recipe = {
            "model": "detector.onnx",
            "task": "detector.task.yaml",
            "calibration": {"source": {"type": "images", "path": "images"}, "samples": 4},
            "gate": None,
            "emitters": ["cpu", "tensorrt"],
            **more,
        }
        path = folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(recipe))
        assert main(["build", str(path), "--output", str(folder / name)]) == 0
    return folder


def figures(folder: Path, *arguments: str) -> dict:
    """Run the verb on a bundle; return its JSON."""
    path = folder.parent / "figures.json"
    assert main(["benchmark", str(folder), *SHORT, "--json", str(path), *arguments]) == 0
    return json.loads(path.read_text())


def test_a_bundle_is_timed_beside_what_it_was_before(world: Path, capsys):
    found = figures(world / "plain", "--against", str(world / "detector.onnx"))
    names = [model["name"] for model in found["models"]]
    assert names == ["plain/cpu", "plain/cpu without Q/DQ", "detector.onnx, the original"]
    quantised, twin, original = found["models"]
    assert quantised["precision"].startswith("uint8 ")
    assert twin["precision"] == original["precision"] == "fp32 100 %"
    assert quantised["sha256"] == load_bundle(world / "plain").record("cpu").sha256
    for model in found["models"]:
        assert model["runs"] == 4
        assert len(model["turn_medians_ms"]) == 4
        total = model["latencies"]["total"]
        assert total["count"] == 4
        assert 0 < total["p50_ms"] <= total["p95_ms"] <= total["p99_ms"] <= total["max_ms"]
        stages = [model["latencies"][name] for name in ("h2d", "execute", "d2h")]
        assert sum(one["mean_ms"] for one in stages) == pytest.approx(total["mean_ms"])
        assert [one["in_flight"] for one in model["throughput"]] == [1]
        # A frame cannot come sooner than its latency.
        assert 0 < model["throughput"][0]["frames_per_s"] <= 1000 / (total["mean_ms"] * 0.99)
        assert model["layers"] == []
    assert found["machine"]["cpu"]
    said = capsys.readouterr().out
    assert all(name in said for name in names)
    # Those that cannot run here are named with the reason.
    assert {one["name"] for one in found["left_out"]} >= {"plain with tensorrt_rtx"}
    assert "not timed: plain with tensorrt_rtx: " in said


def test_forms_for_a_card_are_timed_where_asked_for_and_said_to_be_simulated(world: Path):
    found = figures(world / "plain", "--backend", "onnxruntime", "--emitter", "tensorrt")
    names = [model["name"] for model in found["models"]]
    assert names[0] == "plain/tensorrt, every pair computed as written"
    assert names[1] == "plain/tensorrt without Q/DQ"
    assert found["left_out"] == []


def test_a_batch_is_counted_in_frames(world: Path):
    found = figures(world / "batched", "--batch", "3", "--data", str(world / "images"))
    for model in found["models"]:
        assert model["batch"] == 3
        mean = model["latencies"]["total"]["mean_ms"]
        assert model["throughput"][0]["frames_per_s"] <= 3000 / (mean * 0.99)
    assert found["inputs"].startswith("images")


def test_another_bundle_is_held_against(world: Path):
    found = figures(world / "plain", "--against", str(world / "batched"))
    assert [model["name"] for model in found["models"]] == [
        "plain/cpu",
        "plain/cpu without Q/DQ",
        "batched/cpu",
        "batched/cpu without Q/DQ",
    ]


def test_layers_are_those_that_run(world: Path, capsys):
    found = figures(world / "plain", "--backend", "onnxruntime", "--layers")
    kinds = [{layer["kind"] for layer in model["layers"]} for model in found["models"]]
    assert "QLinearConv" in kinds[0]
    assert kinds[1].isdisjoint({"QLinearConv", "QuantizeLinear"})
    assert "Conv" in kinds[1]
    assert "layer, the slowest first" in capsys.readouterr().out
    for model in found["models"]:
        assert all(layer["median_ms"] >= 0 for layer in model["layers"])


def refused(capsys, *arguments: str, code: int) -> str:
    capsys.readouterr()
    assert main(["benchmark", *arguments]) == code
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "Traceback" not in said
    return said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--iterations", "0"), "--iterations 0: measure at least one run"),
        (("--seconds", "-1"), "--seconds -1"),
        (("--seconds", "nan"), "--seconds nan"),
        (("--seconds", "inf"), "--seconds inf"),
        (("--warm-up", "-1"), "--warm-up -1"),
        (("--batch", "0"), "--batch 0"),
        (("--threads", "-1"), "--threads -1"),
        (("--threads", "99999"), "--threads 99999: give 0 for all cores, or up to "),
        (("--backend", "tensorrt", "--emitter", "cpu"), "--emitter goes with"),
        (("--against", "nowhere"), "--against nowhere is neither"),
        (("--topic", "/image", "--data", "."), "--topic goes with a bag"),
    ],
)
def test_wrong_arguments_are_told(world: Path, capsys, arguments, words):
    assert words in refused(capsys, str(world / "plain"), *arguments, code=2)


def test_a_batch_beyond_the_largest_is_refused(world: Path, capsys):
    said = refused(capsys, str(world / "plain"), "--batch", "2", code=2)
    assert "takes at most 1 frames at once; build it with optimize: {max_batch: 2}" in said
    said = refused(capsys, str(world / "batched"), "--batch", "4", code=2)
    assert "takes at most 3 frames" in said


def test_what_is_no_bundle_is_refused(world: Path, tmp_path: Path, capsys):
    assert "is not a bundle" in refused(capsys, str(tmp_path), code=1)
    said = refused(capsys, str(world / "plain"), "--emitter", "weight_only", code=1)
    assert "no artefact for emitter 'weight_only'" in said


def test_a_demanded_backend_that_cannot_run_says_why(world: Path, capsys):
    said = refused(capsys, str(world / "plain"), "--backend", "tensorrt_rtx", code=1)
    # Without a card the driver is missing; with one the plan, and the command is named.
    assert "libcuda" in said or "av-compress compile" in said or "pycuda" in said


def test_an_artefact_that_failed_its_gate_is_not_timed(tmp_path: Path, capsys):
    root = write_bundle(tmp_path / "bundle", passed=False)
    assert "failed its gate" in refused(capsys, str(root), *SHORT, code=1)


def test_frames_that_cannot_be_used_are_left_out(world: Path, tmp_path: Path):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/a.png").write_bytes(b"no image")
    task = load_bundle(world / "plain").task()
    with pytest.raises(DataError, match="none of the 1 frames"):
        recorded_inputs(ImageFolder(tmp_path / "broken"), task, 1)


@pytest.mark.parametrize("batch", [1, 2, 3, 7])
def test_recorded_frames_are_what_the_task_makes_of_them(world: Path, batch: int):
    task = load_bundle(world / "plain").task()
    source = ImageFolder(world / "images")
    batches = recorded_inputs(source, task, batch)
    frames = [task.preprocess(source.read(i)).tensors["images"] for i in range(len(source))]
    used = frames[: 4 * batch]
    for place, tensors in enumerate(batches):
        wanted = [used[(place * batch + one) % len(used)] for one in range(batch)]
        np.testing.assert_array_equal(tensors["images"], np.concatenate(wanted))


def test_random_inputs_fit_and_differ():
    specs = [
        TensorSpec("image", (None, 3, 4), np.dtype(np.float16)),
        TensorSpec("mask", (2,), np.dtype(np.bool_)),
        TensorSpec("index", (1, 2), np.dtype(np.int64)),
    ]
    batches = random_inputs(specs, 5)
    for tensors in batches:
        assert tensors["image"].shape == (5, 3, 4)
        assert np.abs(tensors["image"]).max() <= 1
        assert 0 <= tensors["index"].min() <= tensors["index"].max() < 128
        for spec in specs:
            assert spec.accepts(tensors[spec.name])
    assert not np.array_equal(batches[0]["image"], batches[1]["image"])
    with pytest.raises(UsageError, match="open extents beside the batch"):
        random_inputs([TensorSpec("x", (1, None), np.dtype(np.float32))], 1)


@dataclass
class Told:
    """A model whose runs take what the test says; `journal` is who ran, in order."""

    name: str
    journal: list[str]
    timings: list[RunTiming] = field(default_factory=list)

    def once(self) -> RunTiming:
        self.journal.append(self.name)
        place = len(self.timings)
        self.timings.append(RunTiming(place, 1000 * place, 7))
        return self.timings[-1]


@dataclass
class Flying(Told):
    """One that takes several runs at once."""

    in_flight: int = 3
    waiting: int = 0
    most: int = 0

    def begin(self) -> None:
        self.waiting += 1
        self.most = max(self.most, self.waiting)

    def end(self) -> None:
        assert self.waiting
        self.waiting -= 1


def test_models_take_turns_and_each_is_first_in_its_turn():
    journal: list[str] = []
    models = [Told(name, journal) for name in "abc"]
    taken = measure(models, BenchmarkOptions(iterations=3, seconds=0, warm_up_ms=0))
    # Each warms up once; a turn is one run that does not count, and one that does.
    assert "".join(journal) == "abc" + "aabbcc" + "bbccaa" + "ccaabb"
    for one, model in zip(taken, models):
        counted = [model.timings[place] for place in (2, 4, 6)]
        assert one.timings == [[timing] for timing in counted]


@given(
    iterations=st.integers(1, 45),
    turns=st.lists(st.integers(0, 10**7), min_size=1, max_size=30),
)
def test_counted_runs_are_no_fewer_than_asked_for(iterations: int, turns: list[int]):
    options = BenchmarkOptions(iterations, 0, 0)
    (taken,) = measure([Told("a", [])], options)
    assert taken.runs >= iterations
    assert len(taken.timings) == min(10, iterations)
    assert max(map(len, taken.timings)) == min(map(len, taken.timings))
    # Against numpy: nearest-rank percentiles, right to the histogram's thousandth.
    kept = Taken(timings=[[RunTiming(0, value, 0) for value in turns]])
    values = np.asarray(turns, np.float64)
    found = kept.latencies().execute
    for share, value in ((50, found.p50_ms), (95, found.p95_ms), (99, found.p99_ms)):
        wanted = np.percentile(values, share, method="inverted_cdf")
        assert value * 1e6 == pytest.approx(wanted, rel=2e-3, abs=1024)
    assert kept.turn_medians_ms()[0] * 1e6 == pytest.approx(float(np.median(values)))


def test_a_model_runs_for_as_long_as_asked_for():
    # Told's runs take no time: only the clock can end them.
    started = time.perf_counter_ns()
    (taken,) = measure([Told("a", [])], BenchmarkOptions(iterations=1, seconds=0.05))
    assert taken.one_by_one_ns >= 50_000_000
    assert time.perf_counter_ns() - started >= 250_000_000
    assert taken.runs > 1


def test_runs_in_flight_are_counted_apart_and_all_come_back():
    model = Flying("a", [])
    (taken,) = measure([model], BenchmarkOptions(iterations=20, seconds=0, warm_up_ms=0))
    assert model.waiting == 0
    assert model.most == 3
    assert taken.ended == taken.runs == 20
    assert [one.in_flight for one in taken.throughput(2)] == [1, 3]
    alone, together = taken.throughput(2)
    assert alone.frames_per_s == pytest.approx(2 * 20e9 / taken.one_by_one_ns)
    assert together.frames_per_s == pytest.approx(2 * 20e9 / taken.in_flight_ns)


def test_latency_is_the_sum_of_each_run():
    # The medians of the stages need not add up to the median of the sums.
    runs = [RunTiming(1_000_000, 9_000_000, 0), RunTiming(9_000_000, 1_000_000, 0)]
    runs.append(RunTiming(2_000_000, 2_000_000, 6_000_000))
    found = Taken(timings=[runs]).latencies()
    assert found.total.p50_ms == pytest.approx(10, rel=1e-3)
    assert found.h2d.p50_ms == pytest.approx(2, rel=1e-3)
    assert found.execute.p50_ms == pytest.approx(2, rel=1e-3)
    # Nothing is told from half a microsecond.
    assert found.d2h.p50_ms == pytest.approx(0, abs=5e-4)


def test_the_profile_of_onnxruntime_counts_each_node_once():
    graph = helper.make_graph(
        [helper.make_node("Sin", ["x"], ["s"], name="sin"), helper.make_node("Cos", ["s"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [2])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [2])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    tensors = {"x": np.zeros(2, np.float32)}
    layers = profile_model(model.SerializeToString(), OrtOptions(), tensors, 3)
    assert [(layer.kind, layer.reads) for layer in layers] == [("Sin", "float"), ("Cos", "float")]
    assert layers[0].name == "sin"


def test_the_first_run_of_a_profile_is_left_out():
    def event(name: str, duration: int, category: str = "Node") -> dict:
        return {"cat": category, "name": name, "dur": duration, "args": {"op_name": "Conv"}}

    runs = [event("a_kernel_time", 9000), event("a_kernel_time", 100), event("a_kernel_time", 300)]
    others = [event("model_run", 1, "Session"), event("a_fence_before", 5)]
    (layer,) = read_profile(json.dumps([*others, *runs]))
    assert (layer.name, layer.kind, layer.reads, layer.median_ms) == ("a", "Conv", "", 0.2)


@pytest.mark.parametrize("text", ["", "{", "[1]", '[{"cat": "Node"}]', "{}x", "null"])
def test_a_profile_that_is_none_is_refused(text: str):
    with pytest.raises(EngineError, match="profile cannot be read"):
        read_profile(text)


def record(sha256: str = "a" * 64) -> PlanRecord:
    target = PlanTarget.of("tensorrt", "0" * 64, "tensorrt", "10.3.0", CompileOptions(), "card")
    return PlanRecord(target, sha256, 1, 1.0, (), {})


def times(
    sha256: str = "a" * 64, batch: int = 1, mode: str = "MAXN", p50: float = 2.0
) -> PlanTimes:
    return PlanTimes(
        plan_sha256=sha256,
        machine={"gpu": "Orin", "power_mode": mode},
        batch=batch,
        runs=10,
        latency_ms={"p50": p50, "p95": 3.0, "p99": 4.0, "max": 5.0},
        stages_ms={"h2d": 0.5, "execute": 1.0, "d2h": 0.5},
        drift=0.01,
        frames_per_s={"1": 400.0, "2": 800.0},
    )


def test_times_are_kept_for_each_power_mode_and_batch(tmp_path: Path):
    store = PlanStore(tmp_path / "plans")
    assert load_times(store, record()) == ()
    first, second = times(), times(mode="15W")
    for one in (first, second, times(batch=4)):
        keep_times(store, record(), one)
    newer = times(p50=1.5)
    keep_times(store, record(), newer)
    assert load_times(store, record()) == (second, times(batch=4), newer)
    # Compiled anew, the plan was never timed.
    assert load_times(store, record("b" * 64)) == ()
    keep_times(store, record("b" * 64), times("b" * 64))
    assert load_times(store, record()) == ()


@pytest.mark.parametrize("text", ["", "[]", '{"times": 1}', '{"times": [{"batch": 1}]}'])
def test_times_that_are_damaged_are_told(tmp_path: Path, text: str):
    store = PlanStore(tmp_path / "plans")
    path = keep_times(store, record(), times())
    assert (
        path == times_path(store, record()) == tmp_path / "plans" / f"{record().target.key}.times"
    )
    path.write_text(text)
    with pytest.raises(DataError, match=r"\.times cannot be used: .*remove it, or measure again"):
        load_times(store, record())
