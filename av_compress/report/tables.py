# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Tables that look the same on the terminal and on a page."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

# What `report.numbers` writes beyond ASCII.
_ASCII = {ord("−"): "-", ord("–"): "-"}

Tone = Literal["", "good", "warn", "bad", "quiet"]


@dataclass(frozen=True)
class Cell:
    """A cell whose tone says something: good news, doubtful or bad news, or of less weight."""

    text: str
    tone: Tone = ""


@dataclass(frozen=True)
class Table:
    """Rows under headers.

    Attributes:
        headers: one a column.
        rows: cells in the headers' order.
        left: how many columns, from the first on, hold words; the others hold numbers and stand
            to the right.
        footer: rows that sum up the others.

    """

    headers: Sequence[str]
    rows: Sequence[Sequence[str | Cell]]
    left: int = 1
    footer: Sequence[Sequence[str | Cell]] = ()

    def __post_init__(self) -> None:
        """Refuse rows that do not fit the headers (ValueError)."""
        for row in (*self.rows, *self.footer):
            if len(row) != len(self.headers):
                raise ValueError(f"{len(row)} cells under {len(self.headers)} headers")

    def text(self, most: int | None = None) -> str:
        """Return aligned text without trailing spaces or a final newline.

        Args:
            most: how many rows to show; how many are left out is said.

        """
        body = [[plain(cell) for cell in row] for row in self.rows[:most]]
        if len(body) < len(self.rows):
            left_out = f"... {len(self.rows) - len(body)} more"
            body.append([left_out, *[""] * (len(self.headers) - 1)])
        footer = [[plain(cell) for cell in row] for row in self.footer]
        lines = [list(self.headers), *body, *footer]
        widths = [max(map(_width, column)) for column in zip(*lines)]
        rule = "  ".join("-" * width for width in widths)
        written = [self._line(line, widths) for line in lines]
        written.insert(1, rule)
        if footer:
            written.insert(2 + len(body), rule)
        return "\n".join(written)

    def _line(self, cells: Sequence[str], widths: Sequence[int]) -> str:
        padded = []
        for column, (cell, width) in enumerate(zip(cells, widths)):
            space = " " * (width - _width(cell))
            padded.append(cell + space if column < self.left else space + cell)
        return "  ".join(padded).rstrip()


def plain(cell: str | Cell) -> str:
    """Return a cell's text on one line, its signs such as every terminal has."""
    text = cell.text if isinstance(cell, Cell) else cell
    return " ".join(text.translate(_ASCII).split())


def _width(text: str) -> int:
    """Return the columns that a terminal gives a text: two a wide letter, none a combining one."""
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    return len(text) + wide - sum(map(bool, map(unicodedata.combining, text)))
