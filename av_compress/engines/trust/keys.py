# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Ed25519 keys (RFC 8032) in the PEM files that OpenSSL writes."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from av_compress.engines.trust.permissions import refuse_writable
from av_compress.errors import MissingExtraError, UsageError
from av_compress.fileio import sha256_bytes

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

_MAKE = "openssl genpkey -algorithm ed25519 -out private.pem"
_PUBLISH = "openssl pkey -in private.pem -pubout -out public.pem"
_PRIVATE_MARK = b"PRIVATE KEY-----"
# Enough of a key's id to tell keys apart by eye.
_SHOWN = 16


def short(key_id: str) -> str:
    """Return what is shown of a key's id."""
    return key_id[:_SHOWN]


@dataclass(frozen=True)
class SigningKey:
    """A private key.

    Attributes:
        key_id: hex SHA-256 of the public key's SubjectPublicKeyInfo in DER.
        warnings: what a user should know of the file that it came from.

    """

    key_id: str
    warnings: tuple[str, ...]
    _key: Ed25519PrivateKey

    @staticmethod
    def load(path: Path, passphrase: Callable[[], bytes]) -> SigningKey:
        """Read a private key, PKCS 8 in PEM.

        Args:
            path: of the file.
            passphrase: is asked where the key is encrypted.

        Raises:
            MissingExtraError: `cryptography` is not installed.
            UsageError: the file cannot be read, holds no Ed25519 key or no private one, or the
                passphrase is not right.

        """
        _require_cryptography("signing a bundle")
        data = _read(path, "private key")
        if _PRIVATE_MARK not in data and b"PUBLIC KEY-----" in data:
            raise UsageError(f"{path} is a public key; a bundle is signed with the private one")
        key = _load_private(path, data, passphrase)
        mode = stat.S_IMODE(path.stat().st_mode)
        readable = mode & (stat.S_IRGRP | stat.S_IROTH)
        warning = f"{path} can be read by others (mode {mode:03o}); run: chmod 600 '{path}'"
        return SigningKey(_key_id(key.public_key()), (warning,) if readable else (), key)

    def sign(self, message: bytes) -> bytes:
        """Return the 64 bytes of the signature of a message."""
        return bytes(self._key.sign(message))


@dataclass(frozen=True)
class TrustedKeys:
    """The public keys whose signatures count.

    Attributes:
        keys: key id -> key.

    """

    keys: Mapping[str, Ed25519PublicKey]

    @staticmethod
    def load(paths: Iterable[Path]) -> TrustedKeys:
        """Read public keys, SubjectPublicKeyInfo in PEM.

        Raises:
            MissingExtraError: `cryptography` is not installed.
            UsageError: a file cannot be read or holds no Ed25519 public key.
            EngineError: somebody beside its owner can write to a file, and so choose who is
                trusted.

        """
        _require_cryptography("verifying a signature")
        found = [_load_public(path) for path in paths]
        return TrustedKeys({_key_id(key): key for key in found})

    def __str__(self) -> str:
        """List the ids."""
        return ", ".join(map(short, self.keys)) or "none"

    def verifies(self, key_id: str, signature: bytes, message: bytes) -> bool:
        """Tell whether a signature of a message is that of a trusted key."""
        from cryptography.exceptions import InvalidSignature

        key = self.keys.get(key_id)
        if key is None:
            return False
        try:
            key.verify(signature, message)
        except InvalidSignature:
            return False
        return True


def _require_cryptography(purpose: str) -> None:
    try:
        import cryptography.hazmat.primitives.serialization  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("cryptography", "signing", purpose) from error


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{what} {path} cannot be read: {error.strerror}") from error


def _load_private(path: Path, data: bytes, passphrase: Callable[[], bytes]) -> Ed25519PrivateKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    encrypted = b"ENCRYPTED" in data
    secret = passphrase() if encrypted else None
    try:
        key: Any = load_pem_private_key(data, secret)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        if encrypted:
            raise UsageError(f"{path} is not opened by this passphrase, or damaged") from error
        raise UsageError(f"{path} is no private key in PEM; make one with: {_MAKE}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise UsageError(f"{path} is {_kind(key)}, not an Ed25519 key; make one with: {_MAKE}")
    return key


def _load_public(path: Path) -> Ed25519PublicKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    data = _read(path, "trusted key")
    refuse_writable(path)
    if _PRIVATE_MARK in data:
        raise UsageError(
            f"{path} is a private key: it belongs where bundles are signed, never where they are "
            f"verified; its public one comes from: {_PUBLISH}"
        )
    try:
        key: Any = load_pem_public_key(data)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise UsageError(f"{path} is no public key in PEM; write it with: {_PUBLISH}") from error
    if not isinstance(key, Ed25519PublicKey):
        raise UsageError(f"{path} is {_kind(key)}, not an Ed25519 key; make one with: {_MAKE}")
    return key


def _kind(key: Any) -> str:
    """Say what another key is: `_RSAPublicKey` is `an RSA key`."""
    name = type(key).__name__.lstrip("_")
    for end in ("PublicKey", "PrivateKey"):
        name = name.removesuffix(end)
    kind = {"EllipticCurve": "elliptic curve"}.get(name, name)
    return f"{'an' if kind[:1] in 'aeiouAEIOUR' else 'a'} {kind} key"


def _key_id(key: Ed25519PublicKey) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return sha256_bytes(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
