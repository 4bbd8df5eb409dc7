# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What a rule is, and what it says when it is broken."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from av_compress.compress.lint.targets import Target
from av_compress.compress.lint.view import LintView


class Severity(Enum):
    """What breaking a rule costs, worst first."""

    ERROR = "error"
    TRAP = "trap"
    ADVICE = "advice"

    @property
    def meaning(self) -> str:
        """In words."""
        return {
            Severity.ERROR: "the target refuses the model",
            Severity.TRAP: "the target builds something else than the model says, silently",
            Severity.ADVICE: "it works; it could be faster or more accurate",
        }[self]


ERROR, TRAP, ADVICE = Severity.ERROR, Severity.TRAP, Severity.ADVICE


class Subject(Enum):
    """What a rule looks at."""

    VALUES = "scales, zero points and constants"
    PLACEMENT = "where pairs stand"
    TYPES = "types and opset"
    OPERATORS = "operators and shapes"


@dataclass(frozen=True)
class Finding:
    """A place where a rule is broken: a node or a tensor by its name, and what is there."""

    node: str
    detail: str


Check: TypeAlias = Callable[[LintView, Target], Iterator[Finding]]


@dataclass(frozen=True)
class Rule:
    """A rule of some targets.

    Attributes:
        id: its name, as reports and documentation say it.
        subject: what it looks at.
        targets: names of the targets that have it.
        severity: what breaking it costs.
        title: what is wrong, in a few words.
        consequence: what the target does then; tried, where nothing else is said.
        fix: what to do.
        check: finds the places where it is broken.

    """

    id: str
    subject: Subject
    targets: frozenset[str]
    severity: Severity
    title: str
    consequence: str
    fix: str
    check: Check


# Id, targets, severity, title, check, consequence, fix.
Row: TypeAlias = tuple[str, frozenset[str], Severity, str, Check, str, str]


def make_rules(subject: Subject, rows: Iterable[Row]) -> tuple[Rule, ...]:
    """Make the rules of a subject out of a table's rows."""
    return tuple(
        Rule(name, subject, targets, severity, title, consequence, fix, check)
        for name, targets, severity, title, check, consequence, fix in rows
    )


@dataclass(frozen=True)
class Violation:
    """A rule that is broken at one place.

    Attributes:
        rule: the rule.
        node: name of the node or tensor.
        detail: what is there.

    """

    rule: Rule
    node: str
    detail: str

    def __str__(self) -> str:
        """Say where, what, and how to repair it, in one line."""
        return f"{self.node}: {self.detail} [{self.rule.id}]; {self.rule.fix}"
