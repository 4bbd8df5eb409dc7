# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Which nodes gain by INT8, on accounts that are worked out by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import onnx
import pytest
from helpers_models import Network
from hypothesis import given
from hypothesis import strategies as st

from av_compress.build.choice import Ends, cost, find_mixed, units_of
from av_compress.engines.plans.account import AchievedNode, PlanAccount
from av_compress.errors import EngineError


@dataclass(frozen=True)
class Costs:
    """A node's bytes: of its own kernel in float and in INT8, and of what INT8 adds around it."""

    half: int
    int8: int
    around: int = 0
    padding: float = 1.0
    kernels: int = 0


@dataclass
class Machine:
    """A compiler whose plans are the sums of their nodes; it remembers what it was asked."""

    nodes: Mapping[str, Costs]
    refuses: frozenset[str] = frozenset()
    floats: frozenset[str] = frozenset()
    asked: list[frozenset[str]] = field(default_factory=list)

    def __call__(self, inside: frozenset[str]) -> PlanAccount:
        self.asked.append(inside)
        if len(inside) < len(self.nodes) and inside & self.refuses:
            raise EngineError("the builder refuses the model: it is Tuesday")
        entries, moved, kernels = [], 0, 10
        for name, one in self.nodes.items():
            integers = name in inside
            own = one.int8 if integers else one.half
            moved += own + (one.around if integers else 0)
            kernels += one.kernels if integers else 0
            achieved = "int8" if integers and name not in self.floats else "fp16"
            padding = one.padding if integers else 1.0
            asked = "int8" if integers else "fp16"
            entries.append(AchievedNode(name, asked, achieved, "fp16", padding, own))
        return PlanAccount(kernels, moved, 0, {}, 0, tuple(entries))

    def ends(self, choose_by: str = "bytes_moved") -> Ends:
        inside = frozenset(self.nodes)
        ends = Ends(inside, self(inside), self(frozenset()), choose_by)
        self.asked.clear()
        return ends

    @property
    def units(self) -> tuple[tuple[str, ...], ...]:
        return tuple((name,) for name in self.nodes)


def account(moved: int, kernels: int) -> PlanAccount:
    return PlanAccount(kernels, moved - 5, 5, {}, 0, ())


def test_kernels_decide_between_equals_or_first():
    plans = {"a": account(100, 9), "b": account(100, 8), "c": account(90, 12)}
    for by, order in (("bytes_moved", "cba"), ("kernels", "bac")):
        assert sorted(plans, key=lambda name: cost(plans[name], by)) == list(order)


def test_nodes_that_gain_are_put_into_int8():
    machine = Machine(
        {
            "wide": Costs(half=1000, int8=600, around=100),  # 300 less
            "small": Costs(half=100, int8=60, around=90, kernels=1),  # 50 more
            "depthwise": Costs(half=200, int8=500, around=80, padding=4.0),  # 380 more
            "late": Costs(half=400, int8=220, around=170, kernels=2),  # 10 less
        }
    )
    ends = machine.ends()
    assert (ends.integers.bytes_moved, ends.floats.bytes_moved) == (1820, 1700)
    assert not ends.from_integers
    found = find_mixed(machine.units, ends, machine, trials=10)
    assert found.int8 == {"wide", "late"}
    # Those with most to gain first; what loses by its own kernel is not even tried.
    assert machine.asked == [{"wide"}, {"late"}, {"small"}]
    assert found.trials == 3
    assert found.reasons == {
        "small": "with it alone in INT8 the plan moves 0.1 kB more, in 1 more kernels",
        "depthwise": "its own kernel moves 0.5 kB in INT8 and pads its channels 4-fold, writing "
        "FP16; 0.2 kB in FP16",
    }
    assert found.notes == {
        "wide": "with it alone in INT8 the plan moves 0.3 kB less, in 0 more kernels",
        "late": "with it alone in INT8 the plan moves 0.0 kB less, in 2 more kernels",
    }
    assert machine(found.int8).bytes_moved == 1700 - 310


def test_nodes_that_lose_are_taken_out_where_int8_is_cheaper():
    machine = Machine(
        {
            "wide": Costs(half=1000, int8=500),
            "depthwise": Costs(half=200, int8=350, padding=4.0),
            "other": Costs(half=300, int8=200),
        }
    )
    ends = machine.ends()
    assert ends.from_integers
    found = find_mixed(machine.units, ends, machine, trials=10)
    assert found.int8 == {"wide", "other"}
    # Each without itself; what loses most by its own kernel first.
    assert machine.asked == [{"wide", "other"}, {"wide", "depthwise"}, {"depthwise", "other"}]
    assert list(found.reasons) == ["depthwise"]
    assert found.reasons["depthwise"].startswith("without it in INT8 the plan moves 0.1 kB less")


