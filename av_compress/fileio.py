# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Files that appear whole or not at all, and their hashes."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from av_compress.errors import AvCompressError, UsageError


def sha256_bytes(data: bytes) -> str:
    """Return the hex SHA-256 of `data`."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Return the hex SHA-256 of a file's content, read in blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def canonical_json(value: Any) -> str:
    """Serialise so that equal values give equal bytes: sorted keys, two-space indent.

    NaN and infinities are refused (ValueError), since JSON has no word for them.
    """
    return json.dumps(value, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"


def _explain_os_error(error: OSError, path: Path) -> AvCompressError:
    return AvCompressError(
        f"cannot write {path}: {error.strerror or error} "
        "(nothing was left half-written; free space or choose another place)"
    )


# A write that meets a full disk does not say which file it was.
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@contextmanager
def _explained(temporary: Path, path: Path) -> Iterator[None]:
    """Explain what fails in writing `temporary`; other errors of the work inside pass."""
    try:
        yield
    except OSError as error:
        named = [Path(os.fsdecode(n)) for n in (error.filename, error.filename2) if _is_path(n)]
        if error.errno in _FULL or any(n.is_relative_to(temporary) for n in named):
            raise _explain_os_error(error, path) from error
        raise


def _is_path(name: object) -> bool:
    """Tell whether what an error names is a path; some name a descriptor's number, or nothing."""
    return isinstance(name, (str, bytes, os.PathLike))


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path that replaces `path` on success and vanishes on any exception.

    Raises:
        AvCompressError: the disk is full or the folder cannot be written.

    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(
            prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent
        )
        os.close(descriptor)
    except OSError as error:
        raise _explain_os_error(error, path) from error
    temporary = Path(name)
    try:
        with _explained(temporary, path):
            yield temporary
        try:
            # mkstemp makes files private; results are for others to read, within the umask.
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)
            temporary.replace(path)
        except OSError as error:
            raise _explain_os_error(error, path) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` atomically, as UTF-8."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


# Hexadecimal digits of a SHA-256.
_DIGITS = 64


def write_hashed(path: Path, data: bytes) -> None:
    """Write `data` behind its own SHA-256 and a line feed; see `read_hashed`.

    Raises:
        AvCompressError: the disk is full or the folder cannot be written.

    """
    with atomic_file(path) as temporary:
        temporary.write_bytes(f"{sha256_bytes(data)}\n".encode() + data)


def read_hashed(path: Path) -> bytes:
    """Return what `write_hashed` wrote; nothing where the file is absent or damaged."""
    try:
        content = path.read_bytes()
    except OSError:
        return b""
    digest, data = content[:_DIGITS], content[_DIGITS + 1 :]
    return data if digest == sha256_bytes(data).encode() else b""


@contextmanager
def atomic_directory(path: Path, owner_mark: str) -> Iterator[Path]:
    """Yield an empty folder that takes `path`'s place on success and vanishes on any exception.

    Args:
        path: the final folder. An existing one is replaced only if it is empty or holds a file
            `owner_mark`.
        owner_mark: name of the file by which an earlier output of the same kind is recognised.

    Raises:
        UsageError: `path` holds something that is not ours.
        AvCompressError: the disk is full or the folder cannot be written.

    """
    if path.exists() and not _replaceable(path, owner_mark):
        raise UsageError(
            f"{path} exists and is not an earlier output (it has no {owner_mark}); "
            "choose another folder or remove it"
        )
    # Named before it is made, so that there is no moment in which an interrupt leaves it behind.
    temporary = path.parent / f".{path.name}.{secrets.token_hex(4)}"
    try:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.mkdir(mode=0o700)
        except OSError as error:
            raise _explain_os_error(error, path) from error
        with _explained(temporary, path):
            yield temporary
        try:
            _swap_in(temporary, path)
        except OSError as error:
            raise _explain_os_error(error, path) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _replaceable(path: Path, owner_mark: str) -> bool:
    return path.is_dir() and ((path / owner_mark).exists() or not any(path.iterdir()))


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two folders in one step, so that a kill at any moment leaves both whole.

    Returns False, with nothing done, where the system or the file system has no such step.
    """
    # Of a link, the link would be exchanged, and its removal needs another call.
    if sys.platform != "linux" or other.is_symlink():
        return False
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    if rename is None:
        return False
    folder, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    arguments = folder, os.fsencode(one), folder, os.fsencode(other), ctypes.c_uint(exchange)
    return bool(rename(*arguments) == 0)


def _swap_in(temporary: Path, path: Path) -> None:
    umask = os.umask(0)
    os.umask(umask)
    temporary.chmod(0o777 & ~umask)
    if not path.exists():
        temporary.rename(path)
        return
    if _exchange(temporary, path):
        # The old one now has the temporary name, and goes with it.
        return
    # In two steps: the old one steps aside first and comes back should the second step fail.
    aside = Path(tempfile.mkdtemp(prefix=f".{path.name}.old.", dir=path.parent)) / "old"
    path.rename(aside)
    try:
        temporary.rename(path)
    except OSError:
        aside.rename(path)
        raise
    finally:
        shutil.rmtree(aside.parent, ignore_errors=True)
