# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Linting: a model against every rule of a target."""

from __future__ import annotations

from collections.abc import Mapping

import onnx

from av_compress.compress.lint.rule import Severity, Subject, Violation
from av_compress.compress.lint.table import RULES
from av_compress.compress.lint.targets import find_target
from av_compress.compress.lint.view import LintView
from av_compress.errors import ModelError

# Form -> what it promises to run on, by the strictest of its releases. TensorRT 8.6 is none of the
# `tensorrt` form's: its opset ends before FP16 scales begin.
FORM_TARGETS: Mapping[str, str] = {
    "tensorrt": "tensorrt-10.3",
    "tensorrt_8": "tensorrt-8.6",
    "tensorrt_fp8": "tensorrt-10.3",
}
_NAMED_AT_MOST = 5


def lint_model(model: onnx.ModelProto, target: str) -> tuple[Violation, ...]:
    """Hold a model to the rules of a target.

    Args:
        model: any model that could be parsed, valid ONNX or not; it stays as it is.
        target: a name of `targets.TARGETS`.

    Returns:
        what is broken: errors, then traps, then advice; within one, in the order of the rules.

    Raises:
        UsageError: the target is unknown.

    """
    aim = find_target(target)
    view = LintView(model)
    found = [
        Violation(rule, finding.node, finding.detail)
        for rule in RULES
        if target in rule.targets
        for finding in rule.check(view, aim)
    ]
    order = list(Severity)
    return tuple(sorted(found, key=lambda one: order.index(one.rule.severity)))


def broken(violations: tuple[Violation, ...]) -> tuple[Violation, ...]:
    """Return those that are more than advice."""
    return tuple(one for one in violations if one.rule.severity is not Severity.ADVICE)


def refuse_broken_form(model: onnx.ModelProto, emitter: str) -> None:
    """Check that a form is what its target reads and runs as it says.

    Operators are the source model's own: some have plugins, which nobody can know here.

    Args:
        model: what was emitted.
        emitter: its form; one without an entry in `FORM_TARGETS` is held to nothing.

    Raises:
        ModelError: it is not; nodes, rules and fixes are named.

    """
    target = FORM_TARGETS.get(emitter)
    if target is None:
        return
    found = [
        one
        for one in broken(lint_model(model, target))
        if one.rule.subject is not Subject.OPERATORS
    ]
    if found:
        more = len(found) - _NAMED_AT_MOST
        named = "; ".join(map(str, found[:_NAMED_AT_MOST])) + (f"; and {more} more" * (more > 0))
        raise ModelError(f"the {emitter} form breaks rules of {target}: {named}")
