# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""A build's result: in a word, in a sentence, and in the few figures that matter."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from av_compress.engines.forms import FORMS
from av_compress.engines.manifest import ArtefactRecord, GateRecord
from av_compress.engines.measurements import SpeedRecord
from av_compress.report.build_data import BuildReport
from av_compress.report.build_tables import CANDIDATES, METRICS, NAMES
from av_compress.report.conditions import explain_refusal
from av_compress.report.numbers import fixed, milliseconds, percent, signed, size
from av_compress.report.page import Fact, Verdict
from av_compress.report.tables import Tone
from av_compress.report.variants import int8_loses


@dataclass(frozen=True)
class FormResult:
    """A form's result: its name, what became of it, and its figures."""

    name: str
    word: str
    tone: Tone
    facts: tuple[Fact, ...]


def verdict(report: BuildReport) -> Verdict:
    """Say how the build went."""
    artefacts = dict(sorted(report.manifest.artefacts.items()))
    lines = tuple(_line(report, name, one) for name, one in artefacts.items())
    if all(artefact.gate is None for artefact in artefacts.values()):
        return Verdict("", "Not judged", "The recipe asked for no check of accuracy.", lines)
    refused = {name: one for name, one in artefacts.items() if one.refused}
    if refused:
        names = " and of the ".join(NAMES[name] for name in refused)
        return Verdict(
            "bad",
            "Refused",
            f"No candidate of the {names} holds every limit; no bundle was written.",
            tuple(_refusal(report, name, one) for name, one in refused.items()),
        )
    fallen = [(name, one) for name, one in artefacts.items() if one.fell_back]
    if fallen:
        reasons = " ".join(_fall_back(name, one) for name, one in fallen)
        return Verdict("warn", "Accepted, but not as wanted", reasons, lines)
    return Verdict("good", "Accepted", "Every form passes with its first candidate.", lines)


def forms(report: BuildReport) -> tuple[FormResult, ...]:
    """Return every form's result."""
    return tuple(
        FormResult(NAMES[name], _word(one), _tone(one), tuple(_facts(report, name)))
        for name, one in sorted(report.manifest.artefacts.items())
    )


def _tone(artefact: ArtefactRecord) -> Tone:
    if artefact.refused:
        return "bad"
    if artefact.gate is None:
        return ""
    return "warn" if artefact.fell_back else "good"


def _word(artefact: ArtefactRecord) -> str:
    kind = _kind(artefact)
    if artefact.refused:
        return f"refused; nearest: {kind}"
    return f"{kind}, not judged" if artefact.gate is None else f"{kind}, accepted"


def _kind(artefact: ArtefactRecord) -> str:
    return (
        CANDIDATES[artefact.attempt.candidate]
        if artefact.attempt is not None
        else "of an unknown kind"
    )


def _line(report: BuildReport, name: str, artefact: ArtefactRecord) -> str:
    parts = []
    gate, speed = artefact.gate, report.speed(name, artefact.sha256)
    if gate is not None:
        parts.append(f"{_kept(gate)} of FP32’s {METRICS[gate.metric]} kept")
    parts.append(f"{percent(artefact.int8_mac_share)} of the arithmetic in INT8")
    if speed is not None:
        parts.append(f"{fixed(speed.speedup)} times as fast as {speed.against.upper()}")
    share = percent(artefact.bytes / report.manifest.source.bytes, 0)
    parts.append(f"{share} of the source’s size")
    if artefact.choice is not None and int8_loses(artefact.choice):
        parts.append("INT8 loses on this compiler")
    # A figure and its unit stay on one line.
    text = f"{NAMES[name]}, {_kind(artefact)}: {', '.join(parts)}."
    return text.replace(" %", "\u00a0%")


def _fall_back(name: str, artefact: ArtefactRecord) -> str:
    wanted = artefact.attempts[0]
    return (
        f"The {NAMES[name]} fell back to {_kind(artefact)}: "
        f"{CANDIDATES[wanted.candidate]} was {wanted.verdict} ({wanted.reason})."
    )


def _refusal(report: BuildReport, name: str, artefact: ArtefactRecord) -> str:
    assert artefact.attempt is not None
    words = explain_refusal(
        artefact.attempts, artefact.attempt, lambda one: report.speed(name, one.sha256)
    )
    return f"{NAMES[name]}: {words}.".replace(" %", "\u00a0%")


def _facts(report: BuildReport, name: str) -> Iterator[Fact]:
    artefact = report.manifest.artefacts[name]
    checks = artefact.attempt.checks if artefact.attempt is not None else ()
    failed = {check.gate for check in checks if check.verdict == "failed"}
    if artefact.gate is not None:
        yield _accuracy_fact(artefact.gate, "bad" if failed & {"accuracy", "class"} else "")
    yield Fact(percent(artefact.int8_mac_share), "of the arithmetic in INT8", "")
    speed = report.speed(name, artefact.sha256)
    if speed is not None:
        yield _speed_fact(speed)
    elif artefact.gate is not None and FORMS[name].simulated:
        yield Fact("–", "speed", "not measured here: needs the device")
    source = report.manifest.source.bytes
    note = f"{size(artefact.bytes)} of {size(source)}"
    tone: Tone = "bad" if "size" in failed else ""
    yield Fact(percent(artefact.bytes / source, 0), "of the source’s size", note, tone)


def _accuracy_fact(gate: GateRecord, tone: Tone) -> Fact:
    change = signed(gate.candidate - gate.reference)
    note = (
        f"{fixed(gate.reference)} → {fixed(gate.candidate)} points ({change}); "
        f"{fixed(gate.max_loss)} may be lost"
    )
    label = f"of FP32’s {METRICS[gate.metric]} kept"
    return Fact(_kept(gate), label, note, tone)


def _speed_fact(speed: SpeedRecord) -> Fact:
    before, after = map(milliseconds, (speed.against_ms.best, speed.candidate_ms.best))
    factor = speed.speedup
    return Fact(
        f"{fixed(factor)} ×",
        f"as fast as {speed.against.upper()}",
        f"{before} → {after} ms",
        "bad" if factor < 1.0 else "",
    )


def _kept(gate: GateRecord) -> str:
    return percent(gate.candidate / gate.reference if gate.reference else None)
