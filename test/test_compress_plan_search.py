# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Sensitivities against numpy, and the search against every plan there is."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import onnx
import pytest
from helpers_models import EVERYTHING, prepared, residual_network, run, samples, sqnr_db
from hypothesis import given, settings
from hypothesis import strategies as st

from av_compress.compress.emit.quantize import quantize, tensors_to_observe
from av_compress.compress.observe.calibrate import Calibrator
from av_compress.compress.plan.precision import (
    NodePrecision,
    Precision,
    PrecisionPlan,
    make_plan,
)
from av_compress.compress.search.journal import Journal
from av_compress.compress.search.plan_search import Limits, affordable, search_plan
from av_compress.compress.search.sensitivity import (
    NodeSensitivity,
    Trial,
    measure_sensitivity,
    output_error,
)

RULES = replace(EVERYTHING, base=Precision.FP32)


def plan_of(count: int) -> PrecisionPlan:
    nodes = [NodePrecision(f"n{i}", "Conv", Precision.INT8, "", 10 * i + 10) for i in range(count)]
    return PrecisionPlan(Precision.FP16, tuple(nodes))


def ranking_of(plan: PrecisionPlan, costs: list[float]) -> list[NodeSensitivity]:
    found = [NodeSensitivity(n.node, n.macs, 30.0, cost) for n, cost in zip(plan.nodes, costs)]
    return sorted(found, key=lambda s: s.price, reverse=True)


def additive(costs: list[float]):
    """Return a loss that is the sum of what the INT8 nodes cost."""
    return lambda plan: sum(costs[int(name[1:])] for name in plan.quantised())


@settings(max_examples=60, deadline=None)
@given(
    costs=st.lists(st.floats(0.0, 4.0), min_size=1, max_size=8),
    limit=st.floats(0.0, 8.0),
)
def test_a_found_plan_passes_and_nothing_more_can_be_given_back(costs, limit):
    plan = plan_of(len(costs))
    loss_of = additive(costs)
    found = search_plan(plan, ranking_of(plan, costs), loss_of, Limits(limit, 200))
    kept = found.plan.quantised()
    possible = [
        set(kept)
        for size in range(len(costs) + 1)
        for kept in combinations(range(len(costs)), size)
        if sum(costs[i] for i in kept) <= limit
    ]
    if not any(possible):
        return
    passing = [step for step in found.steps if step.passed]
    if passing:
        assert loss_of(found.plan) <= limit
        for node in plan.quantised() - kept:
            cost = loss_of(found.plan) + costs[int(node[1:])]
            alone = len(plan.quantised() - kept) == 1
            assert cost > limit or alone
    else:
        assert loss_of(found.plan) == min(step.loss for step in found.steps)


def test_what_the_condition_bears_whole_is_left_whole():
    plan = plan_of(4)
    found = search_plan(plan, ranking_of(plan, [1] * 4), lambda _: 0.5, Limits(1.0, 40))
    assert found.plan == plan
    assert len(found.steps) == 1


def test_the_dearest_nodes_are_spared_with_the_reason():
    plan, costs = plan_of(4), [0.0, 9.0, 0.0, 0.1]
    found = search_plan(plan, ranking_of(plan, costs), additive(costs), Limits(1.0, 40))
    (spared,) = [node for node in found.plan.nodes if node.precision is not Precision.INT8]
    assert spared.node == "n1"
    assert spared.precision is Precision.FP16
    assert spared.reason == (
        "spared: alone in INT8 it has 30.0 dB and moves the outputs by 9 of their variance"
    )
    assert found.steps[0].loss == pytest.approx(9.1)
    assert [step.passed for step in found.steps].count(True) >= 1


@pytest.mark.parametrize("evaluations", [1, 2, 3, 7])
def test_the_budget_of_evaluations_is_kept(evaluations):
    plan, costs = plan_of(16), [1.0] * 16
    found = search_plan(plan, ranking_of(plan, costs), additive(costs), Limits(3.0, evaluations))
    # A plan that comes again is not evaluated again.
    assert len({step.quantised for step in found.steps}) <= evaluations


