# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""A build's result: in a word, in a sentence, and in the few figures that matter."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from av_compress.engines.manifest import ArtefactRecord, AttemptRecord, GateRecord
from av_compress.engines.measurements import SpeedRecord
from av_compress.report.build_data import BuildReport
from av_compress.report.build_tables import CANDIDATES, METRICS, NAMES
from av_compress.report.conditions import explain
from av_compress.report.numbers import fixed, milliseconds, percent, signed, size
from av_compress.report.page import Fact, Verdict
from av_compress.report.tables import Tone


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
    if all(artefact.gate is None for artefact in artefacts.values()):
        return Verdict("", "Not judged", "The recipe asked for no check of accuracy.")
    refused = {name: one for name, one in artefacts.items() if one.refused}
    if refused:
        reasons = " ".join(_refusal(report, name, one) for name, one in refused.items())
        return Verdict("bad", "Refused", reasons)
    words = " ".join(_result(report, name, one) for name, one in artefacts.items())
    fallen = [(name, one) for name, one in artefacts.items() if one.fell_back]
    if fallen:
        reasons = " ".join(_fall_back(name, one) for name, one in fallen)
        return Verdict("warn", "Accepted, but not as wanted", f"{reasons} {words}")
    return Verdict("good", "Accepted", words)


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
    return CANDIDATES[artefact.attempt.candidate] if artefact.attempt is not None else "unnamed"


def _result(report: BuildReport, name: str, artefact: ArtefactRecord) -> str:
    parts = []
    gate, speed = artefact.gate, report.speed(name, artefact.sha256)
    if gate is not None:
        parts.append(f"keeps {_kept(gate)} of FP32’s {METRICS[gate.metric]}")
    parts.append(f"computes {percent(artefact.int8_mac_share)} of its arithmetic in INT8")
    if speed is not None:
        parts.append(f"is {fixed(speed.speedup.median)} times as fast as {speed.against.upper()}")
    share = percent(artefact.bytes / report.manifest.source.bytes, 0)
    parts.append(f"has {share} of the source’s size")
    return f"The {NAMES[name]} {', '.join(parts[:-1])} and {parts[-1]}."


def _fall_back(name: str, artefact: ArtefactRecord) -> str:
    wanted = artefact.attempts[0]
    return (
        f"The {NAMES[name]} fell back to {_kind(artefact)}: "
        f"{CANDIDATES[wanted.candidate]} was {wanted.verdict} ({wanted.reason})."
    )


def _refusal(report: BuildReport, name: str, artefact: ArtefactRecord) -> str:
    order = sorted(artefact.attempts, key=lambda one: one != artefact.attempt)
    reasons = "; ".join(
        f"{CANDIDATES[one.candidate]} fails {_failures(report, name, one)}"
        for one in order
        if one.verdict == "refused"
    )
    return f"No candidate of the {NAMES[name]} holds every limit. Nearest first: {reasons}."


def _failures(report: BuildReport, name: str, attempt: AttemptRecord) -> str:
    measured = report.speed(name, attempt.sha256)
    failed = [check for check in attempt.checks if check.verdict == "failed"]
    return " and ".join(f"{check.gate} ({explain(check, measured)})" for check in failed)


def _facts(report: BuildReport, name: str) -> Iterator[Fact]:
    artefact = report.manifest.artefacts[name]
    if artefact.gate is not None:
        yield _accuracy_fact(artefact.gate)
    yield Fact(percent(artefact.int8_mac_share), "of the arithmetic in INT8", "")
    speed = report.speed(name, artefact.sha256)
    if speed is not None:
        yield _speed_fact(speed)
    elif artefact.gate is not None and name == "tensorrt":
        yield Fact("–", "speed", "not measured here: needs the device")
    source = report.manifest.source.bytes
    note = f"{size(artefact.bytes)} of {size(source)}"
    yield Fact(percent(artefact.bytes / source, 0), "of the source’s size", note)


def _accuracy_fact(gate: GateRecord) -> Fact:
    change = signed(gate.candidate - gate.reference)
    note = (
        f"{fixed(gate.reference)} → {fixed(gate.candidate)} points ({change}); "
        f"{fixed(gate.max_loss)} may be lost"
    )
    label = f"of FP32’s {METRICS[gate.metric]} kept"
    return Fact(_kept(gate), label, note, "" if gate.passed else "bad")


def _speed_fact(speed: SpeedRecord) -> Fact:
    before, after = map(milliseconds, (speed.against_ms.median, speed.candidate_ms.median))
    factor = speed.speedup.median
    return Fact(
        f"{fixed(factor)} ×",
        f"as fast as {speed.against.upper()}",
        f"{before} → {after} ms",
        "bad" if factor < 1.0 else "",
    )


def _kept(gate: GateRecord) -> str:
    return percent(gate.candidate / gate.reference if gate.reference else None)
