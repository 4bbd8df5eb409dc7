# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""measurements.json: the times that a build took of its candidates, on the machine that built.

They lie beside the manifest, not in it: equal inputs give equal manifests, never equal times. No
hash covers them, and nothing is decided by them once the bundle is written.
"""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from av_compress.errors import ConfigError, DataError
from av_compress.fileio import canonical_json
from av_compress.validation import validate

MEASUREMENTS_NAME = "measurements.json"


@dataclass(frozen=True)
class Spread:
    """Repeated measurements of a time: the shortest, and the quartiles."""

    best: float
    low: float
    median: float
    high: float


@dataclass(frozen=True)
class SpeedRecord:
    """A candidate and the next higher precision of its form, timed by turns.

    Attributes:
        emitter: the form.
        candidate: `int8`, `mixed` or `fp16`.
        sha256: hash of the candidate's file, as in the manifest's attempts.
        against: the next higher precision that the form has.
        engine: backend and provider in a few words.
        threads: inside an operator; 0: one for each core.
        rounds: how often each ran.
        candidate_ms: execution of a frame by the candidate, in milliseconds.
        against_ms: the same of the other.

    """

    emitter: str
    candidate: str
    sha256: str
    against: str
    engine: str
    threads: int
    rounds: int
    candidate_ms: Spread
    against_ms: Spread

    @property
    def speedup(self) -> float:
        """How many times as fast the candidate is: the shortest time against the shortest.

        What other work on the machine adds to a time says nothing of the model, and it adds more
        to the slower one.
        """
        return self.against_ms.best / self.candidate_ms.best


@dataclass(frozen=True)
class Measurements:
    """Everything that was timed.

    Attributes:
        machine: its processor in a few words.
        speed: one entry for each pair that was timed.

    """

    machine: str
    speed: tuple[SpeedRecord, ...]

    def of(self, emitter: str, sha256: str | None) -> SpeedRecord | None:
        """Return how a form's file was timed; None where it was not."""
        found = (one for one in self.speed if (one.emitter, one.sha256) == (emitter, sha256))
        return next(found, None)

    def to_json(self) -> str:
        """Serialise."""
        return canonical_json(asdict(self))


def load_measurements(root: Path) -> Measurements | None:
    """Read the measurements of a bundle; None where it has none.

    Raises:
        DataError: the file is not what a build writes.

    """
    path = root / MEASUREMENTS_NAME
    if not path.is_file():
        return None
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        validate(value, "measurements", str(path))
    except (OSError, ValueError, ConfigError) as error:
        raise DataError(f"{path} cannot be used: {error}; remove it, or build again") from error
    return Measurements(value["machine"], tuple(map(_speed, value["speed"])))


def describe_machine() -> str:
    """Describe this machine's processor without naming the machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{_processor()}, {cores} cores"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())


def _speed(value: dict[str, Any]) -> SpeedRecord:
    spreads = ("candidate_ms", "against_ms")
    return SpeedRecord(**{**value, **{name: Spread(**value[name]) for name in spreads}})
