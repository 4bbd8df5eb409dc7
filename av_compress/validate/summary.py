# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""A replay as JSON values, for continuous integration and for comparing replays."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from av_compress.metrics.agreement import Agreement, FrameAgreement, Totals
from av_compress.metrics.replay import FrameRecord, GateOutcome, ReplayResult, latencies
from av_compress.telemetry.windows import NS_PER_MS


def replay_json(result: ReplayResult) -> dict[str, Any]:
    """Return a replay's figures: models, gates, agreement, latencies in ms, and every frame.

    The boxes themselves are not in it; the output bag holds them. A value that nothing was
    measured for is null.
    """
    return {
        "source": result.source,
        "candidate": asdict(result.candidate),
        "reference": None if result.reference is None else asdict(result.reference),
        "passed": result.passed,
        "gates": [_gate(gate) for gate in result.gates],
        "agreement": None if result.agreement is None else _agreement(result.agreement),
        "latency_ms": _latencies([frame.spans for frame in result.frames]),
        "reference_latency_ms": (
            None
            if result.reference is None
            else _latencies([frame.reference_spans for frame in result.frames])
        ),
        "wall_s": result.wall_s,
        "frames": [_frame(frame) for frame in result.frames],
        "bad_frames": [asdict(bad) for bad in result.bad],
    }


def _gate(gate: GateOutcome) -> dict[str, Any]:
    value = None if math.isnan(gate.value) else gate.value
    return {**asdict(gate), "value": value, "passed": gate.passed}


def _agreement(agreement: Agreement) -> dict[str, Any]:
    per_class = {name: _totals(totals) for name, totals in agreement.per_class.items()}
    return {**_totals(agreement), "frames": agreement.frames, "per_class": per_class}


def _totals(totals: Totals) -> dict[str, Any]:
    return {
        "matched": totals.matched,
        "missed": totals.missed,
        "extra": totals.extra,
        "rate": totals.rate,
        "mean_iou": totals.mean_iou,
        "mean_score_shift": totals.mean_score_shift,
        "max_score_shift": totals.max_score_shift,
        **({} if totals.pose is None else {"pose": asdict(totals.pose)}),
    }


def _latencies(frames: Sequence[Mapping[str, int]]) -> dict[str, Any]:
    return {name: asdict(summary) for name, summary in latencies(frames).items()}


def _frame(frame: FrameRecord) -> dict[str, Any]:
    return {
        "index": frame.index,
        "key": frame.key,
        "stamp_ns": frame.stamp_ns,
        "detections": len(frame.result),
        "agreement": None if frame.agreement is None else _frame_agreement(frame.agreement),
        "spans_ms": {name: duration / NS_PER_MS for name, duration in frame.spans.items()},
    }


def _frame_agreement(agreement: FrameAgreement) -> dict[str, Any]:
    return {
        "matched": len(agreement.pairs),
        "missed": len(agreement.missed),
        "extra": len(agreement.extra),
        "rate": agreement.rate,
    }
