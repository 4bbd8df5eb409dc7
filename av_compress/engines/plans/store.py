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
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from av_compress.engines.plans.options import CompileOptions
from av_compress.engines.trust.keys import TrustedKeys
from av_compress.engines.trust.permissions import GuardError, read_guarded, refuse_writable
from av_compress.engines.trust.signatures import signature_path, verify_file
from av_compress.errors import AvCompressError, BundleError, EngineError, UsageError
from av_compress.fileio import atomic_file, canonical_json, sha256_bytes, write_text

FOLDER = "plans"
FORMAT = 3
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
        return PlanTarget(emitter, artefact_sha256, backend, version, _plain(options), card)

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
        compiled_ns: when it was compiled, or last asked for and found, in nanoseconds since the
            epoch: files' times are lost where they are copied.
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
    compiled_ns: int = 0
    format: int = FORMAT


@dataclass(frozen=True)
class Misfit:
    """Why a plan cannot be used.

    Attributes:
        reason: in words.
        recompile: whether it helps to compile again; where it does not, the reason says what does.

    """

    reason: str
    recompile: bool = True


@dataclass(frozen=True)
class Survey:
    """All plans of a folder, in the order of their keys.

    Attributes:
        records: those that can be read.
        unreadable: key -> why not. Whose plans these are is not known.

    """

    records: tuple[PlanRecord, ...]
    unreadable: Mapping[str, Misfit]


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
        path = self._plan_path(record.target.key)
        # Of what was there before.
        _remove(signature_path(self.record_path(record.target.key)))
        with atomic_file(path) as temporary:
            temporary.write_bytes(data)
        _close_to_others(path)
        # A record without its plan is no plan; a plan without its record is never read.
        self._describe(record)
        return path

    def renew(self, record: PlanRecord, compiled_ns: int) -> PlanRecord:
        """Let a plan that is there count as compiled at another time, in ns since the epoch.

        A record that was signed stays as it is: its signature covers the time.

        Raises:
            AvCompressError: the folder cannot be written.

        """
        path = self.record_path(record.target.key)
        if signature_path(path).exists():
            return record
        renewed = replace(record, compiled_ns=compiled_ns)
        self._describe(renewed)
        return renewed

    def _describe(self, record: PlanRecord) -> None:
        path = self.record_path(record.target.key)
        write_text(path, canonical_json(asdict(record)))
        _close_to_others(path)

    def survey(self) -> Survey:
        """Read every record; one that cannot be used keeps none of the others from it."""
        records: list[PlanRecord] = []
        unreadable: dict[str, Misfit] = {}
        for path in sorted(self.folder.glob("*.json")):
            try:
                records.append(self.record(path.stem))
            except EngineError as error:
                unreadable[path.stem] = Misfit(str(error))
            except BundleError as error:
                # Its signature: that is not what compiling makes.
                unreadable[path.stem] = Misfit(str(error), recompile=False)
        return Survey(tuple(records), unreadable)

    def records(self) -> list[PlanRecord]:
        """Return every record that can be read, in the order of their keys; see `survey`."""
        return list(self.survey().records)

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
            _check(record)
        except (
            *(OSError, ValueError, KeyError, TypeError, AttributeError),
            *(RecursionError, UsageError),
        ) as error:
            raise EngineError(f"{path} cannot be read: {error}; compile again") from error
        if target.key != key:
            raise EngineError(f"{path} is the record of {target.key}: compile again")
        return record

    def unfit(self, record: PlanRecord, artefact_sha256: str) -> Misfit | None:
        """Say why a plan does not fit an artefact; None where it does.

        Args:
            record: of the plan.
            artefact_sha256: hash of the artefact that the bundle holds now.

        """
        if record.target.artefact_sha256 != artefact_sha256:
            return Misfit("it was compiled of another artefact than the bundle holds")
        try:
            self.read(record)
        except (GuardError, BundleError) as error:
            return Misfit(str(error), recompile=False)
        except EngineError as error:
            return Misfit(str(error))
        return None

    def earlier_seconds(self, target: PlanTarget) -> float | None:
        """Return how long an artefact last took to compile with a backend, on the same card.

        Versions and options may have been others. None where that is not known: records that
        cannot be read do not count.
        """

        def alike(one: PlanTarget) -> tuple[str, str, str]:
            return (one.artefact_sha256, one.backend, one.card)

        found = [record for record in self.records() if alike(record.target) == alike(target)]
        return max(found, key=lambda record: record.compiled_ns).seconds if found else None

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


def _plain(options: CompileOptions) -> dict[str, Any]:
    """Return options as JSON gives them back."""
    return dict(json.loads(canonical_json(asdict(options))))


def _check(record: PlanRecord) -> None:
    """Raise what `PlanStore.record` turns into its error where a record is not what is written."""
    if _plain(record.target.compile_options()) != record.target.options:
        raise ValueError(f"its options are {record.target.options}")
    if not isinstance(record.compiled_ns, int):
        raise TypeError(f"compiled_ns is {record.compiled_ns!r}")


def _close_to_others(path: Path) -> None:
    """Take from others the right to write, whatever the umask: what they can write is not read."""
    path.chmod(path.stat().st_mode & ~(stat.S_IWGRP | stat.S_IWOTH))


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise AvCompressError(f"cannot write {path}: {error.strerror}") from error
