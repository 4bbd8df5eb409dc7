# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks measure with: shares of INT8, wider networks, processes that run at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers_models import EVERYTHING, prepared, quantised, residual_network, run, samples
from onnx import TensorProto, helper, numpy_helper

from av_compress.compress.plan.precision import Precision

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
from children import run_at_once
from peer_tools.counting import count_int8
from widen import widen


class Graph:
    """Writes a small Q/DQ graph by hand."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, value: np.ndarray) -> str:
        name = f"constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def node(self, op_type: str, *inputs: str, **attributes) -> str:
        name = f"tensor{len(self.nodes)}"
        self.nodes.append(helper.make_node(op_type, inputs, [name], name, **attributes))
        return name

    def pair(self, source: str, scale: np.ndarray, zero: np.ndarray | None, axis: int = 1) -> str:
        what = [self.constant(scale.astype(np.float32))]
        what += [] if zero is None else [self.constant(zero)]
        made = self.node("QuantizeLinear", source, *what, axis=axis)
        return self.node("DequantizeLinear", made, *what, axis=axis)

    def weight(self, *extents: int) -> str:
        return self.constant(np.ones(extents, np.float32))

    def model(self, output: str, shape: list[int]) -> onnx.ModelProto:
        image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 4, 8, 8])
        made = helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)
        graph = helper.make_graph(self.nodes, "hand", [image], [made], self.constants)
        opset = helper.make_opsetid("", 19)
        model = helper.make_model(graph, opset_imports=[opset], ir_version=9)
        onnx.checker.check_model(model, full_check=True)
        return model


ONE = np.array(0.1)
ZERO = np.array(0, np.int8)


def test_share_of_a_graph_by_hand():
    graph = Graph()
    # Both inputs through pairs, the activation's behind a pool: 8 * 16 outputs * 4 = 512.
    pooled = graph.node(
        "MaxPool", graph.pair("image", ONE, ZERO), kernel_shape=[2, 2], strides=[2, 2]
    )
    per_channel = graph.pair(graph.weight(8, 4, 1, 1), np.ones(8), np.zeros(8, np.int8), axis=0)
    made = graph.node("Conv", pooled, per_channel)
    # A scale a channel of the activation, depthwise: 8 * 16 * 9 = 1152; TensorRT does not take it.
    spread = graph.pair(made, np.ones(8), np.zeros(8, np.int8))
    depthwise = graph.pair(graph.weight(8, 1, 3, 3), ONE, ZERO)
    made = graph.node("Conv", spread, depthwise, pads=[1, 1, 1, 1], group=8)
    # Unsigned, for want of a zero point: 4 * 16 * 8 = 512.
    made = graph.node(
        "Conv", graph.pair(made, ONE, None), graph.pair(graph.weight(4, 8, 1, 1), ONE, ZERO)
    )
    # Only the weight through a pair: 4 * 16 * 4 = 256, in float.
    made = graph.node("Conv", made, graph.pair(graph.weight(4, 4, 1, 1), ONE, ZERO))
    # A matrix product with an offset zero point: 4 rows of 16, 5 columns: 320.
    rows = graph.node("Reshape", made, graph.constant(np.array([4, 16], np.int64)))
    offset = graph.pair(rows, ONE, np.array(3, np.int8))
    made = graph.node("MatMul", offset, graph.pair(graph.weight(16, 5), ONE, ZERO))
    use = count_int8(graph.model(made, [4, 5]))
    total = 512 + 1152 + 512 + 256 + 320
    assert use.int8_mac_share == pytest.approx((total - 256) / total)
    assert use.tensorrt_mac_share == pytest.approx(512 / total)
    assert use.activation_quantisers == 4
    assert use.per_channel_activation_quantisers == 1
    assert use.unsigned_activation_quantisers == 1
    assert use.offset_activation_quantisers == 1


@pytest.mark.parametrize("depthwise", [False, True])
def test_share_of_our_own_graphs_is_the_plans(tmp_path, depthwise):
    model = prepared(residual_network(), tmp_path)
    rules = replace(EVERYTHING, base=Precision.FP32, depthwise=depthwise, prediction=False)
    emitted, plan = quantised(model, rules, "tensorrt")
    use = count_int8(emitted)
    assert 0 < use.int8_mac_share == pytest.approx(plan.int8_mac_share())
    assert use.tensorrt_mac_share == pytest.approx(use.int8_mac_share)
    assert count_int8(model).int8_mac_share == 0


def test_a_wider_network_computes_the_same(tmp_path):
    model = prepared(residual_network(), tmp_path)
    wider = widen(model)
    onnx.checker.check_model(wider, full_check=True)
    count = [sum(np.prod(t.dims) for t in m.graph.initializer) for m in (model, wider)]
    assert count[1] > 2 * count[0]
    for tensors in samples(model, 2):
        expected, found = run(model, tensors), run(wider, tensors)
        assert len(expected) == len(found)
        for one, other in zip(expected, found):
            np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-4)


def test_what_mixes_channels_is_not_made_wider():
    graph = Graph()
    made = graph.node("Conv", "image", graph.weight(4, 4, 1, 1))
    made = graph.node("Softmax", made, axis=1)
    made = graph.node("Conv", made, graph.weight(4, 4, 1, 1))
    with pytest.raises(ValueError, match="Softmax tensor1 cannot be made wider"):
        widen(graph.model(made, [1, 4, 8, 8]))


def meets(folder: Path, name: str, names: list[str], ready) -> str:
    """Return whether all others had begun before this one went on."""
    (folder / name).touch()
    ready()
    return f"{name}: {sorted(path.name for path in folder.iterdir()) == names}"


def raises(ready) -> None:
    raise ValueError("no such thing")


def leaves(how: str, ready) -> None:
    """End without a word, and leave a process behind that notes its id in `how`."""
    if how == "exits":
        os._exit(3)
    if how == "is killed":
        os.kill(os.getpid(), signal.SIGKILL)
    Path(how).write_text(str(subprocess.Popen(["sleep", "600"]).pid))
    os._exit(4)


def waits(ready) -> None:
    ready()


def stays(ready) -> None:
    time.sleep(600)


def test_works_run_at_once_and_begin_together(tmp_path):
    names = ["a", "b", "c"]
    works = {name: partial(meets, tmp_path, name, names) for name in names}
    assert run_at_once(works, 60) == ["a: True", "b: True", "c: True"]


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (raises, r"^bad: ValueError\('no such thing'\)$"),
        (
            partial(leaves, "exits"),
            r"^bad: its process ended with exit code 3 and reported nothing$",
        ),
        (partial(leaves, "is killed"), r"^bad: its process ended with signal SIGKILL and"),
    ],
)
@pytest.mark.parametrize("other", [waits, stays])
def test_a_work_that_fails_or_dies_ends_all_and_is_named(bad, words, other):
    with pytest.raises(SystemExit, match=words):
        run_at_once({"other": other, "bad": bad}, 600)


def test_a_work_that_takes_too_long_is_named():
    with pytest.raises(SystemExit, match=r"^late: no result in the time that was given$"):
        run_at_once({"late": stays}, 0)


def test_what_a_dead_work_started_is_ended(tmp_path):
    with pytest.raises(SystemExit, match="exit code 4"):
        run_at_once({"bad": partial(leaves, str(tmp_path / "pid"))}, 600)
    assert ended(Path("/proc", (tmp_path / "pid").read_text(), "stat"))


def ended(status: Path) -> bool:
    """Tell whether a process is gone, or nobody has asked for its exit code yet."""
    for _ in range(200):
        try:
            if status.read_text().split()[2] in "ZX":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize(
    ("answered", "dropped", "lost", "held"),
    [
        (1000, 0, 0, True),
        (990, 10, 0, True),
        (989, 11, 0, False),
        (999, 0, 1, False),
        (500, 500, 0, False),
    ],
)
def test_rates_are_held_where_next_to_nothing_is_dropped(answered, dropped, lost, held):
    pytest.importorskip("rclpy", reason="needs ROS 2 (rclpy)")
    from driving import Latencies

    run = Latencies.of(1000, [1.0] * answered, [5.0], {"dropped": dropped})
    assert (run.lost, run.held) == (lost, held)


def test_a_server_that_answers_nothing_is_told():
    pytest.importorskip("rclpy", reason="needs ROS 2 (rclpy)")
    from driving import Latencies

    with pytest.raises(RuntimeError, match="none of 30 frames was answered"):
        Latencies.of(30, [], [5.0], {"dropped": 30})


REACHED = {
    "ms": {"ours": 12.0, "ours, pillars alone": 2.5, "spconv, pillars alone": 2.5},
    "numpy_by_ours": 8.0,
    "grown_mib": 2.0,
}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, []),
        ({"grown_mib": 2.1}, ["memory grew by 2.1 MiB; at most 2"]),
        ({"numpy_by_ours": 7.9}, ["numpy takes 7.9 times as long; at least 8"]),
        (
            {"ms": {"ours": 12.1, "ours, pillars alone": 2.6, "spconv, pillars alone": 2.5}},
            ["ours takes 12.1 ms; at most 12", "pillars alone take 2.6 ms; at most spconv's 2.5"],
        ),
        ({"ms": {"ours": 1.0, "ours, pillars alone": 9.0}}, []),
    ],
)
def test_what_clouds_must_hold_is_told_goal_by_goal(changes, words):
    lidar = lidar_benchmark()
    assert lidar.missed({**REACHED, **changes}) == words


def test_clouds_are_brought_together_as_they_are_timed():
    lidar = lidar_benchmark()
    points = np.random.default_rng(0).uniform(-20, 20, (500, 4)).astype(np.float32)
    transforms = lidar.drive(12)
    merger, sweeps = lidar.SweepMerger(lidar.SWEEPS, transforms), lidar.clouds(points)
    merged = [merger.merge(next(sweeps)) for _ in range(12)]
    assert [one.sweeps for one in merged] == [*range(1, 11), 10, 10]
    assert not any(one.warning for one in merged)
    took = lidar.measure_merging(points, 1)
    assert len(took) == 3
    assert all(value > 0 for value in took.values())


def lidar_benchmark():
    pytest.importorskip("numba", reason="needs the extra lidar (numba)")
    import lidar

    return lidar
