# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The calibration cache: observations kept between builds, found by all that they depend on."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass, fields
from pathlib import Path

from av_compress.build.keys import ObservationKey
from av_compress.compress.observe.statistics import Statistics
from av_compress.compress.observe.store import read_header, read_store, write_store
from av_compress.errors import DataError

# The entries that were used longest ago make room for new ones.
LIMIT_BYTES = 1 << 30
# An entry that agrees in fewer parts of the key than this is about something else.
_NEAR = 3
_PARTS = len(fields(ObservationKey))


@dataclass(frozen=True)
class CalibrationCache:
    """A folder with one file for each run of observers.

    Attributes:
        folder: where; made when something is kept.
        limit: most bytes that all entries together take.

    """

    folder: Path
    limit: int = LIMIT_BYTES

    def find(self, key: ObservationKey) -> Statistics | None:
        """Return what was observed under a key; None where nothing is kept.

        Raises:
            DataError: the entry is damaged.

        """
        path = self._path(key)
        if not path.exists():
            return None
        header, arrays = read_store(path)
        if ObservationKey.from_json(header["key"]) != key:
            raise DataError(f"{path} is damaged: it belongs to another key")
        # What is used stays.
        path.touch()
        return Statistics.from_state(arrays)

    def keep(self, key: ObservationKey, statistics: Statistics) -> None:
        """Keep what was observed under a key, and drop what was used longest ago.

        Raises:
            AvCompressError: the disk is full or the folder cannot be written.

        """
        write_store(self._path(key), {"key": key.to_json()}, statistics.state())
        self._evict()

    def nearest(self, key: ObservationKey, passed_over: Collection[str]) -> tuple[str, ...] | None:
        """Name in what the nearest entry differs; None where no entry is near.

        Args:
            key: what was looked for.
            passed_over: hashes of keys that are not compared.

        """
        others = [
            other
            for other in self._keys()
            if other.kind == key.kind and other.sha256 not in passed_over
        ]
        found = [key.differences(other) for other in others]
        near = [parts for parts in found if _PARTS - len(parts) >= _NEAR]
        return min(near, key=len, default=None)

    def _path(self, key: ObservationKey) -> Path:
        return self.folder / f"{key.sha256}.npz"

    def _entries(self) -> list[tuple[Path, os.stat_result]]:
        """List the entries, the latest used first; another build may remove one at any time."""
        found = []
        for path in self.folder.glob("*.npz"):
            try:
                found.append((path, path.stat()))
            except OSError:
                continue
        return sorted(found, key=lambda entry: (-entry[1].st_mtime_ns, entry[0].name))

    def _keys(self) -> Iterator[ObservationKey]:
        for path, _ in self._entries():
            try:
                yield ObservationKey.from_json(read_header(path)["key"])
            except (DataError, KeyError, TypeError):
                # Nobody asked for this one; it is told when somebody does.
                continue

    def _evict(self) -> None:
        total = 0
        for path, status in self._entries():
            total += status.st_size
            if total > self.limit:
                path.unlink(missing_ok=True)
