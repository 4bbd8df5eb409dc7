# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Numbers and tables: written the same everywhere, against hand-written text."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from av_compress.metrics.nuscenes import NuscenesAP, NuscenesClassAP, NuscenesErrors
from av_compress.report import numbers
from av_compress.report.accuracy_tables import nuscenes_json, nuscenes_table
from av_compress.report.tables import Cell, Table


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (numbers.fixed(46.4), "46.40"),
        (numbers.fixed(-0.001), "0.00"),
        (numbers.fixed(-1.5), "-1.50"),
        (numbers.fixed(None), "–"),
        (numbers.fixed(math.nan), "–"),
        (numbers.fixed(math.inf), "–"),
        (numbers.signed(-0.314), "−0.31"),
        (numbers.signed(1.2), "+1.20"),
        (numbers.signed(0.001), "0.00"),
        (numbers.signed(None), "–"),
        (numbers.points(0.464), "46.40"),
        (numbers.points(None), "–"),
        (numbers.percent(0.9712), "97.1 %"),
        (numbers.percent(1 / 3, 0), "33 %"),
        (numbers.milliseconds(5.128), "5.13"),
        (numbers.milliseconds(9.996), "10.0"),
        (numbers.milliseconds(34.21), "34.2"),
        (numbers.milliseconds(99.96), "100"),
        (numbers.milliseconds(1234.5), "1234"),
        (numbers.milliseconds(math.nan), "–"),
        (numbers.size(934_000), "912 KiB"),
        (numbers.size(3_900_000), "3.72 MiB"),
        (numbers.amount(934), "934"),
        (numbers.amount(12_345), "12.3 k"),
        (numbers.amount(1_420_000), "1.42 M"),
        (numbers.amount(8_700_000_000), "8.7 G"),
        (numbers.amount(999_900), "1 M"),
        (numbers.general(-5.80312), "−5.803"),
        (numbers.plural(1, "frame"), "1 frame"),
        (numbers.plural(1053, "frame"), "1,053 frames"),
        (numbers.plural(0, "box"), "0 boxes"),
    ],
)
def test_numbers_are_written_as_promised(written, expected):
    assert written == expected


@given(st.floats(0.0, 1e6))
def test_milliseconds_keep_three_digits(value):
    text = numbers.milliseconds(value)
    assert abs(float(text) - value) <= max(0.0051, 0.0051 * value)
    assert "e" not in text


def test_a_table_is_aligned_words_left_numbers_right():
    table = Table(
        ("class", "n", "AP50"),
        [("car", "12", "46.40"), (Cell("person", "bad"), "3", "9.10")],
        footer=[("all", "15", "27.75")],
    )
    assert table.text() == (
        "class    n   AP50\n"
        "------  --  -----\n"
        "car     12  46.40\n"
        "person   3   9.10\n"
        "------  --  -----\n"
        "all     15  27.75"
    )


def test_a_long_table_says_what_it_leaves_out():
    table = Table(("class", "n"), [(f"c{i}", f"{i}") for i in range(9)], footer=[("all", "36")])
    lines = table.text(most=3).splitlines()
    assert lines[2:6] == ["c0           0", "c1           1", "c2           2", "... 6 more"]
    assert lines[-1].split() == ["all", "36"]
    assert "more" not in table.text(most=9)


def test_the_terminal_gets_signs_that_every_terminal_has():
    assert Table(("x", "y"), [("a", "−1.5"), ("b", "–")]).text().isascii()


def test_wide_letters_and_line_breaks_do_not_break_the_columns():
    lines = Table(("name", "n"), [("行人", "1"), ("two\nlines", "22")]).text().splitlines()
    assert lines[2:] == ["行人        1", "two lines  22"]


def test_cells_that_do_not_fit_the_headers_are_refused():
    with pytest.raises(ValueError, match="3 cells under 2 headers"):
        Table(("a", "b"), [("1", "2", "3")])


@given(
    st.lists(
        st.tuples(*[st.text(st.characters(max_codepoint=0x17F, categories=("L", "N")))] * 3),
        max_size=6,
    ),
    st.integers(0, 3),
)
def test_every_line_is_as_wide_as_the_rule_at_most(rows, left):
    lines = Table(("first", "second", "third"), rows, left=left).text().splitlines()
    assert re.fullmatch(r"-+  -+  -+", lines[1])
    assert all(len(line) <= len(lines[1]) and line == line.rstrip() for line in lines)
    if left < 3:
        assert all(len(line) == len(lines[1]) for line, row in zip(lines[2:], rows) if row[2])


NUSCENES = NuscenesAP(
    {
        "car": NuscenesClassAP({0.5: 0.25, 2.0: 0.75}, NuscenesErrors(0.3, 0.2, 0.1, 1.5), 12),
        "cone": NuscenesClassAP({0.5: 0.5, 2.0: 1.0}, NuscenesErrors(0.1, 0.4, None, None), 3),
    }
)


def test_nuscenes_figures_as_a_table():
    assert nuscenes_table(NUSCENES).text().splitlines() == [
        "class        objects  AP 0.5 m  AP 2 m     AP  ATE m    ASE  AOE rad  AVE m/s",
        "-----------  -------  --------  ------  -----  -----  -----  -------  -------",
        "car               12     25.00   75.00  50.00  0.300  0.200    0.100    1.500",
        "cone               3     50.00  100.00  75.00  0.100  0.400        -        -",
        "-----------  -------  --------  ------  -----  -----  -----  -------  -------",
        "all classes       15     37.50   87.50  62.50  0.200  0.300    0.100    1.500",
    ]
    assert nuscenes_table(NuscenesAP({})).text().splitlines()[-1].split()[2:] == [
        *("0", "0.00"),
        *("-" * 4),
    ]


def test_nuscenes_figures_as_json():
    found = nuscenes_json(NUSCENES)
    assert (found["map"], found["at"]) == (0.625, {"0.5": 0.375, "2": 0.875})
    assert found["errors"]["orientation"] == 0.1
    assert found["errors"]["translation"] == pytest.approx(0.2)
    assert found["per_class"]["cone"] == {
        "ap": 0.75,
        "at": {"0.5": 0.5, "2": 1.0},
        "errors": {"translation": 0.1, "scale": 0.4, "orientation": None, "velocity": None},
        "truths": 3,
    }
    assert nuscenes_json(NuscenesAP({})) == {"map": 0.0, "at": {}, "errors": None, "per_class": {}}
