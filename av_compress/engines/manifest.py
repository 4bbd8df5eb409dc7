# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""A bundle's manifest: what was built, from what, and how it was judged."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from av_compress.engines.variants import ChoiceRecord
from av_compress.errors import BundleError, ConfigError
from av_compress.fileio import canonical_json
from av_compress.validation import validate

SCHEMA_VERSION = 2

REFUSALS: Mapping[str, str] = {
    "not_a_bundle": "the folder has no manifest.json",
    "manifest_unreadable": "manifest.json cannot be read or is not JSON",
    "schema_version": "the manifest was written by another version of the format",
    "manifest_invalid": "the manifest breaks its schema",
    "unsigned": "a signature is required, and there is none",
    "signature_unreadable": "a signature's file cannot be read, is cut off or not JSON",
    "signature_stale": "the signature is of an earlier content of the file, which changed since",
    "unknown_key": "the signer's key is not among the trusted ones",
    "signature_bad": "the signature is not that of the key that it names, or of another file",
    "artefact_path": "an artefact's path leaves the bundle's folder",
    "artefact_missing": "a file that the manifest lists is absent",
    "artefact_hash": "a file's content is not what the manifest says: it was changed or damaged",
    "no_artefact": "the bundle holds no artefact for the wanted emitter",
    "not_accepted": "the artefact failed its gate",
    "task_invalid": "the task configuration is not valid in this version",
}


@dataclass(frozen=True)
class FrameDigest:
    """One sample: its key in the source and the SHA-256 of its pixels."""

    key: str
    sha256: str


@dataclass(frozen=True)
class CalibrationRecord:
    """What the thresholds were computed from.

    Attributes:
        source: description of the frame source.
        sampling: how frames were chosen.
        threshold: method that chose the thresholds.
        sha256: hash over the samples' hashes, in order.
        frames: the samples.

    """

    source: str
    sampling: str
    threshold: str
    sha256: str
    frames: tuple[FrameDigest, ...]


@dataclass(frozen=True)
class NodeRecord:
    """A node's precision and the reason for it."""

    node: str
    op_type: str
    precision: str
    reason: str


@dataclass(frozen=True)
class GateRecord:
    """The accuracy of one artefact on the gate samples.

    Attributes:
        metric: what was measured, e.g. `ap50`.
        reference: value of the FP32 model, in points (0..100).
        candidate: value of the artefact, in points.
        max_loss: the largest reference - candidate that passes, in points.
        passed: whether it held.
        source: description of the gate's frame source.
        frames: number of gate samples.
        figures: every other accuracy figure measured on the way, in points.

    """

    metric: str
    reference: float
    candidate: float
    max_loss: float
    passed: bool
    source: str
    frames: int
    figures: Mapping[str, float]


@dataclass(frozen=True)
class CheckRecord:
    """One condition's verdict on one candidate.

    Attributes:
        gate: `accuracy` and `class` (points lost in the gate's metric), `size` (bytes) or `speed`
            (times as fast as the next higher precision).
        figure: what was measured; None for a speed, which stands in measurements.json, and where
            nothing could be measured.
        limit: what the recipe allows.
        verdict: `passed`, `failed`, or `not_judged` where the condition has nothing to say of
            this candidate.
        reason: in words.

    """

    gate: str
    figure: float | None
    limit: float
    verdict: str
    reason: str


@dataclass(frozen=True)
class AttemptRecord:
    """One candidate of a form, and how it was judged.

    Attributes:
        candidate: `int8`, `mixed`, `fp16` or `fp32`.
        verdict: `accepted`, `refused`, or `skipped` where it was not even made.
        reason: why, in words.
        int8_mac_share: share of multiply-accumulates in INT8, 0..1; None where it was skipped.
        bytes: size of its file; None where it was skipped.
        sha256: hash of its file, as in measurements.json; None where it was skipped.
        checks: every condition of the recipe; empty without a gate.

    """

    candidate: str
    verdict: str
    reason: str
    int8_mac_share: float | None
    bytes: int | None
    sha256: str | None
    checks: tuple[CheckRecord, ...]


