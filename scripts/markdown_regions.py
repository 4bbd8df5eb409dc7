# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Regions of Markdown files that a script writes: `<!-- KIND:NAME -->` to `<!-- /KIND -->`."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

Regions = Mapping[str, Callable[[], str]]


def fill(text: str, kind: str, regions: Regions) -> str:
    """Write the content of every region of a kind.

    Raises:
        ValueError: a region has a name that nobody writes, or no end.

    """

    def write(match: re.Match[str]) -> str:
        name = match["name"]
        if name not in regions:
            known = ", ".join(sorted(regions))
            raise ValueError(f"region {kind}:{name} is unknown; known: {known}")
        return f"{match['start']}\n{regions[name]().strip()}\n{match['end']}"

    begins = len(re.findall(f"<!-- {kind}:", text))
    pattern = (
        rf"(?P<start><!-- {kind}:(?P<name>\w+) -->)\n(?:(?!<!-- {kind}:).)*?"
        rf"(?P<end><!-- /{kind} -->)"
    )
    filled, count = re.subn(pattern, write, text, flags=re.DOTALL)
    if count != begins:
        raise ValueError(f"{begins} regions of kind {kind} begin, {count} are whole")
    return filled


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Return a Markdown table; columns after the first `left` stand to the right."""
    rule = ["---" if column < left else "---:" for column in range(len(headers))]
    lines = [headers, rule, *([_cell(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def number(value: float, digits: int = 2) -> str:
    """Write a number; what rounds to zero has no sign."""
    return f"{value + 0.0:.{digits}f}".replace("-0.00", "0.00")


def update(files: Sequence[Path], kind: str, regions: Regions, check: bool) -> int:
    """Fill the regions of files, or check that they are filled already.

    Returns:
        The exit code: 1 where a check finds a file out of date.

    """
    outdated = []
    for path in files:
        text = path.read_text(encoding="utf-8")
        filled = fill(text, kind, regions)
        if filled == text:
            continue
        outdated.append(path.name)
        if not check:
            path.write_text(filled, encoding="utf-8")
    if outdated and check:
        command = f"python scripts/{Path(sys.argv[0]).name}"
        print(f"out of date: {', '.join(outdated)}; run: {command}", file=sys.stderr)
        return 1
    return 0


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
