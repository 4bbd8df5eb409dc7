# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""A bundle in a few lines of text, for the terminal."""

from __future__ import annotations

from collections import Counter

from av_compress.engines.manifest import ArtefactRecord, Manifest


def build_summary(manifest: Manifest) -> str:
    """Say what a bundle holds and how it was judged."""
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
        lines += ["", *_artefact_lines(emitter, record)]
    return "\n".join(lines)


def _artefact_lines(emitter: str, record: ArtefactRecord) -> list[str]:
    counts = Counter(node.precision for node in record.nodes)
    nodes = ", ".join(f"{count} {precision}" for precision, count in sorted(counts.items()))
    lines = [
        f"{emitter}: {record.path}, {_kib(record.bytes)}, sha256 {record.sha256[:12]}",
        f"  precision: {record.int8_mac_share:.1%} of multiply-accumulates in INT8 ({nodes})",
    ]
    gate = record.gate
    if gate is None:
        return [*lines, "  gate:      none: the recipe asked for no check of accuracy"]
    verdict = "passed" if gate.passed else "FAILED"
    lines.append(
        f"  gate:      {verdict}: {gate.metric} {gate.reference:.2f} -> {gate.candidate:.2f} "
        f"(loss {gate.reference - gate.candidate:+.2f}, allowed {gate.max_loss:.2f}) "
        f"on {gate.frames} frames of {gate.source}"
    )
    others = [name for name in sorted(gate.figures) if not name.startswith("fp32_")]
    for name in others:
        if name != gate.metric:
            lines.append(
                f"             {name} {gate.figures[f'fp32_{name}']:.2f} -> "
                f"{gate.figures[name]:.2f}"
            )
    return lines


def _kib(size: int) -> str:
    return f"{size / 1024:,.0f} KiB"