def test_searches_with_lower_aims_share_one_budget():
    """What was evaluated costs nothing again: with nothing left, the best of it is found."""
    plan, costs = plan_of(16), [1.0] * 16
    evaluated = []

    def loss_of(tried: PrecisionPlan) -> float:
        evaluated.append(tried.quantised())
        return additive(costs)(tried)

    ranking = ranking_of(plan, costs)
    first = search_plan(plan, ranking, loss_of, Limits(10.0, 7))
    known = {step.quantised for step in first.steps}
    assert len(known) == 7
    second = search_plan(plan, ranking, loss_of, Limits(8.0, 0), known)
    assert set(evaluated) == known
    assert additive(costs)(second.plan) == 8.0
    third = search_plan(plan, ranking, loss_of, Limits(4.0, 3), known)
    assert len(set(evaluated)) == 10
    assert additive(costs)(third.plan) <= 4.0


def test_a_condition_that_nothing_meets_leaves_the_best_that_was_tried():
    plan, costs = plan_of(8), [1.0] * 8
    found = search_plan(plan, ranking_of(plan, costs), additive(costs), Limits(-1.0, 40))
    assert not any(step.passed for step in found.steps)
    assert additive(costs)(found.plan) == min(step.loss for step in found.steps)


@pytest.mark.parametrize("emitter", ["tensorrt", "cpu"])
def test_a_sensitivity_is_the_error_of_the_node_alone_in_int8(tmp_path, emitter):
    model = prepared(residual_network(), tmp_path)
    plan = make_plan(model, RULES)
    calibrator = Calibrator(model, tensors_to_observe(model, plan, emitter))
    frames = samples(model)
    for feeds in frames:
        calibrator.observe(feeds)
    ranges = {name: (o.min, o.max) for name, o in calibrator.observers.items()}
    emitted = []

    def emit(kept: PrecisionPlan) -> onnx.ModelProto:
        emitted.append(kept.quantised())
        return quantize(model, kept, ranges, {}, emitter)

    # A measure whose value is known: half the frames that were run.
    trial = Trial(emit, frames, lambda outputs: len(outputs) / 2, "key")
    journal = Journal(tmp_path / "journal.jsonl")
    found = measure_sensitivity(model, plan, trial, journal, "sensitivity")
    assert {s.node for s in found} == plan.quantised()
    assert set(emitted) == {frozenset({name}) for name in plan.quantised()}
    prices = [s.price for s in found]
    assert prices == sorted(prices, reverse=True)
    made = {node.name: node.output[0] for node in model.graph.node}
    for one in found[:3]:
        assert one.shift == 2.0
        others = dict.fromkeys(plan.quantised() - {one.node}, "")
        alone = quantize(model, plan.spared(others), ranges, {}, emitter)
        exact = np.concatenate([run(model, f)[0].ravel() for f in frames]).astype(np.float64)
        got = np.concatenate([run(alone, f, exact=True)[0].ravel() for f in frames])
        expected = ((exact - got) ** 2).sum() / ((exact - exact.mean()) ** 2).sum()
        assert one.error == pytest.approx(expected, rel=0.05)
        pair = [watched(m, made[one.node]) for m in (model, alone)]
        signal, noise = (
            np.concatenate([run(m, f, exact=True)[-1].ravel() for f in frames]) for m in pair
        )
        assert one.sqnr_db == pytest.approx(sqnr_db(signal, noise), abs=0.2)
    # A second search finds everything written down.
    again = measure_sensitivity(model, plan, trial, Journal(tmp_path / "journal.jsonl"), "again")
    assert again == found
    assert len(emitted) == len(found)
    # And nothing that was measured in another way.
    other = replace(trial, key="another key")
    measure_sensitivity(model, plan, other, Journal(tmp_path / "journal.jsonl"), "other")
    assert len(emitted) == 2 * len(found)


