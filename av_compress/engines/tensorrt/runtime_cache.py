# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What TensorRT for RTX compiles just in time when a plan first runs, kept for the next load."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from av_compress.errors import AvCompressError
from av_compress.fileio import read_hashed, write_hashed

if TYPE_CHECKING:
    from tensorrt_api import ICudaEngine


class RuntimeCache:
    """A file of one plan on one card, behind its hash."""

    def __init__(self, path: Path) -> None:
        """Name the file; nothing is read yet."""
        self._path = path
        self._cache: Any = None
        self._read_blob = b""

    def give(self, config: Any) -> None:
        """Give a runtime configuration what was kept; a damaged file counts as none.

        Several configurations of one plan share it.
        """
        if self._cache is None:
            self._cache = config.create_runtime_cache()
            self._read_blob = read_hashed(self._path)
            if self._read_blob and self._cache is not None:
                self._cache.deserialize(self._read_blob)
        if self._cache is not None:
            config.set_runtime_cache(self._cache)

    def keep(self) -> None:
        """Write what is new; where it cannot be written, the next load is slower, no more."""
        made = None if self._cache is None else self._cache.serialize()
        blob = b"" if made is None else bytes(made)
        if not blob or blob == self._read_blob:
            return
        try:
            write_hashed(self._path, blob)
        except AvCompressError:
            return


def make_context(engine: ICudaEngine, cache: RuntimeCache | None) -> Any:
    """Make an execution context; None where TensorRT makes none.

    Args:
        engine: the loaded plan.
        cache: used where this TensorRT compiles just in time; None: nothing is kept.

    """
    if cache is None or not hasattr(engine, "create_runtime_config"):
        return engine.create_execution_context()
    config = engine.create_runtime_config()
    if not hasattr(config, "create_runtime_cache"):
        return engine.create_execution_context()
    cache.give(config)
    return engine.create_execution_context(config)
