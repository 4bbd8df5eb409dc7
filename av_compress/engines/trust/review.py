# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Everything of a bundle that can be verified, one finding for each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from av_compress.engines.bundle import (
    MANIFEST_NAME,
    Bundle,
    parse_manifest,
    read_manifest,
    read_verified,
)
from av_compress.engines.manifest import ArtefactRecord, Manifest
from av_compress.engines.plans.store import PlanStore
from av_compress.engines.trust.keys import SigningKey, TrustedKeys, short
from av_compress.engines.trust.permissions import writers
from av_compress.engines.trust.signatures import (
    Kind,
    describe,
    sign_file,
    signature_path,
    verify_file,
)
from av_compress.errors import AvCompressError
from av_compress.fileio import sha256_bytes


@dataclass(frozen=True)
class Finding:
    """What was found of one thing.

    Attributes:
        subject: the file, or what of it.
        verdict: `ok`; `note` where it could not be verified or is worth a look; `bad`.
        text: what was checked, or what is wrong and what to do.

    """

    subject: str
    verdict: Literal["ok", "note", "bad"]
    text: str


def review(root: Path, keys: TrustedKeys | None) -> Iterator[Finding]:
    """Verify a bundle's hashes, its plans, and their signatures where keys are given.

    Args:
        root: the bundle's folder.
        keys: those that are trusted; None: signatures are described, not verified.

    Raises:
        BundleError: there is no manifest.

    """
    data = read_manifest(root)
    yield from _writable(root / MANIFEST_NAME)
    yield _signature("manifest", root / MANIFEST_NAME, data, keys)
    try:
        manifest = parse_manifest(root, data)
    except AvCompressError as error:
        yield Finding(MANIFEST_NAME, "bad", str(error))
        return
    for record in manifest.artefacts.values():
        yield from _writable(root / record.path)
        yield _attempt(record.path, partial(_artefact, root, record))
    yield from _plans(root, manifest, keys)


def sign_bundle(bundle: Bundle, key: SigningKey) -> Iterator[Finding]:
    """Sign a bundle's manifest, and the record of every plan that is whole and fits.

    A plan that is not whole loses the signature that it may have.

    Raises:
        AvCompressError: a signature cannot be written.

    """
    data = read_manifest(bundle.root)
    if sha256_bytes(data) != bundle.sha256:
        raise AvCompressError(f"{bundle.manifest_path} changed while it was verified; sign again")
    sign_file("manifest", bundle.manifest_path, data, key)
    yield Finding(MANIFEST_NAME, "ok", f"signed by the key {short(key.key_id)}")
    store = PlanStore.of(bundle.root)
    for name in _keys_of(store):
        path = store.record_path(name)
        try:
            data = path.read_bytes()
            _fit(store, bundle.manifest, name)
        except (AvCompressError, OSError) as error:
            signature_path(path).unlink(missing_ok=True)
            yield Finding(f"plan {name}", "note", f"not signed: {error}")
            continue
        sign_file("plan", path, data, key)
        yield Finding(f"plan {name}", "ok", f"signed by the key {short(key.key_id)}")


def _plans(root: Path, manifest: Manifest, keys: TrustedKeys | None) -> Iterator[Finding]:
    store = PlanStore.of(root)
    for name in _keys_of(store):
        path = store.record_path(name)
        yield _attempt(f"plan {name}", partial(_fit, store, manifest, name))
        yield _signature("plan", path, path.read_bytes(), keys, f"plan {name}")
    known = set(_keys_of(store))
    for path in sorted([*store.folder.glob("*.plan"), *store.folder.glob("*.sig")]):
        if path.stem not in known:
            text = "belongs to no plan's record: nothing reads it"
            yield Finding(f"{store.folder.name}/{path.name}", "note", text)


def _artefact(root: Path, record: ArtefactRecord) -> str:
    read_verified(root, record)
    return f"has the manifest's SHA-256 {record.sha256[:12]}"


def _keys_of(store: PlanStore) -> list[str]:
    return [path.stem for path in sorted(store.folder.glob("*.json"))]


def _fit(store: PlanStore, manifest: Manifest, key: str) -> str:
    """Say that a plan is whole and of the artefact that the bundle holds; raise what is wrong."""
    record = store.record(key)
    artefact = manifest.artefacts.get(record.target.emitter)
    unfit = store.unfit(record, "" if artefact is None else artefact.sha256)
    if unfit is not None:
        raise AvCompressError(unfit.reason)
    return f"has its record's SHA-256 {record.sha256[:12]}, and is of the bundle's artefact"


def _signature(
    kind: Kind, path: Path, data: bytes, keys: TrustedKeys | None, subject: str = ""
) -> Finding:
    subject = subject or path.name
    if keys is None:
        return Finding(subject, "note", describe(path, data))
    return _attempt(
        subject, lambda: f"signed by the trusted key {short(verify_file(kind, path, data, keys))}"
    )


def _writable(path: Path) -> Iterator[Finding]:
    """Note what others can change: hashes show it unless they change the manifest too."""
    try:
        who = writers(path.stat())
    except OSError:
        return  # Told where it is read.
    if who:
        text = f"can be written by {who}; run: chmod go-w '{path}'"
        yield Finding(path.name, "note", text)


def _attempt(subject: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(subject, "ok", check())
    except AvCompressError as error:
        return Finding(subject, "bad", str(error))
