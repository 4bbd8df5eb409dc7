# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""A search's journal: every measurement as soon as it is made, so that a killed search goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from av_compress.errors import AvCompressError
from av_compress.fileio import write_text

# Where a file has more bytes when it is opened, the oldest half of its lines makes room.
LIMIT_BYTES = 32 << 20


class Journal:
    """Measurements by key, in memory and, where there is a file, in it, a line each.

    A search only ever appends to the file. A line that was cut off by the end of a process is not
    JSON, and is left out: that measurement is made again.
    """

    def __init__(
        self,
        path: Path | None = None,
        say: Callable[[str], None] = print,
        limit: int = LIMIT_BYTES,
    ) -> None:
        """Open a journal.

        Args:
            path: the file, made with its folder when something is kept; None: memory alone.
            say: is told, once, why the file cannot be used; what is kept is then in memory alone.
            limit: most bytes of the file when it is opened.

        """
        self._path, self._say = path, say
        self._known: dict[str, Any] = {}
        self.recalled = 0
        if path is not None:
            self._open(path, limit)

    def find(self, key: str) -> Any | None:
        """Return what was measured under a key; None where nothing was."""
        found = self._known.get(key)
        self.recalled += found is not None
        return found

    def keep(self, key: str, value: Any) -> None:
        """Write a measurement down."""
        self._known[key] = value
        if self._path is None:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as file:
                # A line that was cut off must not take this one with it.
                file.write("\n" + json.dumps([key, value]))
        except OSError as error:
            self._do_without(f"cannot be written: {error.strerror}")

    def _open(self, path: Path, limit: int) -> None:
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except (FileNotFoundError, NotADirectoryError):
            # There is nothing yet; whether it can be made is seen when something is kept.
            return
        except OSError as error:
            self._do_without(f"cannot be read: {error.strerror}")
            return
        lines = text.splitlines()
        if len(text) > limit:
            lines = lines[len(lines) // 2 :]
            try:
                write_text(path, "\n".join(lines))
            except AvCompressError as error:
                self._do_without(f"is too long, and cannot be cut: {error}")
        self._known = _parsed(lines)

    def _do_without(self, why: str) -> None:
        self._say(f"search journal: nothing is kept: {self._path} {why}")
        self._path = None


def _parsed(lines: list[str]) -> dict[str, Any]:
    known = {}
    for line in lines:
        try:
            key, value = json.loads(line)
        except (ValueError, TypeError):
            continue
        known[str(key)] = value
    return known
