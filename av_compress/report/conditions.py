# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Conditions in words: the same on the terminal and on a build's page."""

from __future__ import annotations

from av_compress.engines.manifest import CheckRecord
from av_compress.engines.measurements import SpeedRecord


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
        f"{measured.rounds} rounds); must be {check.limit:.2f}"
    )
