# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The calibration cache: nothing is run twice, and nothing is taken for something else."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from helpers_data import MemorySource, frames
from helpers_models import prepared

from av_compress.build import keys
from av_compress.build.cache import CalibrationCache
from av_compress.build.calibration import calibrate
from av_compress.build.keys import ObservationKey
from av_compress.build.observing import CachedObserving, DirectObserving, Observation
from av_compress.build.recipe import ThresholdConfig
from av_compress.build.samples import SampleSet
from av_compress.cachefolder import cache_folder
from av_compress.compress.observe.statistics import Statistics, Wanted
from av_compress.compress.observe.thresholds import ThresholdMethod, find_range
from av_compress.data.content import content_sha256
from av_compress.errors import DataError
from av_compress.tasks.base import ImageFrame
from av_compress.tasks.registry import make_task

DEMO = resources.files("av_compress.data.demo")
CONFIG = yaml.safe_load((DEMO / "detector.task.yaml").read_text())
TENSORS = ("images",)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> onnx.ModelProto:
    source = onnx.load_from_string((DEMO / "detector.onnx").read_bytes())
    return prepared(source, tmp_path_factory.mktemp("model"))


def sample_set(held: list[ImageFrame]) -> SampleSet:
    hashes = tuple(content_sha256(frame) for frame in held)
    return SampleSet(MemorySource(held), range(len(held)), "stride", hashes)


@dataclass
class Bench:
    """One way to observe, its cache, and what it said."""

    folder: Path
    model: onnx.ModelProto

    def __post_init__(self) -> None:
        self.said: list[str] = []
        self.cache = CalibrationCache(self.folder)

    def observation(self, count: int = 3, **config: Any) -> Observation:
        wanted = Wanted(self.first_tensors(), (), 2)
        task = make_task({**CONFIG, **config})
        return Observation(self.model, wanted, task, sample_set(frames(count)))

    def first_tensors(self) -> tuple[str, ...]:
        return ("images", self.model.graph.node[0].output[0])

    def statistics(self, observation: Observation) -> tuple[Statistics, int]:
        """Return what is observed, and how many frames were read for it."""
        self.said.clear()
        source = observation.samples.source
        source.reads.clear()
        found = CachedObserving(self.cache, self.said.append).statistics(observation)
        return found, len(source.reads)


@pytest.fixture
def bench(tmp_path: Path, model: onnx.ModelProto) -> Bench:
    return Bench(tmp_path / "cache", model)


def same(first: Statistics, second: Statistics) -> bool:
    left, right = first.state(), second.state()
    return left.keys() == right.keys() and all(np.array_equal(left[k], right[k]) for k in left)


def test_what_was_observed_is_not_run_again(bench: Bench):
    direct = DirectObserving().statistics(bench.observation())
    first, read = bench.statistics(bench.observation())
    assert read == 3
    assert bench.said == []
    second, read = bench.statistics(bench.observation())
    assert read == 0
    assert bench.said == ["calibration cache: values of 2 tensors were observed earlier"]
    assert same(first, direct)
    assert same(second, direct)


def with_other_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    weight = next(t for t in changed.graph.initializer if len(t.dims) == 4)
    value = onnx.numpy_helper.to_array(weight).copy()
    # One bit of one weight.
    value.flat[0] = np.nextafter(value.flat[0], np.float32(np.inf))
    weight.CopyFrom(onnx.numpy_helper.from_array(value, weight.name))
    return changed


def other_pixel(observation: Observation) -> SampleSet:
    held = frames(3)
    pixels = held[1].pixels.copy()
    pixels[5, 5, 1] ^= 1
    return sample_set([held[0], replace(held[1], pixels=pixels), held[2]])


CHANGES: Mapping[str, tuple[Any, str]] = {
    "weights": (
        lambda o: replace(o, model=with_other_weights(o.model)),
        "model (graph or weights)",
    ),
    "pixel": (lambda o: replace(o, samples=other_pixel(o)), "choice of frames (1 of 3 are new)"),
    "more": (
        lambda o: replace(o, samples=sample_set(frames(5))),
        "choice of frames (2 of 5 are new)",
    ),
    "fewer": (lambda o: replace(o, samples=sample_set(frames(2))), "choice of frames (fewer)"),
    "order": (
        lambda o: replace(o, samples=sample_set(frames(3)[::-1])),
        "choice of frames (in another order)",
    ),
    "observers": (
        lambda o: replace(o, wanted=Wanted(("images",), (), 2)),
        "set of observers (histograms)",
    ),
    "magnitudes": (
        lambda o: replace(o, wanted=replace(o.wanted, magnitudes=1)),
        "set of observers (magnitude_frames)",
    ),
}

