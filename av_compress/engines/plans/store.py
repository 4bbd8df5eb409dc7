# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The plans of a bundle: one file and one record for each way to compile an artefact."""

from __future__ import annotations

import errno
import fcntl
import json
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from av_compress.engines.plans.options import CompileOptions
from av_compress.engines.trust.keys import TrustedKeys
from av_compress.engines.trust.permissions import read_guarded, refuse_writable
from av_compress.engines.trust.signatures import signature_path, verify_file
from av_compress.errors import AvCompressError, EngineError
from av_compress.fileio import atomic_file, canonical_json, sha256_bytes, write_text

FOLDER = "plans"
FORMAT = 2
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
        card: name and compute capability of the card that it was compiled on and fits alone;
            empty where it fits every card of its capabilities.

    """

    emitter: str
    artefact_sha256: str
    backend: str
    version: str
    options: Mapping[str, Any]
    card: str = ""

    @staticmethod
    def of(
        emitter: str,
        artefact_sha256: str,
        backend: str,
        version: str,
        options: CompileOptions,
        card: str = "",
    ) -> PlanTarget:
        """Make the target of a plan."""
        # As JSON gives it back.
        plain = json.loads(canonical_json(asdict(options)))
        return PlanTarget(emitter, artefact_sha256, backend, version, plain, card)

    def compile_options(self) -> CompileOptions:
        """Return the options as they were given."""
        lists = {"capabilities", "batch", "flags"}
        given: dict[str, Any] = {
            key: tuple(value) if key in lists else value for key, value in self.options.items()
        }
        return CompileOptions(**given)

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
        machine: what it was compiled on, see `engines.machine.describe`; without a card empty.
        timing_cache: hash of the timings that it was compiled with; empty without any.
        format: of this record.

    """

    target: PlanTarget
    sha256: str
    bytes: int
    seconds: float
    warnings: tuple[str, ...]
    account: Mapping[str, Any]
    machine: Mapping[str, str] = field(default_factory=dict)
    timing_cache: str = ""
    format: int = FORMAT


@dataclass(frozen=True)
class PlanStore:
    """The folder of a bundle's plans.

    Attributes:
        folder: `plans` inside of the bundle; made when something is kept.
        keys: one of them must have signed a plan's record; None: no signature is required.

    """

    folder: Path
    keys: TrustedKeys | None = None

    @staticmethod
    def of(bundle: Path, keys: TrustedKeys | None = None) -> PlanStore:
        """Return the store of a bundle's folder."""
        return PlanStore(bundle / FOLDER, keys)

    def find(self, target: PlanTarget) -> PlanRecord | None:
        """Return the record of a plan that is there and whole; None where there is none.

        Raises:
            BundleError: its signature is required and does not hold.

        """
        try:
            record = self.record(target.key)
            data = self._plan_path(target.key).read_bytes()
        except (OSError, EngineError):
            return None
        return record if record.sha256 == sha256_bytes(data) else None

    def read(self, record: PlanRecord) -> bytes:
        """Read a plan, and verify exactly the bytes that are returned.

        Raises:
            EngineError: it is absent, not the plan that was compiled, or somebody beside its owner
                can write to it, to its record or to a folder of theirs.
            BundleError: its signature is required and does not hold.

        """
        key = record.target.key
        path = self._plan_path(key)
        try:
            self._refuse_writable_folders()
            refuse_writable(self.record_path(key))
            data = read_guarded(path)
        except OSError as error:
            raise EngineError(f"{path} cannot be read: {error.strerror}") from error
        if sha256_bytes(data) != record.sha256:
            raise EngineError(
                f"{path} is not the plan that was compiled: it was changed or damaged; "
                "compile it again"
            )
        if self.keys is not None and self.record(key) != record:
            raise EngineError(f"{self.record_path(key)} was changed since it was read")
        return data

    def keep(self, record: PlanRecord, data: bytes) -> Path:
        """Write a plan and its record, each whole or not at all.

        Raises:
            AvCompressError: the disk is full or the folder cannot be written.

        """
        path, described = (f(record.target.key) for f in (self._plan_path, self.record_path))
        # Of what was there before.
        _remove(signature_path(described))
        with atomic_file(path) as temporary:
            temporary.write_bytes(data)
        # A record without its plan is no plan; a plan without its record is never read.
        write_text(described, canonical_json(asdict(record)))
        for written in (path, described):
            # Whatever the umask: what others can write is not read.
            written.chmod(written.stat().st_mode & ~(stat.S_IWGRP | stat.S_IWOTH))
        return path

    def records(self) -> list[PlanRecord]:
        """Return every record, in the order of their keys.

        Raises:
            EngineError: one cannot be read.
            BundleError: a signature is required and does not hold.

        """
        return [self.record(path.stem) for path in sorted(self.folder.glob("*.json"))]

    def record(self, key: str) -> PlanRecord:
        """Return the record of the plan with this key.

        Raises:
            EngineError: it cannot be read.
            BundleError: a signature is required and does not hold.

        """
        path = self.record_path(key)
        try:
            data = path.read_bytes()
            if self.keys is not None:
                # Before a byte of it is understood.
                verify_file("plan", path, data, self.keys)
            content = json.loads(data)
            if content["format"] != FORMAT:
                raise EngineError(
                    f"{path} has format {content['format']!r}, this version reads {FORMAT}; "
                    "compile again"
                )
            target = PlanTarget(**content.pop("target"))
            warnings = tuple(content.pop("warnings"))
            record = PlanRecord(target=target, warnings=warnings, **content)
            if target.key != key:
                raise EngineError(f"{path} is the record of {target.key}: compile again")
            return record
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise EngineError(f"{path} cannot be read: {error}; compile again") from error

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

    def compiled_ns(self, record: PlanRecord) -> int:
        """Return when a plan was written, in nanoseconds since the epoch; 0 where it is absent."""
        try:
            return self._plan_path(record.target.key).stat().st_mtime_ns
        except OSError:
            return 0

    def earlier_seconds(self, target: PlanTarget) -> float | None:
        """Return how long an artefact last took to compile with a backend, on the same card.

        Versions and options may have been others. None where that is not known: records that
        cannot be read do not count.
        """

        def alike(one: PlanTarget) -> tuple[str, str, str]:
            return (one.artefact_sha256, one.backend, one.card)

        found = []
        for path in sorted(self.folder.glob("*.json")):
            try:
                record = self.record(path.stem)
            except AvCompressError:
                continue
            if alike(record.target) == alike(target):
                found.append(record)
        return max(found, key=self.compiled_ns).seconds if found else None

    @contextmanager
    def compiling(self, target: PlanTarget) -> Iterator[None]:
        """Let no other process compile the same plan at the same time; wait where one does.

        Raises:
            AvCompressError: the folder cannot be written.
            EngineError: others can write to it, so that the plan would not be read.

        """
        path = self.folder / f".{target.key}.lock"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._refuse_writable_folders()
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

    def _refuse_writable_folders(self) -> None:
        """Refuse folders in which others could put another plan in a plan's place."""
        for folder in (self.folder, self.folder.parent):
            refuse_writable(folder)

    def _plan_path(self, key: str) -> Path:
        return self.folder / f"{key}.plan"

    def record_path(self, key: str) -> Path:
        """Return the path of a plan's record; the signature beside it signs the record."""
        return self.folder / f"{key}.json"


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise AvCompressError(f"cannot write {path}: {error.strerror}") from error
