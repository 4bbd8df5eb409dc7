# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""A search's journal: every measurement as soon as it is made, so that a killed search goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from av_compress.errors import DataError


class Journal:
    """Measurements by key, in memory and, where there is a file, in it, a line each.

    The file is only ever appended to. A line that was cut off by the end of a process is not
    JSON, and is left out: that measurement is made again.
    """

    def __init__(self, path: Path | None = None) -> None:
        """Open a journal.

        Args:
            path: the file, made with its folder when something is kept; None: memory alone.

        Raises:
            DataError: the file is there and cannot be read.

        """
        self._path = path
        self._known: dict[str, Any] = {}
        if path is not None and path.exists():
            self._known = _read(path)
        self.recalled = 0

    def find(self, key: str) -> Any | None:
        """Return what was measured under a key; None where nothing was."""
        found = self._known.get(key)
        self.recalled += found is not None
        return found

    def keep(self, key: str, value: Any) -> None:
        """Write a measurement down.

        Raises:
            DataError: the file cannot be written.

        """
        self._known[key] = value
        if self._path is None:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as file:
                # A line that was cut off must not take this one with it.
                file.write("\n" + json.dumps([key, value]))
        except OSError as error:
            raise DataError(
                f"the search's journal {self._path} cannot be written: {error.strerror}"
            ) from error


def _read(path: Path) -> dict[str, Any]:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise DataError(f"the search's journal {path} cannot be read: {error.strerror}") from error
    known = {}
    for line in lines:
        try:
            key, value = json.loads(line)
        except (ValueError, TypeError):
            continue
        known[str(key)] = value
    return known
