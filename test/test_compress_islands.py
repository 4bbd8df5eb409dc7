# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The choice of FP16 nodes: never worse than any other, tried one by one."""

from __future__ import annotations

from itertools import combinations, pairwise

from hypothesis import given
from hypothesis import strategies as st

from av_compress.compress.emit.islands import (
    CAST_COST,
    HEAVY,
    TypedTensor,
    choose_half,
    count_casts,
)


def total(half, costs, tensors) -> int:
    return CAST_COST * count_casts(half, tensors) + sum(
        cost for name, cost in costs.items() if name not in half
    )


@st.composite
def graphs(draw):
    count = draw(st.integers(1, 7))
    names = [f"n{i}" for i in range(count)]
    costs = {name: draw(st.sampled_from([1, 1, 2, HEAVY])) for name in names}
    forced = {name for name in names if draw(st.integers(0, 2)) == 0}
    tensors = []
    for place in range(-1, count):
        readers = tuple(name for name in names[place + 1 :] if draw(st.booleans()))
        producer = names[place] if place >= 0 else None
        tensors.append(TypedTensor(producer, readers, draw(st.booleans())))
    return costs, forced, tensors


@given(graphs())
def test_no_other_choice_is_cheaper_and_none_as_cheap_has_more_in_fp16(graph):
    costs, forced, tensors = graph
    half = choose_half(costs, forced, tensors)
    assert not half & forced
    free = sorted(set(costs) - forced)
    others = (frozenset(some) for n in range(len(free) + 1) for some in combinations(free, n))
    least = min((total(other, costs, tensors), -len(other)) for other in others)
    assert (total(half, costs, tensors), -len(half)) == least


def chain(length: int) -> list[TypedTensor]:
    names = [f"n{i}" for i in range(length)]
    return [TypedTensor(a, (b,), False) for a, b in pairwise(names)]


def test_a_short_bridge_between_fp32_nodes_is_fp32_a_long_one_and_a_heavy_one_are_not():
    for length, heavy, inner in ((3, False, 0), (20, False, 18), (3, True, 1)):
        tensors = chain(length)
        costs = {f"n{i}": HEAVY if heavy and i == 1 else 1 for i in range(length)}
        half = choose_half(costs, ["n0", f"n{length - 1}"], tensors)
        assert len(half) == inner
        assert count_casts(half, tensors) == (2 if inner else 0)


def test_readers_of_one_tensor_share_its_cast():
    tensors = [TypedTensor("a", ("b", "c", "d"), True)]
    costs = dict.fromkeys("abcd", 1) | {"a": HEAVY}
    assert choose_half(costs, "bcd", tensors) == {"a"}
    assert count_casts(frozenset("a"), tensors) == 1
