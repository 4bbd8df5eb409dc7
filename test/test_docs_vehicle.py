# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The page on vehicle computers: every message that it explains is one that the code says."""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest
from test_docs import ROOT
from trt_stand_in import VERSIONS

PAGE = (ROOT / "docs/vehicle.md").read_text(encoding="utf-8")
GAP = "…"


def messages() -> list[str]:
    """Return the first cells of the table of messages."""
    table = PAGE.split("## When something fails", 1)[1]
    return re.findall(r"^\| `([^|]+)` \|", table, re.MULTILINE)


@cache
def said() -> tuple[str, ...]:
    """Return every text of the package, with a gap for what is filled in."""
    found = []
    for path in sorted((ROOT / "av_compress").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        constants = {
            node.targets[0].id: node.value.value
            for node in tree.body
            if isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and isinstance(node.value, ast.Constant)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
            elif isinstance(node, ast.JoinedStr):
                found.append("".join(filled(part, constants) for part in node.values))
    return tuple(found)


def filled(part: ast.expr, constants: dict[str, object]) -> str:
    """Return a part of an f-string: its text, a constant of the module, or a gap."""
    if isinstance(part, ast.Constant):
        return str(part.value)
    name = part.value.id if isinstance(part.value, ast.Name) else ""
    return str(constants.get(name, GAP))


def test_the_table_is_found():
    assert len(messages()) > 30
    assert len(set(messages())) == len(messages())


@pytest.mark.parametrize("message", messages())
def test_each_message_of_the_page_is_one_of_the_code(message):
    assert any(message in text for text in said()), message


def test_the_test_would_find_a_message_that_is_not_there():
    assert not any("the flux capacitor is not charged" in text for text in said())
    # Parts of it may be filled in, but then the page has to say so.
    assert any("has no plan for … … on …" in text for text in said())
    assert not any("has no plan for tensorrt" in text for text in said())


def test_every_row_says_why_and_what_to_do():
    table = PAGE.split("## When something fails", 1)[1]
    rows = [line for line in table.splitlines() if line.startswith("| `")]
    assert len(rows) == len(messages())
    for row in rows:
        _, *cells, _ = re.split(r"\s*\|\s*", row)
        assert len(cells) == 3, row
        assert all(cells), row


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_that_the_stand_in_knows_is_on_the_page(version):
    number = version.removeprefix("rtx-")
    checked = PAGE.split("## What was checked how", 1)[1].split("\n## ", 1)[0]
    assert re.search(rf"\b{re.escape(number)}\b", checked), version
