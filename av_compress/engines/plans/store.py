# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The plans of a bundle: one file and one record for each way to compile an artefact."""

from __future__ import annotations

import errno
import fcntl
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from av_compress.engines.plans.options import CompileOptions
from av_compress.errors import AvCompressError, EngineError
from av_compress.fileio import atomic_file, canonical_json, sha256_bytes, write_text

FOLDER = "plans"
FORMAT = 1
_KEY_LENGTH = 16


@dataclass(frozen=True)
class PlanTarget:
    """What a plan was compiled of, with what and for what: all that decides whether it fits.

    Attributes:
        emitter: the artefact's form.
        artefact_sha256: hash of the artefact.
        backend: `tensorrt` or `tensorrt_rtx`.
        version: of the backend's package.
        options: see `CompileOptions`.

    """

    emitter: str
    artefact_sha256: str
    backend: str
    version: str
    options: Mapping[str, Any]

    @staticmethod
    def of(
        emitter: str, artefact_sha256: str, backend: str, version: str, options: CompileOptions
    ) -> PlanTarget:
        """Make the target of a plan."""
        # As JSON gives it back.
        plain = json.loads(canonical_json(asdict(options)))
        return PlanTarget(emitter, artefact_sha256, backend, version, plain)

    @property
    def key(self) -> str:
        """Name of the plan's files."""
        return sha256_bytes(canonical_json(asdict(self)).encode())[:_KEY_LENGTH]


@dataclass(frozen=True)
class PlanRecord:
    """A compiled plan.

    Attributes:
        target: what it fits.
        sha256: hash of the plan's file.
        bytes: size of the plan's file.
        seconds: how long it took to compile.
        warnings: what parser and builder warned of.
        account: what the compiler made of the model, see `PlanAccount`.
        format: of this record.

    """

    target: PlanTarget
    sha256: str
    bytes: int
    seconds: float
    warnings: tuple[str, ...]
    account: Mapping[str, Any]
    format: int = FORMAT


@dataclass(frozen=True)
class PlanStore:
    """The folder of a bundle's plans.

    Attributes:
        folder: `plans` inside of the bundle; made when something is kept.

    """

    folder: Path

    @staticmethod
    def of(bundle: Path) -> PlanStore:
        """Return the store of a bundle's folder."""
        return PlanStore(bundle / FOLDER)

    def find(self, target: PlanTarget) -> PlanRecord | None:
        """Return the record of a plan that is there and whole; None where there is none."""
        try:
            record = self._record(target.key)
            data = self._plan_path(target.key).read_bytes()
        except (OSError, EngineError):
            return None
        return record if record.sha256 == sha256_bytes(data) else None

    def read(self, record: PlanRecord) -> bytes:
        """Read a plan, and verify exactly the bytes that are returned.

        Raises:
            EngineError: it is absent, or not the plan that was compiled.

        """
        path = self._plan_path(record.target.key)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise EngineError(f"{path} cannot be read: {error.strerror}") from error
        if sha256_bytes(data) != record.sha256:
            raise EngineError(
                f"{path} is not the plan that was compiled: it was changed or damaged; "
                "compile it again"
            )
        return data

    def keep(self, record: PlanRecord, data: bytes) -> Path:
        """Write a plan and its record, each whole or not at all.

        Raises:
            AvCompressError: the disk is full or the folder cannot be written.

        """
        path = self._plan_path(record.target.key)
        with atomic_file(path) as temporary:
            temporary.write_bytes(data)
        # A record without its plan is no plan; a plan without its record is never read.
        write_text(self._record_path(record.target.key), canonical_json(asdict(record)))
        return path

    def records(self) -> list[PlanRecord]:
        """Return every record, in the order of their keys.

        Raises:
            EngineError: one cannot be read.

        """
        return [self._record(path.stem) for path in sorted(self.folder.glob("*.json"))]

    def unfit(self, record: PlanRecord, artefact_sha256: str) -> str:
        """Say why a plan does not fit an artefact; empty where it does.

        Args:
            record: of the plan.
            artefact_sha256: hash of the artefact that the bundle holds now.

        """
        if record.target.artefact_sha256 != artefact_sha256:
            return "it was compiled of another artefact than the bundle holds"
        try:
            self.read(record)
        except EngineError as error:
            return str(error)
        return ""

    @contextmanager
    def compiling(self, target: PlanTarget) -> Iterator[None]:
        """Let no other process compile the same plan at the same time; wait where one does.

        Raises:
            AvCompressError: the folder cannot be written.

        """
        path = self.folder / f".{target.key}.lock"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            stream = path.open("a")
        except OSError as error:
            raise AvCompressError(f"cannot write {path}: {error.strerror}") from error
        with stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX)
            except OSError as error:
                # Some network file systems have no locks: two then do the same work.
                if error.errno not in {errno.ENOLCK, errno.EOPNOTSUPP}:
                    raise AvCompressError(f"cannot lock {path}: {error.strerror}") from error
            yield

    def _plan_path(self, key: str) -> Path:
        return self.folder / f"{key}.plan"

    def _record_path(self, key: str) -> Path:
        return self.folder / f"{key}.json"

    def _record(self, key: str) -> PlanRecord:
        path = self._record_path(key)
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["format"] != FORMAT:
                raise EngineError(
                    f"{path} has format {content['format']!r}, this version reads {FORMAT}; "
                    "compile again"
                )
            target = PlanTarget(**content.pop("target"))
            warnings = tuple(content.pop("warnings"))
            return PlanRecord(target=target, warnings=warnings, **content)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise EngineError(f"{path} cannot be read: {error}; compile again") from error
