# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Signatures beside the files that they sign: who vouches for a bundle and for its plans.

What is signed is a line that names the format and the kind of the file, and then the file, byte
for byte. So a signature of one kind of file is none of another kind.
"""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from av_compress.engines.trust.keys import SigningKey, TrustedKeys, short
from av_compress.errors import BundleError
from av_compress.fileio import canonical_json, sha256_bytes, write_text

Kind = Literal["manifest", "plan"]

FORMAT = 1
ALGORITHM = "ed25519"
_LENGTH = 64
_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Signature:
    """A signature, as its file holds it.

    Attributes:
        algorithm: `ed25519`.
        format: of this file and of what is signed; 1.
        key_id: hex SHA-256 of the signer's public key (SubjectPublicKeyInfo, DER).
        kind: what was signed: `manifest` or `plan` (a plan's record).
        sha256: hash of the file that was signed: tells one that was changed since from a forgery.
        signature: the 64 bytes, in base64.

    """

    algorithm: str
    format: int
    key_id: str
    kind: str
    sha256: str
    signature: str

    @property
    def raw(self) -> bytes:
        """The signature itself.

        Raises:
            ValueError: it is not base64.

        """
        return base64.b64decode(self.signature, validate=True)


def signature_path(path: Path) -> Path:
    """Return where the signature of a file lies."""
    return path.with_suffix(".sig")


def sign_file(kind: Kind, path: Path, data: bytes, key: SigningKey) -> Path:
    """Sign a file; an earlier signature of it goes.

    Args:
        kind: what the file is.
        path: of the file.
        data: its content, as it was verified.
        key: of the signer.

    Returns:
        the signature's path.

    Raises:
        AvCompressError: it cannot be written.

    """
    signature = base64.b64encode(key.sign(_message(kind, data))).decode()
    content = {
        "algorithm": ALGORITHM,
        "format": FORMAT,
        "key_id": key.key_id,
        "kind": kind,
        "sha256": sha256_bytes(data),
        "signature": signature,
    }
    target = signature_path(path)
    write_text(target, canonical_json(content))
    return target


def read_signature(path: Path) -> Signature | None:
    """Read the signature of a file; None where there is none.

    Raises:
        BundleError: `signature_unreadable`.

    """
    target = signature_path(path)
    try:
        return _parse(json.loads(target.read_bytes()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(
            "signature_unreadable", f"{target} is no signature: {error}; {_again(path)}"
        ) from error


def verify_file(kind: Kind, path: Path, data: bytes, keys: TrustedKeys) -> str:
    """Verify that a trusted key signed exactly these bytes.

    Args:
        kind: what the file is.
        path: of the file.
        data: its content, from which everything else must then be read.
        keys: those that are trusted.

    Returns:
        the signer's key id.

    Raises:
        BundleError: `unsigned`, `signature_unreadable`, `signature_stale`, `unknown_key` or
            `signature_bad`.

    """
    signature = read_signature(path)
    if signature is None:
        raise BundleError("unsigned", f"{path} is not signed; {_again(path)}")
    if signature.kind != kind:
        raise BundleError(
            "signature_bad",
            f"{signature_path(path)} is the signature of a {signature.kind}, not of a {kind}",
        )
    if signature.sha256 != sha256_bytes(data):
        raise BundleError(
            "signature_stale",
            f"{path} is not what was signed: it was made anew or changed since; {_again(path)}",
        )
    if signature.key_id not in keys.keys:
        raise BundleError(
            "unknown_key",
            f"{path} is signed by the key {short(signature.key_id)}, which is not trusted; "
            f"trusted: {keys}; add its public key to the trusted ones, or {_again(path)}",
        )
    if not keys.verifies(signature.key_id, signature.raw, _message(kind, data)):
        raise BundleError(
            "signature_bad",
            f"{signature_path(path)} is no signature of {path.name} by the key that it names: "
            f"one of the two was forged or damaged; {_again(path)}",
        )
    return signature.key_id


def describe(path: Path, data: bytes) -> str:
    """Say by whom a file claims to be signed; without a key that is all that can be known."""
    try:
        signature = read_signature(path)
    except BundleError as error:
        return str(error)
    if signature is None:
        return "not signed"
    if signature.sha256 != sha256_bytes(data):
        return "not signed: its signature is of an earlier content"
    return f"signed by the key {short(signature.key_id)} (not verified here)"


def _message(kind: Kind, data: bytes) -> bytes:
    return f"av_compress signature {FORMAT}: {kind}\n".encode() + data


def _parse(value: Any) -> Signature:
    names = {field.name for field in fields(Signature)}
    if not isinstance(value, dict) or set(value) != names:
        raise ValueError(f"it must hold {', '.join(sorted(names))}")
    if (value["format"], value["algorithm"]) != (FORMAT, ALGORITHM):
        raise ValueError(
            f"format {value['format']!r} with {value['algorithm']!r} is not known; "
            f"known: {FORMAT} with {ALGORITHM!r}"
        )
    for name in ("key_id", "sha256"):
        if not (isinstance(value[name], str) and _HASH.fullmatch(value[name])):
            raise ValueError(f"{name} is no SHA-256")
    signature = Signature(**value)
    if not isinstance(signature.signature, str) or len(signature.raw) != _LENGTH:
        raise ValueError(f"signature is not {_LENGTH} bytes in base64")
    return signature


def _again(path: Path) -> str:
    bundle = path.parent if path.name == "manifest.json" else path.parent.parent
    return f"sign it where the private key is: av-compress sign {bundle} --key private.pem"
