# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What is compiled: a source with the headers that it names, and what for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from av_compress.engines.cuda import Device
from av_compress.errors import EngineError

_INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.M)


@dataclass(frozen=True)
class KernelSource:
    """A file of kernels.

    Attributes:
        path: the file.
        text: its content.
        headers: the files of the same folder that it includes, directly or not: name, content.

    """

    path: Path
    text: str
    headers: tuple[tuple[str, str], ...] = ()

    @classmethod
    def read(cls, path: Path) -> KernelSource:
        """Read a source and what it includes with quotes.

        Raises:
            EngineError: a file of them is not there.

        """
        text = _read(path)
        headers: dict[str, str] = {}
        wanted = _INCLUDE.findall(text)
        while wanted:
            name = wanted.pop()
            if name not in headers:
                headers[name] = _read(path.parent / name)
                wanted += _INCLUDE.findall(headers[name])
        return cls(path, text, tuple(sorted(headers.items())))


def architecture(device: Device) -> str:
    """Return what compilers call a device's compute capability: `8.9` is `sm_89`."""
    return f"sm_{device.capability.replace('.', '')}"


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise EngineError(
            f"the kernel source {path} cannot be read: {error.strerror}; install the package again"
        ) from error
