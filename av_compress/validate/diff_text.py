# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""A diff of two models as text for the terminal, and as JSON values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from av_compress.engines.forms import FORMS
from av_compress.metrics.agreement import Agreement
from av_compress.report.numbers import (
    NONE,
    amount,
    fixed,
    milliseconds,
    percent,
    plural,
    signed,
    size,
)
from av_compress.report.tables import Table
from av_compress.validate.diff import Diff, Side
from av_compress.validate.side_by_side import SideBySide

Row = tuple[str, str, str, str]

_CPU = "CPUExecutionProvider"
_CHANGES_SHOWN = 40
_NAMES_SHOWN = 5


def diff_text(found: Diff) -> str:
    """Write the figures, then the nodes whose precision changes, those with most work first."""
    parts = [
        f"A: {found.a.name}, sha256 {found.a.sha256[:12]}\n"
        f"B: {found.b.name}, sha256 {found.b.sha256[:12]}",
        Table(("", "A", "B", "B against A"), list(_figures(found))).text(),
    ]
    if found.changes:
        ordered = sorted(found.changes, key=lambda change: -change.a.macs)
        rows = [
            (
                change.node,
                change.a.op_type,
                change.a.precision,
                change.b.precision,
                change.b.reason or change.a.reason,
                percent(change.a.macs / found.a.macs if found.a.macs else None),
            )
            for change in ordered
        ]
        headers = ("node", "operator", "A", "B", "reason", "of A's MACs")
        parts.append(Table(headers, rows, left=5).text(_CHANGES_SHOWN))
    parts += [
        f"only in {side}: {plural(len(names), 'node')} ({_some(names)})"
        for side, names in (("A", found.only_a), ("B", found.only_b))
        if names
    ]
    if found.measured is not None:
        parts.append("\n".join(_measured_notes(found, found.measured)))
    return "\n\n".join(parts)


def diff_json(found: Diff) -> dict[str, Any]:
    """Return a diff as JSON values; what was not measured is null."""
    return {
        "a": _side(found.a),
        "b": _side(found.b),
        "changes": [
            {
                "node": change.node,
                "op_type": change.a.op_type,
                "a": change.a.precision,
                "b": change.b.precision,
                "macs": change.a.macs,
                "reason_a": change.a.reason,
                "reason_b": change.b.reason,
            }
            for change in found.changes
        ],
        "only_a": list(found.only_a),
        "only_b": list(found.only_b),
        "measured": None if found.measured is None else _measured(found.measured),
    }


def _figures(found: Diff) -> Iterator[Row]:
    a, b = found.a, found.b
    yield "size", size(a.bytes), size(b.bytes), _ratio(a.bytes, b.bytes)
    yield "operators", str(a.operators), str(b.operators), f"{b.operators - a.operators:+d}"
    yield "multiply-accumulates", amount(a.macs), amount(b.macs), _ratio(a.macs, b.macs)
    yield "FLOPs", amount(2 * a.macs), amount(2 * b.macs), _ratio(a.macs, b.macs)
    share = signed(100 * (b.int8_share - a.int8_share), 1)
    yield "of them in INT8", percent(a.int8_share), percent(b.int8_share), f"{share} points"
    changed = len(found.changes)
    common = len(a.nodes) - len(found.only_a)
    yield "nodes of another precision", "", "", f"{changed} of {common}"
    yield from _points("gate", a.accuracy, b.accuracy, same=a.judged_on == b.judged_on)
    if found.measured is not None:
        yield from _measured_figures(found.measured)


def _points(what: str, a: Any, b: Any, same: bool) -> Iterator[Row]:
    """Yield accuracies; those of different frames have no difference."""
    for metric in dict.fromkeys((*a, *b)):
        both = same and metric in a and metric in b
        change = signed(b[metric] - a[metric]) if both else NONE
        label = f"{metric} ({what})"
        yield label, fixed(a.get(metric)), fixed(b.get(metric)), change


def _measured_figures(measured: SideBySide) -> Iterator[Row]:
    a, b = measured.a, measured.b
    yield from _points("measured", a.accuracy, b.accuracy, same=True)
    for span in dict.fromkeys((*a.latency_ms, *b.latency_ms)):
        one, two = a.latency_ms.get(span, 0.0), b.latency_ms.get(span, 0.0)
        if one or two:
            yield f"{span}, median ms", milliseconds(one), milliseconds(two), _ratio(one, two)
    found: Agreement = measured.agreement
    boxes = found.matched + found.missed
    again = percent(found.matched / boxes if boxes else None)
    yield "A's boxes that B finds", str(boxes), str(found.matched), again
    yield "boxes that A does not have", "", str(found.extra), ""
    yield "mean overlap of pairs", "", "", fixed(found.mean_iou, 3)
    yield "mean shift of their scores", "", "", signed(found.mean_score_shift, 3)


def _measured_notes(found: Diff, measured: SideBySide) -> Iterator[str]:
    bad = f", {measured.bad} unusable" if measured.bad else ""
    yield f"measured in turns on {plural(measured.frames, 'frame')} of {measured.source}{bad}"
    for name, side, own in (("A", found.a, measured.a), ("B", found.b, measured.b)):
        form = FORMS.get(side.form)
        simulated = form is not None and form.simulated and _CPU in own.engine
        note = "; TensorRT is simulated: its latency here says nothing" if simulated else ""
        yield f"{name}: {own.engine}{note}"


def _side(side: Side) -> dict[str, Any]:
    return {
        "name": side.name,
        "sha256": side.sha256,
        "bytes": side.bytes,
        "operators": side.operators,
        "macs": side.macs,
        "flops": 2 * side.macs,
        "int8_mac_share": side.int8_share,
        "accuracy": dict(side.accuracy),
        "judged_on": side.judged_on or None,
        "form": side.form or None,
        "nodes": {name: asdict(node) for name, node in side.nodes.items()},
    }


def _measured(measured: SideBySide) -> dict[str, Any]:
    agreement = asdict(measured.agreement)
    return {**asdict(measured), "agreement": {**agreement, "rate": measured.agreement.rate}}


def _ratio(a: float, b: float) -> str:
    return f"{b / a:.2f} x" if a else NONE


def _some(names: Sequence[str]) -> str:
    more = len(names) - _NAMES_SHOWN
    return ", ".join(names[:_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
