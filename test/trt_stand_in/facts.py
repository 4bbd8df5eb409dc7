# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What a version's Python API has, as scripts/condense_trt_api.py has written it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "data" / "trt_api"
VERSIONS = ("8.6", "10.0", "10.3", "10.13", "10.16", "11.0", "11.4", "rtx-1.7")
SEVERITIES = ("INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE")


@dataclass(frozen=True)
class Parameter:
    """A parameter: its name, its type's name, and the text of its default."""

    name: str
    kind: str
    default: str | None


@dataclass(frozen=True)
class Signature:
    """One overload. An open one takes what it is given."""

    text: str
    parameters: tuple[Parameter, ...]
    returns: str
    static: bool
    open: bool


@dataclass(frozen=True)
class Property:
    """A property: its type, and whether it can be read and written."""

    kind: str
    readable: bool
    writable: bool


Member = Property | tuple[Signature, ...]


@dataclass(frozen=True)
class Facts:
    """A version's API."""

    name: str
    package: str
    version: str
    enums: dict[str, dict[str, int]]
    classes: dict[str, dict[str, Member]]
    bases: dict[str, str]
    aliases: dict[str, str]
    functions: dict[str, Signature]

    @property
    def number(self) -> tuple[int, ...]:
        return tuple(int(part) for part in self.version.split("."))

    @property
    def rtx(self) -> bool:
        return self.package == "tensorrt_rtx"


@cache
def load_facts(name: str) -> Facts:
    """Read a version's facts.

    Args:
        name: one of VERSIONS.

    """
    entry = json.loads((FOLDER / f"{name}.json").read_text())
    return Facts(
        name=name,
        package=entry["package"],
        version=entry["version"],
        enums=entry["enums"],
        classes={
            owner: {member: _member(what) for member, what in members.items()}
            for owner, members in entry["classes"].items()
        },
        bases=entry["bases"],
        aliases=entry["aliases"],
        functions={name: parse_signature(text) for name, text in entry["functions"].items()},
    )


@cache
def operators_not_read() -> frozenset[str]:
    """Return ONNX's operators that the parser of TensorRT for RTX does not read."""
    entry = json.loads((FOLDER / "rtx-1.7.json").read_text())
    return frozenset(entry["operators_not_read"])


def _member(what: Any) -> Member:
    if isinstance(what, list):
        return tuple(parse_signature(text) for text in what)
    kind, _, access = what.removeprefix("static ").partition(" ")
    return Property(kind, "o" not in access, "w" in access)


def parse_signature(text: str) -> Signature:
    """Read `(name: type = default, ...) -> type`."""
    static = text.startswith("static ")
    inside, _, returns = text.removeprefix("static ").rpartition(" -> ")
    inside = inside.strip()[1:-1]
    is_open = inside.startswith("*args")
    parts = [] if is_open else _split(inside)
    return Signature(text, tuple(map(_parameter, parts)), returns.strip(), static, is_open)


def _parameter(text: str) -> Parameter:
    rest, equals, default = text.partition(" = ")
    name, _, kind = rest.partition(":")
    return Parameter(name.strip(), kind.strip() or "object", default.strip() if equals else None)


def _split(text: str) -> list[str]:
    parts, depth, current = [], 0, ""
    for letter in text:
        depth += (letter == "[") - (letter == "]")
        if letter == "," and depth == 0:
            parts.append(current)
            current = ""
        else:
            current += letter
    return [part.strip() for part in [*parts, current] if part.strip()]