def test_nodes_that_read_one_tensor_are_tried_together():
    """Each alone loses, as the tensor is written in both types; together they gain."""

    def compiled(inside: frozenset[str]) -> PlanAccount:
        machine = Machine({"a": Costs(100, 50), "b": Costs(100, 50)})
        plain = machine(inside)
        both = 60 if inside == {"a", "b"} else 160 if inside else 100
        return PlanAccount(plain.kernels, plain.activation_bytes + both, 0, {}, 0, plain.nodes)

    inside = frozenset("ab")
    # So that it starts from float, something else loses more in the plan with both.
    more = compiled(inside)
    integers = PlanAccount(more.kernels, more.activation_bytes + 999, 0, {}, 0, more.nodes)
    ends = Ends(inside, integers, compiled(frozenset()), "bytes_moved")
    assert find_mixed([("a",), ("b",)], ends, compiled, 9).int8 == frozenset()
    assert find_mixed([("a", "b")], ends, compiled, 9).int8 == inside


def test_trials_are_bounded():
    machine = Machine({f"n{i}": Costs(half=100 + i, int8=50, around=500) for i in range(6)})
    found = find_mixed(machine.units, machine.ends(), machine, trials=2)
    assert machine.asked == [{"n5"}, {"n4"}]
    assert found.trials == 2
    assert found.int8 == frozenset()
    assert found.reasons["n0"] == "not tried in INT8: beyond compile.trials"


def test_what_the_compiler_refuses_or_makes_float_is_not_taken():
    nodes = {name: Costs(half=100, int8=40) for name in ("good", "refused", "floated")}
    nodes["heavy"] = Costs(half=100, int8=400)
    machine = Machine(nodes, frozenset({"refused"}), frozenset({"floated"}))
    found = find_mixed(machine.units, machine.ends(), machine, trials=10)
    assert found.int8 == {"good"}
    assert "it is Tuesday" in found.reasons["refused"]
    assert found.reasons["floated"] == "in a trial it did not become INT8"


def test_int8_that_silently_became_float_is_no_place_to_start_from():
    machine = Machine({"a": Costs(100, 40), "b": Costs(100, 40)}, floats=frozenset("b"))
    ends = machine.ends()
    assert ends.integers.bytes_moved < ends.floats.bytes_moved
    assert not ends.from_integers
    assert find_mixed(machine.units, ends, machine, 10).int8 == {"a"}


def test_what_no_kernel_names_is_tried_last():
    machine = Machine({"a": Costs(100, 40), "b": Costs(100, 90), "c": Costs(10, 900)})
    ends = machine.ends()
    hidden = tuple(
        AchievedNode("b", one.asked, "absent", "absent", 1.0, 0) if one.node == "b" else one
        for one in ends.integers.nodes
    )
    plain = ends.integers
    integers = PlanAccount(plain.kernels, plain.activation_bytes, 0, {}, 0, hidden)
    ends = Ends(ends.inside, integers, ends.floats, ends.choose_by)
    assert find_mixed(machine.units, ends, machine, 10).int8 == {"a", "b"}
    assert machine.asked == [{"a"}, {"b"}]


def test_by_kernels_every_unit_is_tried():
    machine = Machine({"a": Costs(100, 400, kernels=-1), "b": Costs(100, 50, kernels=2)})
    ends = machine.ends("kernels")
    found = find_mixed(machine.units, ends, machine, 10)
    assert found.int8 == {"a"}
    assert found.trials == 2


sizes = st.integers(1, 1000)


@given(st.lists(st.builds(Costs, sizes, sizes, st.integers(0, 500)), min_size=1, max_size=8))
def test_where_plans_are_sums_nothing_moves_less_than_what_is_found(costs):
    """With a trial for each, and no node whose surroundings gain what its kernel loses."""
    machine = Machine({f"n{i}": one for i, one in enumerate(costs)})
    ends = machine.ends()
    found = find_mixed(machine.units, ends, machine, 100)
    moved = machine(found.int8).bytes_moved
    assert moved <= min(ends.integers.bytes_moved, ends.floats.bytes_moved)
    assert moved == sum(min(one.half, one.int8 + one.around) for one in costs)
    assert set(found.reasons) == ends.inside - found.int8


def test_units_are_the_readers_of_a_tensor():
    net = Network(0, channels=4, side=8)
    first = net.conv("image", 4)
    net.conv(first, 4)
    net.conv(first, 8, 1)
    net.conv("image", 4, 1)
    model: onnx.ModelProto = net.model()
    names = [node.name for node in model.graph.node]
    assert units_of(model, frozenset(names)) == ((names[0], names[3]), (names[1], names[2]))
    assert units_of(model, frozenset(names[1:3])) == ((names[1], names[2]),)


@pytest.mark.parametrize("by", ["bytes_moved", "kernels"])
def test_nothing_to_try_finds_nothing(by):
    ends = Ends(frozenset("a"), account(100, 3), account(50, 2), by)
    found = find_mixed((), ends, Machine({}), 5)
    assert (found.int8, found.trials) == (frozenset(), 0)
