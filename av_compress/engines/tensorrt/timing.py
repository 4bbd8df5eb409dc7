# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The cache of timings: what a builder measured, kept on the machine that it was measured on.

A builder that times kernels on a card takes minutes; with what it timed before it takes seconds,
and chooses the same kernels again. TensorRT for RTX compiles without a card and times nothing.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from av_compress.errors import AvCompressError
from av_compress.fileio import read_hashed, sha256_bytes, write_hashed

if TYPE_CHECKING:
    from tensorrt_api import IBuilderConfig


@dataclass(frozen=True)
class TimingCache:
    """A file of timings, behind their hash.

    Attributes:
        path: of one backend, version and card.

    """

    path: Path

    def load(self, config: IBuilderConfig) -> bool:
        """Give a builder what was timed earlier; a damaged file counts as none.

        Returns:
            Whether the builder takes timings; where it does not take these, it starts anew.

        """
        for blob in (read_hashed(self.path), b""):
            cache = config.create_timing_cache(blob)
            if cache is not None and config.set_timing_cache(cache, False):
                return True
        return False

    def store(self, config: IBuilderConfig) -> str:
        """Keep what was timed, together with what others kept meanwhile.

        Returns:
            Hex SHA-256 of the timings; empty where the builder has none.

        Raises:
            AvCompressError: the disk is full or the folder cannot be written.

        """
        cache = config.get_timing_cache()
        if cache is None:
            return ""
        with self._alone():
            others = config.create_timing_cache(read_hashed(self.path))
            if others is not None:
                cache.combine(others, False)
            blob = bytes(cache.serialize())
            write_hashed(self.path, blob)
        return sha256_bytes(blob)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        lock = self.path.with_name(f".{self.path.name}.lock")
        try:
            lock.parent.mkdir(parents=True, exist_ok=True)
            stream = lock.open("a")
        except OSError as error:
            raise AvCompressError(f"cannot write {lock}: {error.strerror}") from error
        with stream:
            # Some network file systems have no locks: two that write at once lose timings there.
            with suppress(OSError):
                fcntl.flock(stream, fcntl.LOCK_EX)
            yield
