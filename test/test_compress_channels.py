# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Reservoirs: fixed memory, every place as likely as any other, whatever the order."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from av_compress.compress.observe.channels import GROUPS, Reservoir, sample_number

COUNTS = st.lists(st.integers(0, 60), min_size=1, max_size=12)


def sample(number: int, count: int) -> np.ndarray:
    """Return [1, 2, count]: places numbered over all samples, and the sample's number."""
    rows = np.arange(count, dtype=np.float32) + 100 * number
    return np.stack([rows, np.full_like(rows, number)])[None]


def fill(reservoir: Reservoir, numbers, counts) -> Reservoir:
    for number in numbers:
        reservoir.observe(sample(number, counts[number]), channel_axis=1, sample=number)
    return reservoir


def small() -> Reservoir:
    return Reservoir("x", rows=50, per_sample=20)


@settings(max_examples=50)
@given(COUNTS)
def test_memory_is_fixed_and_holds_only_what_was_seen(counts):
    kept = fill(small(), range(len(counts)), counts).values
    assert len(kept) == min(50, sum(min(20, count) for count in counts))
    if len(kept):
        assert len(np.unique(kept[:, 0])) == len(kept)
    for place, number in kept:
        assert 0 <= place - 100 * number < counts[int(number)]


@settings(max_examples=100)
@given(COUNTS, st.randoms(use_true_random=False))
def test_order_and_division_make_no_difference(counts, random):
    whole = fill(small(), range(len(counts)), counts)
    shuffled = list(range(len(counts)))
    random.shuffle(shuffled)
    cut = random.randrange(len(counts) + 1)
    first = fill(small(), shuffled[:cut], counts)
    first.merge(fill(small(), shuffled[cut:], counts))
    for name, value in whole.state().items():
        assert np.array_equal(first.state()[name], value), name


@settings(max_examples=50)
@given(COUNTS)
def test_ranges_hold_every_place_of_their_group_also_those_not_kept(counts):
    reservoir = fill(small(), range(len(counts)), counts)
    if not sum(counts):
        assert reservoir.limits.shape == (GROUPS, 2, 0)
        return
    for group in range(GROUPS):
        places = [sample(n, c)[0] for n, c in enumerate(counts) if c and n % GROUPS == group]
        joined = np.concatenate([*places, np.zeros((2, 0))], axis=1)
        expected = [joined.min(axis=1, initial=np.inf), joined.max(axis=1, initial=-np.inf)]
        assert np.array_equal(reservoir.limits[group], expected)
    assert np.array_equal(reservoir.groups, reservoir.values[:, 1] % GROUPS)


def test_every_place_is_as_likely_as_any_other():
    counts = [200] * 40
    taken = np.zeros(200)
    for tensor in range(60):
        reservoir = Reservoir(f"t{tensor}", rows=400, per_sample=20)
        for number, count in enumerate(counts):
            rows = np.arange(count, dtype=np.float32)[None, None]
            reservoir.observe(rows, channel_axis=1, sample=number)
        taken += np.bincount(reservoir.values[:, 0].astype(int), minlength=200)
    # 60 x 400 of 200 places: 120 each; chi-squared of 199 degrees stays below 290 (1 in 30000).
    assert taken.sum() == 60 * 400
    assert ((taken - 120) ** 2 / 120).sum() < 290


def plane(rng: np.random.Generator, filled: int, cells: int = 2000) -> np.ndarray:
    """Return [1, 3, cells]: what biases make of an empty cell, but in some places."""
    values = np.tile(np.array([0.25, 0.0, -1.5], np.float32)[:, None], cells)
    values[:, rng.choice(cells, filled, replace=False)] = rng.normal(0, 2, (3, filled))
    # The last digit depends on which lane of a processor made it.
    return np.nextafter(values, np.float32(9), where=rng.random(cells) < 0.5, out=values)[None]


def empty_places(reservoir: Reservoir) -> int:
    return int((np.abs(reservoir.values - [0.25, 0.0, -1.5]) < 1e-5).all(axis=1).sum())


def test_empty_cells_leave_room_for_the_others():
    reservoir = Reservoir("x", rows=400, per_sample=50)
    rng = np.random.default_rng(1)
    for number in range(8):
        reservoir.observe(plane(rng, filled=100), channel_axis=1, sample=number)
    # Drawn as they come, 95 of 100 would be empty.
    assert len(reservoir.values) == 400
    assert 1 <= empty_places(reservoir) <= 8
    # A sample that has fewer others gives all of them, and one that is empty.
    few = Reservoir("x", rows=400, per_sample=50)
    few.observe(plane(rng, filled=7), channel_axis=1, sample=0)
    assert (len(few.values), empty_places(few)) == (8, 1)
    # Ranges are those of all places all the same.
    nothing = Reservoir("x")
    nothing.observe(plane(rng, filled=0), channel_axis=1, sample=0)
    assert (len(nothing.values), empty_places(nothing)) == (1, 1)
    np.testing.assert_allclose(nothing.limits[0], [[0.25, 0, -1.5]] * 2, atol=1e-5)


def test_what_less_than_half_of_a_sample_shows_is_drawn_as_it_comes():
    rng = np.random.default_rng(2)
    reservoir = Reservoir("x", rows=400, per_sample=50)
    for number in range(8):
        reservoir.observe(plane(rng, filled=1200), channel_axis=1, sample=number)
    # 160 of 400 on average, give or take 10.
    assert 110 < empty_places(reservoir) < 210


def test_state_survives_storage():
    reservoir = Reservoir("x")
    values = np.random.default_rng(0).normal(size=(1, 3, 9, 9)).astype(np.float32)
    reservoir.observe(values, channel_axis=1, sample=7)
    again = Reservoir.from_state("x", reservoir.state())
    assert np.array_equal(again.values, reservoir.values)
    assert np.array_equal(again.limits, reservoir.limits)
    assert set(map(tuple, again.values)) == set(map(tuple, values[0].reshape(3, -1).T))
    empty = Reservoir.from_state("x", Reservoir("x").state())
    empty.merge(again)
    assert np.array_equal(empty.values, reservoir.values)
    assert np.array_equal(empty.limits, reservoir.limits)


def test_a_sample_is_known_by_its_content():
    image = np.zeros((1, 3, 4, 4), np.float32)
    other = image.copy()
    other[0, 0, 0, 0] = 1
    assert sample_number({"a": image}) == sample_number({"a": image.copy()})
    assert sample_number({"a": image}) != sample_number({"a": other})
    assert sample_number({"a": image}) != sample_number({"b": image})
