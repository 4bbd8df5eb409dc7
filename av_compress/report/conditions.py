# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Conditions in words: the same on the terminal and on a build's page."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from av_compress.engines.manifest import AttemptRecord, CheckRecord
from av_compress.engines.measurements import SpeedRecord

# Returns what was timed of an attempt; None where nothing was.
SpeedOf = Callable[[AttemptRecord], SpeedRecord | None]


def explain(check: CheckRecord, measured: SpeedRecord | None) -> str:
    """Say how a condition went, with the times that its record leaves out.

    Args:
        check: the condition.
        measured: what was timed of the candidate, if anything was.

    """
    if check.gate != "speed" or measured is None:
        return check.reason
    return (
        f"{measured.speedup:.2f} times as fast as {measured.against} "
        f"({measured.candidate_ms.best:.2f} ms against {measured.against_ms.best:.2f} ms, the "
        f"shortest of {measured.rounds} rounds), must be {check.limit:.2f}"
    )


def explain_refusal(
    attempts: Sequence[AttemptRecord], nearest: AttemptRecord, speed_of: SpeedOf
) -> str:
    """Say why no candidate of a form was accepted.

    Names the candidate that came nearest and what it fails; then, for each of these conditions,
    the candidate that came closer to it, if there is one, and what that one fails besides.

    Args:
        attempts: every candidate of the form.
        nearest: the one that came nearest.
        speed_of: finds an attempt's times.

    """
    failed = _failed(nearest)
    parts = [f"nearest is {nearest.candidate}, which fails {_explain_all(nearest, speed_of)}"]
    for gate in failed:
        closer = _closest(attempts, gate, speed_of)
        if closer.sha256 != nearest.sha256:
            check = next(check for check in closer.checks if check.gate == gate)
            words = explain(check, speed_of(closer))
            parts.append(f"on {gate} {closer.candidate} comes closer ({words})")
            if set(_failed(closer)) - {gate}:
                parts[-1] += f", but fails {_explain_all(closer, speed_of, besides=gate)}"
    return "; ".join(parts)


def _failed(attempt: AttemptRecord) -> dict[str, CheckRecord]:
    return {check.gate: check for check in attempt.checks if check.verdict == "failed"}


def _explain_all(attempt: AttemptRecord, speed_of: SpeedOf, besides: str = "") -> str:
    failed = (check for gate, check in _failed(attempt).items() if gate != besides)
    return " and ".join(f"{c.gate} ({explain(c, speed_of(attempt))})" for c in failed)


def _closest(attempts: Sequence[AttemptRecord], gate: str, speed_of: SpeedOf) -> AttemptRecord:
    found = [(a, c) for a in attempts for c in a.checks if c.gate == gate]
    return min(found, key=lambda pair: _badness(pair[1], speed_of(pair[0])))[0]


def _badness(check: CheckRecord, measured: SpeedRecord | None) -> tuple[bool, float]:
    """Order one condition's verdicts: those that passed before those that failed."""
    if check.figure is not None:
        return check.verdict == "failed", check.figure
    return check.verdict == "failed", -measured.speedup if measured is not None else 0.0
