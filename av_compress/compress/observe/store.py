# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Files of arrays with a header, whole or refused: what was observed, kept for later."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from av_compress.errors import DataError
from av_compress.fileio import atomic_file, canonical_json
from av_compress.tensors import Array

# No array has this name.
_HEADER = "header"


def write_store(path: Path, header: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
    """Write a file (npz), whole or not at all.

    Args:
        path: where.
        header: JSON values that tell what the arrays are.
        arrays: name -> array; no Python objects, no name `header`.

    Raises:
        AvCompressError: the disk is full or the folder cannot be written.

    """
    sealed = {"header": header, "sha256": _digest(header, arrays)}
    text = np.frombuffer(canonical_json(sealed).encode(), np.uint8)
    members: dict[str, Any] = {_HEADER: text, **arrays}
    with atomic_file(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, **members)


def read_header(path: Path) -> Any:
    """Read what a file says its arrays are, without reading them.

    Raises:
        DataError: the file is absent, damaged, or none of `write_store`.

    """
    return _read(path, arrays=False)[0]


def read_store(path: Path) -> tuple[Any, dict[str, Array]]:
    """Read a file; its content is what was written, or it is refused.

    Returns:
        header and arrays.

    Raises:
        DataError: the file is absent, damaged, or none of `write_store`.

    """
    return _read(path, arrays=True)


def _read(path: Path, arrays: bool) -> tuple[Any, dict[str, Array]]:
    try:
        with np.load(path, allow_pickle=False) as held:
            sealed = json.loads(held[_HEADER].tobytes())
            found = {name: held[name] for name in held.files if arrays and name != _HEADER}
        header, sha256 = sealed["header"], sealed["sha256"]
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist") from error
    except Exception as error:  # zipfile and numpy raise anything on damaged files.
        raise DataError(f"{path} is damaged, or holds no observations: {error}") from error
    if arrays and _digest(header, found) != sha256:
        raise DataError(f"{path} is damaged: its content is not what was written")
    return header, found


def _digest(header: Any, arrays: Mapping[str, Array]) -> str:
    digest = hashlib.sha256(canonical_json(header).encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name}:{array.dtype.str}:{array.shape}:".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