def watched(model: onnx.ModelProto, tensor: str) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    if tensor not in {value.name for value in copy.graph.output}:
        copy.graph.output.append(onnx.ValueInfoProto(name=tensor))
    return copy


def test_results_that_move_go_before_outputs_that_do():
    moved = NodeSensitivity("a", 100, 20.0, 1e-6, 0.2)
    noisy = NodeSensitivity("b", 100, 10.0, 1e-1, 0.1)
    large = NodeSensitivity("c", 1000, 20.0, 1e-1, 0.2)
    assert sorted([noisy, large, moved], key=lambda s: s.price)[::-1] == [moved, noisy, large]


@settings(max_examples=50, deadline=None)
@given(
    costs=st.lists(st.floats(0.0, 4.0), min_size=1, max_size=10),
    share=st.floats(0.0, 1.0),
)
def test_a_share_stays_in_int8_whatever_it_costs(costs, share):
    plan = plan_of(len(costs))
    ranking = ranking_of(plan, costs)
    names = affordable(plan, ranking, share)
    assert plan.spared(dict.fromkeys(names, "")).int8_mac_share() >= share - 1e-6
    # Nothing that is left would fit.
    for one in ranking:
        if one.node not in names:
            more = plan.spared(dict.fromkeys([*names, one.node], ""))
            assert more.int8_mac_share() < share + 1e-6
    found = search_plan(plan, ranking, additive(costs), Limits(0.0, 30, share))
    assert found.plan.int8_mac_share() >= share - 1e-6


def test_a_search_spares_all_that_is_affordable_where_it_has_to():
    plan, costs = plan_of(5), [9.0, 8.0, 1.0, 0.0, 0.0]
    found = search_plan(plan, ranking_of(plan, costs), additive(costs), Limits(1.0, 40, 0.75))
    assert plan.quantised() - found.plan.quantised() == {"n0", "n1"}


def test_a_journal_survives_a_line_that_was_cut_off(tmp_path):
    path = tmp_path / "folder/journal.jsonl"
    journal = Journal(path)
    assert journal.find("a") is None
    journal.keep("a", {"loss": 1.5})
    journal.keep("b", 2)
    # Killed while it wrote.
    with path.open("a") as file:
        file.write('\n["c", 3')
    journal = Journal(path)
    assert (journal.find("a"), journal.find("b"), journal.find("c")) == ({"loss": 1.5}, 2, None)
    assert journal.recalled == 2
    journal.keep("c", 4)
    assert Journal(path).find("c") == 4


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("folder", "cannot be read: Is a directory"),
        ("file/below", "cannot be written: "),
        ("file/below/journal.jsonl", "cannot be written: "),
    ],
)
def test_without_a_file_a_journal_goes_on_in_memory_and_says_so_once(tmp_path, name, words):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    said = []
    journal = Journal(tmp_path / name, said.append)
    journal.keep("a", 1)
    journal.keep("b", 2)
    assert (journal.find("a"), journal.find("b")) == (1, 2)
    (message,) = said
    assert message.startswith("search journal: nothing is kept: ")
    assert words in message


def test_a_journal_that_is_too_long_loses_its_oldest_lines(tmp_path):
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    for number in range(100):
        journal.keep(f"key {number}", number)
    size = path.stat().st_size
    assert Journal(path, limit=size).find("key 0") == 0
    assert path.stat().st_size == size
    journal = Journal(path, limit=size - 1)
    assert (journal.find("key 0"), journal.find("key 99")) == (None, 99)
    assert path.stat().st_size <= size * 0.55
    journal.keep("new", 5)
    again = Journal(path)
    assert [again.find(key) for key in ("key 0", "key 60", "new")] == [None, 60, 5]
    assert [entry.name for entry in tmp_path.iterdir()] == ["journal.jsonl"]


def test_an_output_that_never_changes_costs_nothing_or_all():
    still = [[np.ones(3)], [np.ones(3)]]
    assert output_error(still, still) == 0.0
    assert output_error(still, [[np.ones(3)], [np.zeros(3)]]) == 1.0
