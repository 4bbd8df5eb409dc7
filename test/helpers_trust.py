# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Keys, signed bundles with plans, and the verbs that sign and verify them."""

from pathlib import Path

import pytest
from test_bundle import write_bundle
from test_plans import record_of

pytest.importorskip("cryptography", reason="needs the extra `signing`")

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from av_compress.cli.main import main
from av_compress.engines.bundle import load_bundle
from av_compress.engines.plans.store import PlanRecord, PlanStore, PlanTarget
from av_compress.engines.trust.keys import TrustedKeys
from av_compress.errors import BundleError
from av_compress.fileio import sha256_bytes

PEM = serialization.Encoding.PEM
PKCS8 = serialization.PrivateFormat.PKCS8
SPKI = serialization.PublicFormat.SubjectPublicKeyInfo


def write_keys(folder: Path, name: str, key=None, passphrase: bytes | None = None) -> Path:
    """Write NAME.pem and NAME.pub.pem; return the private one's path."""
    key = key or ed25519.Ed25519PrivateKey.generate()
    encryption = (
        serialization.BestAvailableEncryption(passphrase)
        if passphrase
        else serialization.NoEncryption()
    )
    private = folder / f"{name}.pem"
    private.write_bytes(key.private_bytes(PEM, PKCS8, encryption))
    private.chmod(0o600)
    (folder / f"{name}.pub.pem").write_bytes(key.public_key().public_bytes(PEM, SPKI))
    return private


def public(private: Path) -> Path:
    return private.with_suffix(".pub.pem")


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return write_keys(tmp_path, "mine")


@pytest.fixture
def other(tmp_path: Path) -> Path:
    return write_keys(tmp_path, "other")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle")


def add_plan(folder: Path, data: bytes = b"plan", **options) -> PlanRecord:
    """Add a plan of the bundle's cpu artefact."""
    artefact = load_bundle(folder).manifest.artefacts["cpu"]
    template = record_of(data, **options)
    target = PlanTarget("cpu", artefact.sha256, "tensorrt_rtx", "1.7", template.target.options)
    record = PlanRecord(
        target, sha256_bytes(data), len(data), 1.0, (), {"kernels": 1, "nodes": []}
    )
    PlanStore.of(folder).keep(record, data)
    return record


def sign(folder: Path, private: Path) -> None:
    assert main(["sign", str(folder), "--key", str(private)]) == 0


def trusted(*private: Path) -> TrustedKeys:
    return TrustedKeys.load([public(path) for path in private])


def refusal(folder: Path, *private: Path) -> str:
    with pytest.raises(BundleError) as caught:
        load_bundle(folder, trusted(*private))
    assert "av-compress sign" in str(caught.value)
    return caught.value.reason


def verify(folder: Path, *private: Path) -> int:
    keys = [item for path in private for item in ("--key", str(public(path)))]
    return main(["verify", str(folder), *keys])
