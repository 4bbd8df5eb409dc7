# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Tables of records in JSON files, record after record, each fault with its place."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO, TypeVar

from av_compress.data.transforms import Transform
from av_compress.errors import DataError

# What eight bytes hold.
_LATEST = (1 << 63) - 1
# Characters that are read at once.
_CHUNK = 1 << 20
_START = re.compile(r"\s*\[\s*(\]\s*)?")
_GAP = re.compile(r"\s*([,\]])\s*")

Found = TypeVar("Found")


@dataclass(frozen=True)
class Row:
    """A record of a table. Every method raises DataError, naming file, record and key.

    Attributes:
        path: the table's file.
        number: of the record, from 1 on.
        content: key -> value.

    """

    path: Path
    number: int
    content: Mapping[str, Any]

    @property
    def where(self) -> str:
        """File and record, to begin a message with."""
        name = self.content.get("token")
        return f"{self.path}: record {name if isinstance(name, str) else f'#{self.number}'}"

    def text(self, key: str) -> str:
        """Return a text."""
        value = self._get(key)
        if not isinstance(value, str):
            raise self._wrong(key, "a text")
        return value

    def whole(self, key: str) -> int:
        """Return a whole number that is not negative."""
        value = self._get(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise self._wrong(key, "a whole number from 0 on")
        return value

    def stamp(self, key: str) -> int:
        """Return a time: a whole number that fits into eight bytes."""
        value = self.whole(key)
        if value > _LATEST:
            raise self._wrong(key, "a time")
        return value

    def flag(self, key: str) -> bool:
        """Return true or false."""
        value = self._get(key)
        if not isinstance(value, bool):
            raise self._wrong(key, "true or false")
        return value

    def numbers(self, key: str, count: int) -> Sequence[float]:
        """Return finite numbers, as many as wanted."""
        value = self._get(key)
        if isinstance(value, list) and len(value) == count and all(map(_is_number, value)):
            return value
        raise self._wrong(key, f"a list of {count} finite numbers")

    def transform(self) -> Transform:
        """Return what `translation` (metres) and `rotation` (a quaternion w, x, y, z) tell."""
        translation, (w, *vector) = self.numbers("translation", 3), self.numbers("rotation", 4)
        if not (w or any(vector)):
            raise self._wrong("rotation", "a quaternion other than 0")
        return Transform.of(translation, (*vector, w))

    def of(self, key: str, found: Mapping[str, Found], table: str) -> Found:
        """Return what a token stands for.

        Args:
            key: where the token is.
            found: token -> what is wanted.
            table: whose tokens those are, for the message.

        """
        token = self.text(key)
        if token not in found:
            raise DataError(
                f"{self.where} has {key} {token!r}, which is not in {table}.json beside it"
            )
        return found[token]

    def _get(self, key: str) -> Any:
        if key not in self.content:
            raise DataError(f"{self.where} lacks {key!r}")
        return self.content[key]

    def _wrong(self, key: str, wanted: str) -> DataError:
        return DataError(f"{self.where} has {key} {self.content[key]!r}; {wanted} is needed")


def read_table(folder: Path, name: str) -> Iterator[Row]:
    """Yield the records of `folder/name.json`, a list of objects; one at a time is in memory.

    Raises:
        DataError: the file cannot be read, is no JSON, or holds something else.

    """
    path = folder / f"{name}.json"
    try:
        with path.open(encoding="utf-8") as file:
            for number, entry in enumerate(_entries(_Window(file)), 1):
                if not isinstance(entry, dict):
                    raise DataError(f"{path}: record #{number} is no object")
                yield Row(path, number, entry)
    except OSError as error:
        raise DataError(f"table {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise DataError(f"table {path} is no list in JSON: {error}") from error


class _Window:
    """A part of a text file, which moves on: tables of a gigabyte are never whole in memory."""

    def __init__(self, file: TextIO) -> None:
        self._file, self.text, self.begin = file, file.read(_CHUNK), 0

    def skip(self, count: int) -> None:
        """Move on by so many characters."""
        self.text, self.begin = self.text[count:], self.begin + count

    def grow(self) -> bool:
        """Read on, twice as far each time; tell whether there was anything."""
        more = self._file.read(max(_CHUNK, len(self.text)))
        self.text += more
        return bool(more)

    def fault(self, what: str, at: int) -> ValueError:
        """Return an error that names the place in the file."""
        return ValueError(f"{what} (character {self.begin + at})")


def _entries(window: _Window) -> Iterator[Any]:
    """Yield the entries of a list: all at once, millions of them would fill the memory."""
    start = _START.match(window.text)
    while (start is None or start.end() == len(window.text)) and window.grow():
        start = _START.match(window.text)
    if start is None:
        raise window.fault("Expecting '['", 0)
    more, at = start[1] is None, start.end()
    while more:
        if at > _CHUNK // 2:
            window.skip(at)
            at = 0
        entry, at, end = _entry(window, at)
        yield entry
        more = end == ","
    if window.text[at:].strip() or window.grow():
        raise window.fault("Extra data", at)


def _entry(window: _Window, at: int) -> tuple[Any, int, str]:
    """Return an entry, where what follows its comma or bracket begins, and which of the two."""
    decode = json.JSONDecoder().raw_decode
    while True:
        try:
            entry, end = decode(window.text, at)
            gap = _GAP.match(window.text, end)
            what, place = "Expecting ',' delimiter", end
        except json.JSONDecodeError as error:
            gap, what, place = None, error.msg, error.pos
        # A number that ends with the window, or spaces, may go on behind it.
        if gap is not None and gap.end() < len(window.text):
            return entry, gap.end(), gap[1]
        if not window.grow():
            if gap is not None:
                return entry, gap.end(), gap[1]
            raise window.fault(what, place)


def _is_number(value: Any) -> bool:
    """Tell whether a value is a number that a float can hold."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and abs(value) <= sys.float_info.max
