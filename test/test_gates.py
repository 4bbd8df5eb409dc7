# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Conditions, one by one: what passes, what fails, and what is said of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers_models import residual_network
from helpers_report import detections, speed_record
from hypothesis import given
from hypothesis import strategies as st

from av_compress.build.checks import (
    check_accuracy,
    check_classes,
    check_size,
    check_speed,
    excess,
    loss_by_limits,
)
from av_compress.build.gates import ClassLoss, Judge, NumbersOnly, Observed, split_metric
from av_compress.build.recipe import GateConfig, SampleConfig, SizeConfig, SpeedConfig
from av_compress.build.samples import SampleSet
from av_compress.build.speed import compare_speed, spread
from av_compress.data.content import labels_sha256
from av_compress.engines.base import RunResult, RunTiming
from av_compress.engines.manifest import AttemptRecord, CheckRecord, GateRecord
from av_compress.engines.measurements import Measurements, Spread, load_measurements
from av_compress.errors import DataError
from av_compress.fileio import sha256_bytes
from av_compress.metrics.accuracy import InImages
from av_compress.report.conditions import explain, explain_refusal
from av_compress.tasks.base import Labels2D

SAMPLES = SampleConfig({"type": "images", "path": "frames"}, 2, "stride")


def config(**changes) -> GateConfig:
    return GateConfig(SAMPLES, "ap50", 1.0, **changes)


def accuracy(candidate: float, max_loss: float = 1.0) -> CheckRecord:
    passed = 50.0 - candidate <= max_loss
    return check_accuracy(
        GateRecord("ap50", 50.0, candidate, max_loss, passed, "images", 27, {"ap50": candidate})
    )


def test_accuracy_says_what_was_lost():
    passed, failed = accuracy(49.5), accuracy(48.0)
    assert (passed.verdict, passed.figure, passed.limit) == ("passed", 0.5, 1.0)
    assert failed.verdict == "failed"
    assert failed.reason == (
        "lost 2.00 points of ap50 (50.00 to 48.00) on 27 frames, allowed 1.00"
    )


def classes(limit: float | None, min_truths: int = 10, **losses: tuple[float, int]):
    found = {name: ClassLoss(points, truths) for name, (points, truths) in losses.items()}
    return list(check_classes(config(max_loss_per_class=limit, min_truths=min_truths), found))


def test_the_class_that_loses_most_is_named():
    (check,) = classes(2.0, car=(1.5, 40), person=(3.25, 12), bus=(2.5, 10), bike=(9.0, 9))
    assert (check.gate, check.figure, check.verdict) == ("class", 3.25, "failed")
    # The bicycle has too few objects to say anything.
    assert check.reason == (
        "class person lost most: 3.25 points of ap50 on 12 objects, allowed 2.00 "
        "(over it too: bus)"
    )


def test_classes_within_the_limit_pass():
    (check,) = classes(2.0, car=(2.0, 40), person=(-1.0, 40))
    assert check.verdict == "passed"
    assert "class car" in check.reason


def test_what_is_gained_is_not_called_lost():
    assert accuracy(50.25).reason.startswith("gained 0.25 points of ap50 (50.00 to 50.25)")
    (check,) = classes(2.0, car=(-0.5, 40), person=(0.0, 40))
    assert check.reason == "no class with 10 objects lost any point of ap50"


def test_classes_with_few_objects_are_not_judged():
    (check,) = classes(2.0, car=(50.0, 9))
    assert (check.figure, check.verdict) == (None, "not_judged")
    assert check.reason == "no class has 10 true objects"
    assert classes(None, car=(50.0, 900)) == []


@pytest.mark.parametrize(
    ("size", "found", "verdict", "limit"),
    [
        (SizeConfig(max_bytes=1000), 1000, "passed", 1000),
        (SizeConfig(max_bytes=1000), 1001, "failed", 1000),
        (SizeConfig(max_share=0.4), 1600, "passed", 1600),
        (SizeConfig(max_share=0.4), 1601, "failed", 1600),
        # The smaller limit counts.
        (SizeConfig(max_bytes=1500, max_share=0.4), 1550, "failed", 1500),
        (SizeConfig(max_bytes=9000, max_share=0.4), 1700, "failed", 1600),
    ],
)
def test_size_is_held_to_bytes_and_to_a_share(size, found, verdict, limit):
    (check,) = check_size(config(size=size), found, 4000)
    assert (check.verdict, check.figure, check.limit) == (verdict, found, limit)


def test_without_limits_size_and_speed_are_no_conditions():
    assert list(check_size(config(), 10**9, 1)) == []
    assert list(check_speed(config(), speed_record(), "")) == []


