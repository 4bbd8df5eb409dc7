# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""`av-compress lint`: what a target refuses, misreads or runs slowly, without the target."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from av_compress.compress.lint.rule import Violation

HELP = "check an ONNX model against the rules of a target; exit code 1 on an error or a trap"
# As in `compress.lint.targets`, which takes a while to load.
TARGET_NAMES = (
    *("tensorrt-8.6", "tensorrt-10.3", "tensorrt-10.16", "tensorrt-11"),
    *("rtx-1.7", "cpu"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("model", type=Path, metavar="MODEL.onnx", help="the model to check")
    parser.add_argument(
        "--target",
        required=True,
        choices=TARGET_NAMES,
        metavar="TARGET",
        help=f"what is to run it: {', '.join(TARGET_NAMES)}",
    )
    parser.add_argument("--json", action="store_true", help="print every violation as JSON")


def run(args: argparse.Namespace) -> int:
    """Lint and print."""
    from av_compress.compress.lint.lint import broken, lint_model
    from av_compress.compress.optimize.prepare import load_model
    from av_compress.errors import ModelError, UsageError

    try:
        model = load_model(args.model)
    except ModelError as error:
        # Exit code 1 says that something was found in a model.
        raise UsageError(str(error)) from error
    violations = lint_model(model, args.target)
    if args.json:
        print(json.dumps([_content(one) for one in violations], indent=2))
    else:
        print(_text(violations, args.model, args.target))
    return 1 if broken(violations) else 0


def _content(violation: Violation) -> dict[str, str]:
    rule = violation.rule
    return {
        "node": violation.node,
        "rule": rule.id,
        "severity": rule.severity.value,
        "title": rule.title,
        "detail": violation.detail,
        "consequence": rule.consequence,
        "fix": rule.fix,
    }


def _text(violations: Sequence[Violation], model: Path, target: str) -> str:
    """List every rule that is broken, with the places under it, and count."""
    from av_compress.compress.lint.rule import Severity
    from av_compress.report.numbers import plural

    lines: list[str] = []
    for rule in dict.fromkeys(one.rule for one in violations):
        lines += [
            f"{rule.severity.value} {rule.id}: {rule.title}",
            f"  consequence: {rule.consequence}",
            f"  fix: {rule.fix}",
        ]
        lines += [f"  at {one.node}: {one.detail}" for one in violations if one.rule is rule]
    errors, traps, advice = (
        sum(one.rule.severity is severity for one in violations) for severity in Severity
    )
    counts = f"{plural(errors, 'error')}, {plural(traps, 'trap')}, {advice} advice"
    return "\n".join([*lines, f"{model} for {target}: {counts}"])
