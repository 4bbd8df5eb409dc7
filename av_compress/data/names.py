# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Names of a data set's parts: lists of those to take, and how many of them a message shows."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from av_compress.errors import DataError

_NAMED_AT_MOST = 3


def read_split(split: Path, known: Collection[str], noun: str, root: Path) -> tuple[str, ...]:
    """Read the names to take out of a text file, separated by white space.

    Args:
        split: the file.
        known: the names that are there.
        noun: what they are names of.
        root: where those are.

    Returns:
        the names in their own order, not the file's.

    Raises:
        DataError: the file cannot be read, names nothing, something twice, or what is not there.

    """
    try:
        names = split.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"split {split} cannot be read: {reason}") from error
    if not names or len(set(names)) < len(names):
        raise DataError(f"split {split} names {f'no {noun}' if not names else f'a {noun} twice'}")
    there = set(known)
    if absent := [name for name in names if name not in there]:
        raise DataError(
            f"split {split} names {noun}s that {root} does not have: {first_names(absent)}"
        )
    return tuple(sorted(names))


def first_names(names: Sequence[str]) -> str:
    """Return the first few names, and dots where there are more."""
    return ", ".join(names[:_NAMED_AT_MOST]) + (" ..." if len(names) > _NAMED_AT_MOST else "")
