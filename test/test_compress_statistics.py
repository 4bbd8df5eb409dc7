# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Statistics: what several runs have observed is, merged, what one would have."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import reduce
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers_models import prepared, residual_network
from hypothesis import given, settings
from hypothesis import strategies as st

from av_compress.compress.observe.statistics import ObserverRun, Statistics, Wanted
from av_compress.errors import DataError

ROOT = Path(__file__).parent.parent
FRAMES = 6


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> onnx.ModelProto:
    return prepared(residual_network(), tmp_path_factory.mktemp("model"))


def wanted(model: onnx.ModelProto) -> Wanted:
    names = ["image", *(node.output[0] for node in model.graph.node)]
    return Wanted(histograms=tuple(names), channels=tuple((n, 1) for n in names[:4]), magnitudes=3)


def inputs(number: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(number)
    scale = 2.0 ** rng.uniform(-4, 4)
    return {"image": (scale * rng.normal(size=(1, 16, 16, 16))).astype(np.float32)}


def run_over(model: onnx.ModelProto, positions: list[int], threads: int = 1) -> Statistics:
    run = ObserverRun(model, wanted(model), threads)
    for position in positions:
        run.observe(inputs(position), position)
    return run.statistics


def same(first: Statistics, second: Statistics) -> bool:
    left, right = first.state(), second.state()
    return left.keys() == right.keys() and all(np.array_equal(left[k], right[k]) for k in left)


@pytest.fixture(scope="module")
def singles(model: onnx.ModelProto) -> list[Statistics]:
    return [run_over(model, [position]) for position in range(FRAMES)]


@pytest.fixture(scope="module")
def whole(model: onnx.ModelProto) -> Statistics:
    return run_over(model, list(range(FRAMES)))


@settings(max_examples=25)
@given(order=st.permutations(range(FRAMES)), cuts=st.sets(st.integers(1, FRAMES - 1)))
def test_frames_divided_in_any_way_merge_to_the_same(singles, whole, order, cuts):
    edges = [0, *sorted(cuts), FRAMES]
    parts = [
        reduce(Statistics.merged, [singles[i] for i in order[start:end]])
        for start, end in pairwise(edges)
    ]
    assert same(reduce(Statistics.merged, parts), whole)


def test_merging_leaves_both_sides_as_they_are(singles):
    first, second = (Statistics.from_state(one.state()) for one in singles[:2])
    first.merged(second)
    assert same(first, singles[0])
    assert same(second, singles[1])


def test_threads_make_no_difference(model, whole):
    assert same(run_over(model, list(range(FRAMES)), threads=2), whole)


def test_state_survives_storage_whatever_the_names(whole):
    odd = "a/0/counts.npy"
    renamed = Statistics(
        {odd: whole.histograms["image"], "": whole.histograms["image"]},
        {(odd, -1): whole.channels["image", 1]},
        {odd: 1.5},
    )
    again = Statistics.from_state(renamed.state())
    assert set(again.histograms) == {odd, ""}
    assert same(again, renamed)


def test_magnitudes_are_those_of_the_first_frames(model, whole):
    largest = max(float(np.abs(inputs(position)["image"]).max()) for position in range(3))
    assert whole.magnitudes["image"] == pytest.approx(largest)
    late = run_over(model, [4])
    assert late.magnitudes == {}
    assert late.merged(whole).magnitudes["image"] == pytest.approx(largest)


@pytest.mark.parametrize("wanted", [{"histograms": ("image",)}, {"channels": (("image", 1),)}])
def test_what_is_not_finite_is_named_by_its_tensor(model, wanted):
    run = ObserverRun(model, Wanted(**wanted), threads=1)
    bad = inputs(0)
    bad["image"][0, 0, 0, 0] = np.nan
    with pytest.raises(DataError, match=r"tensor 'image' holds values that are not finite \(NaN"):
        run.observe(bad, 0)


OBSERVING = """
import sys
from pathlib import Path
import numpy as np
import onnx
from av_compress.compress.observe.statistics import ObserverRun, Wanted

model = onnx.load(sys.argv[1])
names = ["image", *(node.output[0] for node in model.graph.node)]
run = ObserverRun(model, Wanted(tuple(names), tuple((n, 1) for n in names), 8), threads=1)
rng = np.random.default_rng(0)
for position in range(int(sys.argv[2])):
    run.observe({"image": rng.normal(size=(1, 16, 16, 16)).astype(np.float32)}, position)
assert run.statistics.histograms["image"].samples == int(sys.argv[2])
status = Path("/proc/self/status").read_text().splitlines()
print(next(line.split()[1] for line in status if line.startswith("VmHWM")))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_memory_does_not_grow_with_the_frames(model: onnx.ModelProto, tmp_path: Path):
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    few, many = (
        int(
            subprocess.run(
                [sys.executable, "-c", OBSERVING, str(path), str(frames)],
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                capture_output=True,
                text=True,
                check=True,
            ).stdout
        )
        for frames in (24, 152)
    )
    # In KiB. The activations of the further 128 frames alone are 45 MiB.
    assert many - few < 8 * 1024
