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
        f"{measured.speedup.median:.2f} times as fast as {measured.against} "
        f"({measured.candidate_ms.median:.2f} ms against {measured.against_ms.median:.2f} ms in "
        f"{measured.rounds} rounds), must be {check.limit:.2f}"
    )


def explain_refusal(
    attempts: Sequence[AttemptRecord], nearest: AttemptRecord, speed_of: SpeedOf
) -> str:
    """Say why no candidate of a form was accepted.

    Names the candidate that came nearest and what it fails; then, for every condition that some
    candidate failed, the candidate that did best on it.

    Args:
        attempts: every candidate of the form.
        nearest: the one that came nearest.
        speed_of: finds an attempt's times.

    """
    failed = [check for check in nearest.checks if check.verdict == "failed"]
    reasons = " and ".join(f"{c.gate}: {explain(c, speed_of(nearest))}" for c in failed)
    parts = [f"nearest is {nearest.candidate}, which fails {reasons}"]
    judged = [attempt for attempt in attempts if attempt.verdict != "skipped"]
    if len(judged) > 1:
        parts += _best_on_each(judged, speed_of)
    return "; ".join(parts)


def _best_on_each(judged: Sequence[AttemptRecord], speed_of: SpeedOf) -> list[str]:
    gates = dict.fromkeys(c.gate for a in judged for c in a.checks if c.verdict == "failed")
    parts = []
    for gate in gates:
        found = [(a, c) for a in judged for c in a.checks if c.gate == gate]
        attempt, check = min(found, key=lambda pair: _badness(pair[1], speed_of(pair[0])))
        words = explain(check, speed_of(attempt))
        parts.append(f"best on {gate} is {attempt.candidate}: {words}")
    return parts


def _badness(check: CheckRecord, measured: SpeedRecord | None) -> tuple[bool, float]:
    """Order one condition's verdicts: those that passed before those that failed."""
    if check.figure is not None:
        return check.verdict == "failed", check.figure
    return check.verdict == "failed", -measured.speedup.median if measured is not None else 0.0
