# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The stand-in's own plan format: what a builder was told, and the model.

Magic, length of the header, header as JSON, model, SHA-256 of all before it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

MAGIC = b"STANDIN\0"
_LENGTH = 8


class CorruptPlanError(Exception):
    """Bytes are no whole plan."""


@dataclass(frozen=True)
class Header:
    """What a plan says of itself.

    Attributes:
        package, version: what built it.
        card: the card that it was built on; empty for ahead of time.
        capabilities: `8.9`; those that it is for.
        compatibility: TensorRT's name of a level.
        version_compatible: whether other versions may load it, by host code that it holds.
        host_code: whether it holds such code.
        refittable: whether its weights can be replaced.
        verbosity: TensorRT's name of a profiling verbosity.
        tensors: name, mode, dtype, shape of inputs and outputs, in order.
        profiles: for each profile, for each input, least, usual and largest shape.
        layers: see layers.py.
        dla_core: the core, or -1.
        scratch: bytes that a context takes.

    """

    package: str
    version: str
    card: str
    capabilities: tuple[str, ...]
    compatibility: str
    version_compatible: bool
    host_code: bool
    refittable: bool
    verbosity: str
    name: str
    tensors: tuple[dict[str, Any], ...]
    profiles: tuple[dict[str, Any], ...]
    layers: tuple[dict[str, Any], ...]
    dla_core: int
    scratch: int


def write_plan(header: Header, model: bytes) -> bytes:
    """Return a plan."""
    text = json.dumps(asdict(header)).encode()
    body = MAGIC + len(text).to_bytes(_LENGTH, "little") + text + model
    return body + hashlib.sha256(body).digest()


def read_plan(data: bytes) -> tuple[Header, bytes]:
    """Return what a plan holds.

    Raises:
        CorruptPlanError: it is none, is cut short, or was changed.

    """
    if data[: len(MAGIC)] != MAGIC:
        raise CorruptPlanError("magic tag does not match")
    body, digest = data[:-32], data[-32:]
    if hashlib.sha256(body).digest() != digest:
        raise CorruptPlanError("checksum does not match: the plan is cut short or was changed")
    start = len(MAGIC) + _LENGTH
    end = start + int.from_bytes(body[len(MAGIC) : start], "little")
    entry = json.loads(body[start:end])
    for name in ("capabilities", "tensors", "profiles", "layers"):
        entry[name] = tuple(entry[name])
    return Header(**entry), body[end:]
