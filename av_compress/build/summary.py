# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""A bundle in a few lines of text, for the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from av_compress.engines.manifest import ArtefactRecord, AttemptRecord, Manifest
from av_compress.engines.measurements import Measurements, SpeedRecord
from av_compress.engines.variants import ChoiceRecord
from av_compress.report.variants import int8_loses, target_words, variant_lines

_VERDICTS = {"passed": "passed", "failed": "FAILED", "not_judged": "not judged"}


def build_summary(manifest: Manifest, measurements: Measurements | None = None) -> str:
    """Say what a bundle holds, how it was judged, and what was tried before it.

    Args:
        manifest: of the bundle.
        measurements: the times that were taken when it was built, if they are at hand.

    """
    calibration = manifest.calibration
    lines = [
        f"name:        {manifest.name}",
        f"source:      {manifest.source.name}, {_kib(manifest.source.bytes)}, "
        f"sha256 {manifest.source.sha256[:12]}",
        f"task:        {manifest.task['kind']}, {len(manifest.task['class_names'])} classes",
        f"calibration: {len(calibration.frames)} frames of {calibration.source} "
        f"({calibration.sampling}), thresholds by {calibration.threshold}",
        f"recipe:      sha256 {manifest.recipe_sha256[:12]}",
    ]
    for emitter, record in sorted(manifest.artefacts.items()):
        lines += ["", *_artefact_lines(emitter, record, measurements)]
    return "\n".join(lines)


def _artefact_lines(
    emitter: str, record: ArtefactRecord, measurements: Measurements | None
) -> Iterator[str]:
    counts = Counter(node.precision for node in record.nodes)
    nodes = ", ".join(f"{count} {precision}" for precision, count in sorted(counts.items()))
    yield f"{emitter}: {record.path}, {_kib(record.bytes)}, sha256 {record.sha256[:12]}"
    attempt = record.attempt
    if attempt is not None:
        yield from _candidate_lines(record, attempt)
    yield (f"  precision: {record.int8_mac_share:.1%} of multiply-accumulates in INT8 ({nodes})")
    if record.choice is not None:
        yield from _choice_lines(record.choice)
    yield from _gate_lines(record)
    for check in attempt.checks[1:] if attempt is not None else ():
        yield f"  {check.gate + ':':<10} {_VERDICTS[check.verdict]}: {check.reason}"
    if measurements is not None:
        yield from _speed_lines(measurements.of(emitter, record.sha256), measurements)


def _candidate_lines(record: ArtefactRecord, attempt: AttemptRecord) -> Iterator[str]:
    """Say which candidate it is, and loudly where another one was wanted."""
    if not record.fell_back:
        yield f"  candidate: {attempt.candidate}"
        return
    wanted = record.attempts[0].candidate.upper()
    yield f"  candidate: {attempt.candidate}  *** FELL BACK: {wanted} WAS NOT ACCEPTED ***"
    for other in record.attempts:
        if other != attempt:
            yield f"             {other.candidate} {other.verdict}: {other.reason}"


def _choice_lines(choice: ChoiceRecord) -> Iterator[str]:
    """List the variants, what the compiler made of each, and what became of it."""
    yield f"  compiled:  by {target_words(choice)}"
    if int8_loses(choice):
        yield "             *** INT8 LOSES: FLOAT COSTS LESS ***"
    for line in variant_lines(choice):
        yield f"             {line}"


def _gate_lines(record: ArtefactRecord) -> Iterator[str]:
    gate = record.gate
    if gate is None:
        yield "  gate:      none: the recipe asked for no check of accuracy"
        return
    verdict = "passed" if gate.passed else "FAILED"
    yield (
        f"  gate:      {verdict}: {gate.metric} {gate.reference:.2f} -> {gate.candidate:.2f} "
        f"(loss {gate.reference - gate.candidate:+.2f}, allowed {gate.max_loss:.2f}) "
        f"on {gate.frames} frames of {gate.source}"
    )
    for name in sorted(gate.figures):
        if not name.startswith("fp32_") and name != gate.metric:
            yield (
                f"             {name} {gate.figures[f'fp32_{name}']:.2f} -> "
                f"{gate.figures[name]:.2f}"
            )


def _speed_lines(speed: SpeedRecord | None, measurements: Measurements) -> Iterator[str]:
    if speed is None:
        return
    slower = "  *** SLOWER ***" if speed.speedup < 1.0 else ""
    threads = f"{speed.threads} threads" if speed.threads != 1 else "1 thread"
    yield (
        f"  measured:  {speed.speedup:.2f} x as fast as {speed.against} "
        f"({speed.candidate_ms.best:.2f} ms against {speed.against_ms.best:.2f} ms, "
        f"{threads}, {measurements.machine}){slower}"
    )


def _kib(size: int) -> str:
    return f"{size / 1024:,.0f} KiB"