@dataclass(frozen=True)
class ArtefactRecord:
    """One emitted model.

    Attributes:
        path: file inside the bundle, with forward slashes.
        sha256: hash of the file.
        bytes: size of the file.
        int8_mac_share: share of multiply-accumulates in INT8, 0..1.
        nodes: precision of every weighted node.
        gate: its accuracy on the gate samples; None where the recipe has no gate.
        attempts: every candidate of this form, in the order in which they were tried; the one
            that was accepted comes last.
        choice: the variants of this form and what a compiler made of them; None where the recipe
            compiles nothing.

    """

    path: str
    sha256: str
    bytes: int
    int8_mac_share: float
    nodes: tuple[NodeRecord, ...]
    gate: GateRecord | None
    attempts: tuple[AttemptRecord, ...] = ()
    choice: ChoiceRecord | None = None

    @property
    def attempt(self) -> AttemptRecord | None:
        """The attempt whose candidate this is; None where nothing is said of attempts."""
        return next((one for one in self.attempts if one.sha256 == self.sha256), None)

    @property
    def refused(self) -> bool:
        """Whether this candidate failed a condition."""
        return self.attempt is not None and self.attempt.verdict == "refused"

    @property
    def fell_back(self) -> bool:
        """Whether it was accepted, but another candidate was wanted first."""
        return not self.refused and self.attempts[:1] not in ((), (self.attempt,))


@dataclass(frozen=True)
class ModelRecord:
    """The source model: file name (no folder), hash and size."""

    name: str
    sha256: str
    bytes: int


@dataclass(frozen=True)
class Manifest:
    """Everything a bundle says of itself; equal inputs give equal manifests, so it holds no times.

    Attributes:
        name: the bundle's name, from the recipe.
        source: the model it was built from.
        recipe: the whole recipe with defaults filled in.
        recipe_sha256: hash of the recipe's canonical JSON.
        task: the whole task configuration.
        calibration: what the thresholds were computed from.
        artefacts: emitter -> artefact.
        versions: versions of the tools that took part.
        schema_version: version of this format.

    """

    name: str
    source: ModelRecord
    recipe: Mapping[str, Any]
    recipe_sha256: str
    task: Mapping[str, Any]
    calibration: CalibrationRecord
    artefacts: Mapping[str, ArtefactRecord]
    versions: Mapping[str, str]
    schema_version: int = SCHEMA_VERSION

    @property
    def allows_host_code(self) -> bool:
        """Whether the recipe's author asked that plans may bring code for the host."""
        return self.recipe.get("trust", {}).get("allow_host_code") is True

    @property
    def max_batch(self) -> int:
        """Most frames that the models take at once; 1 where their batch is fixed."""
        return int(self.recipe.get("optimize", {}).get("max_batch", 1))

    def to_json(self) -> str:
        """Serialise; the same manifest always gives the same bytes."""
        return canonical_json(asdict(self))

    @staticmethod
    def from_json(text: str) -> Manifest:
        """Parse and validate.

        Raises:
            BundleError: `manifest_unreadable`, `schema_version` or `manifest_invalid`.

        """
        try:
            value = json.loads(text)
        except ValueError as error:
            raise BundleError(
                "manifest_unreadable", f"manifest.json is not JSON: {error}"
            ) from error
        version = value.get("schema_version") if isinstance(value, dict) else None
        if version != SCHEMA_VERSION:
            raise BundleError(
                "schema_version",
                f"manifest.json has schema_version {version!r}, this version reads "
                f"{SCHEMA_VERSION}; build the bundle again",
            )
        try:
            validate(value, "manifest", "manifest.json")
        except ConfigError as error:
            raise BundleError("manifest_invalid", str(error)) from error
        return _manifest(value)


def _manifest(value: dict[str, Any]) -> Manifest:
    calibration = value["calibration"]
    known = {field.name for field in fields(Manifest)}
    plain = {key: value[key] for key in known - {"source", "calibration", "artefacts"}}
    return Manifest(
        source=ModelRecord(**value["source"]),
        calibration=CalibrationRecord(
            **{
                **calibration,
                "frames": tuple(FrameDigest(**frame) for frame in calibration["frames"]),
            }
        ),
        artefacts={name: _artefact(entry) for name, entry in value["artefacts"].items()},
        **plain,
    )


def _artefact(value: dict[str, Any]) -> ArtefactRecord:
    gate, choice = value["gate"], value.get("choice")
    return ArtefactRecord(
        **{
            **value,
            "nodes": tuple(NodeRecord(**node) for node in value["nodes"]),
            "gate": None if gate is None else GateRecord(**gate),
            "attempts": tuple(_attempt(entry) for entry in value["attempts"]),
            "choice": None if choice is None else ChoiceRecord.from_json(choice),
        }
    )


def _attempt(value: dict[str, Any]) -> AttemptRecord:
    checks = tuple(CheckRecord(**check) for check in value["checks"])
    return AttemptRecord(**{**value, "checks": checks})