def test_speed_keeps_its_figure_out_of_the_record():
    wanted = config(speed=SpeedConfig(min_speedup=1.5))
    (passed,) = check_speed(wanted, speed_record(), "")
    assert passed == CheckRecord(
        "speed", None, 1.5, "passed", "at least 1.50 times as fast as fp32"
    )
    (failed,) = check_speed(config(speed=SpeedConfig(min_speedup=1.51)), speed_record(), "")
    assert (failed.verdict, failed.reason) == ("failed", "not 1.51 times as fast as fp32")
    assert explain(failed, speed_record()) == (
        "1.50 times as fast as fp32 (20.00 ms against 30.00 ms, the shortest of 30 rounds), "
        "must be 1.51"
    )


def test_speed_that_only_the_device_knows_is_not_judged():
    (check,) = check_speed(
        config(speed=SpeedConfig(min_speedup=2.0)), None, "not measured here: needs the device"
    )
    assert check.verdict == "not_judged"
    assert check.reason == "not measured here: needs the device"
    assert excess(check, None) == 0.0


def test_an_excess_is_a_share_of_the_limit():
    assert excess(accuracy(48.5), None) == pytest.approx(0.5)
    # A limit of nothing is measured by a tenth of a point.
    assert excess(accuracy(49.95, max_loss=0.0), None) == pytest.approx(0.5)
    (size,) = check_size(config(size=SizeConfig(max_bytes=1000)), 1250, 4000)
    assert excess(size, None) == pytest.approx(0.25)
    (speed,) = check_speed(config(speed=SpeedConfig(min_speedup=3.0)), speed_record(), "")
    assert excess(speed, speed_record()) == pytest.approx(1.0)
    assert excess(accuracy(49.5), None) == 0.0


@pytest.mark.parametrize(
    ("limits", "losses", "found"),
    [
        ((1.0, None), (0.7, None), 0.7),
        ((1.0, None), (0.7, 50.0), 0.7),
        ((1.0, 4.0), (0.7, None), 0.7),
        # The class has used three quarters of its limit, or goes half of it beyond.
        ((1.0, 4.0), (0.7, 3.0), 0.75),
        ((1.0, 4.0), (0.7, 2.0), 0.7),
        ((1.0, 4.0), (0.7, 6.0), 1.5),
        ((60.0, 0.3), (1.0, 0.3), 60.0),
        ((60.0, 0.0), (1.0, 0.1), 120.0),
        ((60.0, 0.0), (1.0, 0.0), 1.0),
        ((60.0, 0.0), (-2.0, -1.0), -1.0),
        ((0.0, 2.0), (0.0, 2.0), 0.0),
        ((0.0, 2.0), (0.0, 4.0), 0.1),
        ((0.0, 2.0), (0.2, 4.0), 0.2),
    ],
)
def test_what_is_lost_is_told_by_the_limit_it_is_nearest_to(limits, losses, found):
    wanted = replace(config(max_loss_per_class=limits[1]), max_loss=limits[0])
    assert loss_by_limits(wanted, *losses) == pytest.approx(found)


# Figures are rounded to four digits.
POINTS = st.integers(-50_000, 200_000).map(lambda number: number / 10_000)


@given(
    limits=st.tuples(POINTS.map(abs), POINTS.map(abs)),
    losses=st.tuples(POINTS, POINTS),
)
def test_what_is_within_every_limit_is_within_the_figure_for_all(limits, losses):
    wanted = replace(config(max_loss_per_class=limits[1]), max_loss=limits[0])
    holds = losses[0] <= limits[0] and losses[1] <= limits[1]
    assert (loss_by_limits(wanted, *losses) <= limits[0]) == holds


def test_losses_of_classes_are_those_of_the_gates_metric():
    """Two cars and a person; the candidate misses one car, and moves the person's box."""
    truth = detections((0, 0, 10, 10, 0.9, 0), (20, 0, 30, 10, 0.8, 0), (40, 0, 60, 40, 0.9, 1))
    found = detections((0, 0, 10, 10, 0.9, 0), (40, 0, 60, 32, 0.9, 1))
    samples = SampleSet(source=None, indices=(0,), sampling="stride", hashes=("",))
    judge = Judge(config(), samples, ("car", "person"), InImages(), Observed((truth,)), None)
    for metric, expected in (
        # Half the cars: precision 1 up to recall 0.5, that is at 51 of the 101 recalls. The
        # person's box has an IoU of 0.8: right at 7 of the 10 thresholds.
        ("agreement_ap50", {"car": 100 * 50 / 101, "person": 0.0}),
        ("agreement_ap", {"car": 100 * 50 / 101, "person": 30.0}),
    ):
        asked = replace(judge, config=replace(config(), metric=metric))
        losses = asked.class_losses(Observed((found,)))
        assert {n: loss.points for n, loss in losses.items()} == pytest.approx(expected, abs=1e-3)
        assert {n: loss.truths for n, loss in losses.items()} == {"car": 2, "person": 1}