INPUTS = {
    "mean": ({"mean": [1, 0, 0]}, "preprocess (input.mean)"),
    "std": ({"std": [255, 255, 254]}, "preprocess (input.std)"),
    "color": ({"color": "rgb"}, "preprocess (input.color)"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_is_observed_anew_and_told(bench: Bench, change: str):
    bench.statistics(bench.observation())
    make, reason = CHANGES[change]
    changed = make(bench.observation())
    found, read = bench.statistics(changed)
    assert read == len(changed.samples)
    assert bench.said == [
        "calibration cache: values of "
        f"{len(changed.wanted.histograms)} tensors are observed anew; other than in the nearest "
        f"entry: {reason}"
    ]
    assert same(found, DirectObserving().statistics(changed))
    # And both are kept.
    assert bench.statistics(changed)[1] == bench.statistics(bench.observation())[1] == 0


@pytest.mark.parametrize("change", INPUTS)
def test_another_preprocess_is_observed_anew(bench: Bench, change: str):
    bench.statistics(bench.observation())
    values, reason = INPUTS[change]
    changed = bench.observation(input={**CONFIG["input"], **values})
    _, read = bench.statistics(changed)
    assert read == 3
    assert bench.said[0].endswith(f"nearest entry: {reason}")


def test_another_way_to_resize_is_observed_anew(bench: Bench):
    bench.statistics(bench.observation())
    changed = bench.observation(resize={**CONFIG["resize"], "pad_value": 0})
    assert bench.statistics(changed)[1] == 3
    assert bench.said[0].endswith("nearest entry: preprocess (resize.pad_value)")


def test_another_version_of_a_tool_is_observed_anew(bench: Bench, monkeypatch):
    bench.statistics(bench.observation())
    monkeypatch.setattr(keys, "__version__", "99.0.0")
    assert bench.statistics(bench.observation())[1] == 3
    assert bench.said[0].endswith("nearest entry: set of tools (av_compress)")


def test_several_changes_are_all_named(bench: Bench):
    bench.statistics(bench.observation())
    changed = bench.observation(input={**CONFIG["input"], "mean": [1, 2, 3], "color": "rgb"})
    changed = replace(changed, model=with_other_weights(changed.model))
    bench.statistics(changed)
    assert bench.said[0].endswith(
        "nearest entry: model (graph or weights), preprocess (input.color, input.mean)"
    )


def test_what_comes_after_the_model_does_not_matter(bench: Bench):
    bench.statistics(bench.observation())
    changed = bench.observation(score_threshold=0.5, nms={"iou_threshold": 0.1})
    assert bench.statistics(changed)[1] == 0


def test_thresholds_are_chosen_anew_from_the_same_observations(bench: Bench):
    first = bench.observation()
    said: list[str] = []
    observing = CachedObserving(bench.cache, said.append)

    def ranges(method: str) -> Any:
        config = ThresholdConfig(method, 99.0)
        found = calibrate(
            first.model, bench.first_tensors(), first.task, first.samples, config, observing
        )
        return found.ranges

    first.samples.source.reads.clear()
    found = {method: ranges(method) for method in ("minmax", "percentile", "mse", "entropy")}
    assert len(first.samples.source.reads) == 3
    assert said == ["calibration cache: values of 2 tensors were observed earlier"] * 3
    assert found["minmax"] != found["percentile"]


def test_the_best_method_of_each_tensor_is_named(bench: Bench):
    observation = bench.observation(10)
    tensors = bench.first_tensors()
    found = calibrate(
        observation.model,
        tensors,
        observation.task,
        observation.samples,
        ThresholdConfig("best", 99.99),
    )
    assert found.record.threshold == "best"
    assert set(found.methods) == set(found.ranges) == set(tensors)
    for name, method in found.methods.items():
        kind, _, percentile = method.partition(" ")
        expected = find_range(
            found.observers[name], ThresholdMethod(kind), float(percentile or 99.99)
        )
        assert found.ranges[name] == expected


def damage(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    if how == "truncated":
        del content[len(content) // 2 :]
    elif how == "changed":
        content[len(content) // 3] ^= 4
    else:
        content = bytearray(b"something else")
    path.write_bytes(content)


@pytest.mark.parametrize("how", ["truncated", "changed", "replaced"])
def test_a_damaged_entry_is_told_and_made_again(bench: Bench, how: str):
    first, _ = bench.statistics(bench.observation())
    (entry,) = bench.folder.iterdir()
    damage(entry, how)
    again, read = bench.statistics(bench.observation())
    assert read == 3
    assert len(bench.said) == 1
    assert f"an entry is ignored: {entry} is damaged" in bench.said[0]
    assert same(first, again)
    assert bench.statistics(bench.observation())[1] == 0


def test_an_entry_under_a_wrong_name_is_no_entry(bench: Bench):
    bench.statistics(bench.observation())
    (entry,) = bench.folder.iterdir()
    other = bench.observation(4)
    entry.rename(bench.folder / f"{other.key.sha256}.npz")
    assert bench.statistics(other)[1] == 4
    assert "belongs to another key" in bench.said[0]


def test_entries_nobody_asked_for_may_be_damaged(bench: Bench):
    bench.statistics(bench.observation())
    (entry,) = bench.folder.iterdir()
    damage(entry, "replaced")
    (bench.folder / "notes.txt").write_text("not ours")
    assert bench.statistics(bench.observation(4))[1] == 4
    assert bench.said == []


def test_what_was_used_longest_ago_makes_room(bench: Bench):
    observations = [bench.observation(count) for count in (1, 2, 3)]
    for age, observation in enumerate(observations[:2]):
        bench.statistics(observation)
        os.utime(bench.folder / f"{observation.key.sha256}.npz", (age, age))
    size = max(path.stat().st_size for path in bench.folder.iterdir())
    # The older one is used again: it stays.
    bench.statistics(observations[0])
    bench.cache = CalibrationCache(bench.folder, limit=2 * size + size // 2)
    bench.statistics(observations[2])
    left = {path.stem for path in bench.folder.iterdir()}
    assert left == {observations[0].key.sha256, observations[2].key.sha256}


def test_a_folder_that_cannot_be_written_stops_nothing(bench: Bench, tmp_path: Path):
    (tmp_path / "file").write_text("")
    bench.cache = CalibrationCache(tmp_path / "file" / "cache")
    _, read = bench.statistics(bench.observation())
    assert read == 3
    assert len(bench.said) == 1
    assert "calibration cache: nothing is kept: cannot write" in bench.said[0]


def test_a_frame_that_changes_meanwhile_is_never_kept(bench: Bench):
    observation = bench.observation()
    held = frames(3)
    held[1] = replace(held[1], pixels=held[2].pixels)
    changed = replace(observation.samples, source=MemorySource(held))
    with pytest.raises(DataError, match="frame 1: it shows something else than a moment ago"):
        bench.statistics(replace(observation, samples=changed))
    assert not bench.folder.exists()


def test_an_activation_that_is_not_finite_names_frame_and_tensor(bench: Bench):
    exploding = onnx.ModelProto()
    exploding.CopyFrom(bench.model)
    for weight in [t for t in exploding.graph.initializer if len(t.dims) == 4][:3]:
        value = np.full(tuple(weight.dims), 1e30, np.float32)
        weight.CopyFrom(onnx.numpy_helper.from_array(value, weight.name))
    last = exploding.graph.output[0].name
    observation = replace(bench.observation(), model=exploding, wanted=Wanted((last,)))
    with pytest.raises(DataError) as caught:
        bench.statistics(observation)
    assert f"calibration frame 0: tensor '{last}' holds values that are not finite" in str(
        caught.value
    )
    assert not bench.folder.exists()


def test_keys_survive_storage(bench: Bench):
    key = bench.observation().key
    again = ObservationKey.from_json(yaml.safe_load(yaml.safe_dump(key.to_json())))
    assert again == key
    assert again.sha256 == key.sha256


def test_where_the_cache_is(monkeypatch, tmp_path: Path):
    monkeypatch.setenv("AV_COMPRESS_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
    monkeypatch.delenv("AV_COMPRESS_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache/av_compress"
