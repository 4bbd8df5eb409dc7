# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What observations depend on, and in what two of them differ."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from typing import Any

import cv2
import onnx

from av_compress import __version__
from av_compress.compress.observe.statistics import Wanted
from av_compress.fileio import canonical_json, sha256_bytes
from av_compress.tasks.base import Task

# What parts are called whose keys can be named, and how many of these are.
_NAMES = {"preprocess": "preprocess", "observers": "set of observers", "tools": "set of tools"}
_NAMED = 3


@dataclass(frozen=True)
class ObservationKey:
    """All that observations depend on: with equal keys they are equal bit for bit.

    Attributes:
        model: hex SHA-256 of the model that is run.
        frames: hex SHA-256 of what each frame shows, in order.
        preprocess: configuration that decides what tensors a frame becomes.
        observers: what is observed, and how.
        tools: versions of what takes part.

    """

    model: str
    frames: tuple[str, ...]
    preprocess: Mapping[str, Any]
    observers: Mapping[str, Any]
    tools: Mapping[str, Any]

    @staticmethod
    def of(
        model: onnx.ModelProto, wanted: Wanted, task: Task[Any, Any], frames: Sequence[str]
    ) -> ObservationKey:
        """Make the key of a run.

        Args:
            model: the model that is run.
            wanted: what is observed.
            task: makes its input tensors.
            frames: hex SHA-256 of what each frame shows, in order.

        """
        return ObservationKey(
            model=sha256_bytes(model.SerializeToString(deterministic=True)),
            frames=tuple(frames),
            preprocess=task.preprocess_config(),
            observers=wanted.settings(),
            tools=observing_tools(),
        )

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> ObservationKey:
        """Restore what `to_json` returned."""
        parts = {field.name: value[field.name] for field in fields(ObservationKey)}
        return ObservationKey(**{**parts, "frames": tuple(value["frames"])})

    def to_json(self) -> dict[str, Any]:
        """Return the key as JSON values."""
        return {**asdict(self), "frames": list(self.frames)}

    @property
    def sha256(self) -> str:
        """Hash of the whole key."""
        return sha256_bytes(canonical_json(self.to_json()).encode())

    @property
    def kind(self) -> tuple[bool, bool]:
        """Whether values are counted, and whether channels are kept."""
        return bool(self.observers["histograms"]), bool(self.observers["channels"])

    def differences(self, other: ObservationKey) -> tuple[str, ...]:
        """Name the parts in which another key differs, and what of them."""
        found = []
        if self.model != other.model:
            found.append("model (graph or weights)")
        if self.frames != other.frames:
            found.append(f"choice of frames ({_frames(self.frames, other.frames)})")
        for part, words in _NAMES.items():
            keys = list(_changed(getattr(self, part), getattr(other, part), ""))
            if keys:
                more = ", ..." * (len(keys) > _NAMED)
                found.append(f"{words} ({', '.join(keys[:_NAMED])}{more})")
        return tuple(found)


def observing_tools() -> dict[str, str]:
    """Return the versions of everything that can change what is observed of a model."""
    return {
        "av_compress": __version__,
        "numpy": version("numpy"),
        "onnxruntime": version("onnxruntime"),
        "opencv": cv2.__version__,
        "machine": platform.machine(),
    }


def _frames(mine: Sequence[str], theirs: Sequence[str]) -> str:
    new = len(set(mine) - set(theirs))
    if new:
        return f"{new} of {len(mine)} are new"
    return "fewer" if len(mine) < len(theirs) else "in another order"


def _changed(mine: Any, theirs: Any, path: str) -> Iterator[str]:
    """Yield the paths of the keys at which two JSON values differ."""
    if isinstance(mine, Mapping) and isinstance(theirs, Mapping):
        for key in sorted({*mine, *theirs}):
            yield from _changed(mine.get(key), theirs.get(key), f"{path}.{key}" if path else key)
    elif mine != theirs:
        yield path