@pytest.mark.parametrize(
    ("metric", "parts"),
    [
        ("ap", ("labels", "ap")),
        ("ap50", ("labels", "ap50")),
        ("agreement_ap50", ("agreement", "ap50")),
    ],
)
def test_a_metric_has_a_truth_and_a_kind(metric, parts):
    assert split_metric(metric) == parts


def attempt(candidate: str, *checks: CheckRecord) -> AttemptRecord:
    digest = sha256_bytes(candidate.encode())
    return AttemptRecord(candidate, "refused", "", 1.0, 1, digest, checks)


def test_a_refusal_names_the_nearest_and_who_is_closer_on_what_it_fails():
    small, large = (
        next(iter(check_size(config(size=SizeConfig(max_bytes=1024)), size, 4096)))
        for size in (1024, 4096)
    )
    int8, fp32 = attempt("int8", accuracy(40.0), small), attempt("fp32", accuracy(50.0), large)
    assert explain_refusal((int8, fp32), fp32, lambda _: None) == (
        "nearest is fp32, which fails size (4 KiB, 100 % of the source, allowed 1 KiB); on size "
        "int8 comes closer (1 KiB, 25 % of the source, allowed 1 KiB), but fails accuracy (lost "
        "10.00 points of ap50 (50.00 to 40.00) on 27 frames, allowed 1.00)"
    )
    assert explain_refusal((int8,), int8, lambda _: None).startswith(
        "nearest is int8, which fails accuracy (lost 10.00"
    )


def test_quartiles_by_hand():
    assert spread([4.0, 1.0, 3.0, 2.0, 5.0]) == Spread(1.0, 2.0, 3.0, 4.0)
    assert spread([7.0]) == Spread(7.0, 7.0, 7.0, 7.0)


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=30))
def test_quartiles_are_in_order(values):
    found = spread(values)
    assert min(values) == found.best <= found.low <= found.median <= found.high <= max(values)


def test_two_models_are_timed_by_turns():
    model = residual_network().SerializeToString()
    inputs = [{"image": np.full((1, 16, 16, 16), value, np.float32)} for value in (0.0, 1.0)]
    names = ("cpu", "int8", "fp32")
    found = compare_speed(model, model, inputs, SpeedConfig(rounds=5), names)
    assert (found.emitter, found.candidate, found.against) == names
    assert (found.rounds, found.threads, found.sha256) == (5, 1, sha256_bytes(model))
    for one in (found.candidate_ms, found.against_ms):
        assert 0.0 < one.best <= one.low <= one.median <= one.high
    assert found.speedup == found.against_ms.best / found.candidate_ms.best
    assert "ONNX Runtime" in found.engine


def test_measurements_survive_the_file(tmp_path):
    before = Measurements("a processor, 2 cores", (speed_record(),))
    (tmp_path / "measurements.json").write_text(before.to_json())
    after = load_measurements(tmp_path)
    assert after == before
    assert after.of("cpu", speed_record().sha256) == speed_record()
    assert after.of("tensorrt", speed_record().sha256) is None
    assert after.of("cpu", None) is None


def test_a_bundle_need_not_have_measurements(tmp_path):
    assert load_measurements(tmp_path) is None


@pytest.mark.parametrize("text", ["{", "[]", '{"machine": "x", "speed": [{"emitter": "cpu"}]}'])
def test_damaged_measurements_are_named(tmp_path, text):
    (tmp_path / "measurements.json").write_text(text)
    with pytest.raises(DataError, match=r"measurements\.json cannot be used"):
        load_measurements(tmp_path)


class Undecided:
    """An engine whose output is no number in one place."""

    inputs, outputs, description = (), (), "undecided"

    def run(self, tensors) -> RunResult:
        boxes = np.zeros((1, 5, 4), np.float32)
        boxes[0, 3, 1] = tensors["value"]
        return RunResult({"boxes": boxes, "count": np.ones(1, np.int64)}, RunTiming(0, 0, 0))

    def close(self) -> None:
        pass


def test_a_reference_that_is_no_number_is_no_reference():
    engine = NumbersOnly(Undecided())
    assert engine.run({"value": np.float32(np.inf)}).outputs["count"] == 1
    with pytest.raises(DataError, match="output 'boxes' holds values that are no numbers"):
        engine.run({"value": np.float32(np.nan)})


def test_what_is_known_of_other_labels_is_not_known_of_these():
    def truth(x: float, label: int) -> Labels2D:
        boxes = np.array([[x, 0, 10, 10]], np.float32)
        return Labels2D(boxes, np.array([label], np.int32), np.zeros(1, bool))

    assert labels_sha256(None) is None
    found = [
        labels_sha256(labels)
        for labels in ((), (truth(0, 0),), (truth(1, 0),), (truth(0, 1),), (truth(0, 0),) * 2)
    ]
    assert len(set(found)) == len(found)
    assert labels_sha256((truth(0, 0),)) == found[1]
