# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What tasks that detect have in common: a configuration, and a score threshold in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from av_compress.tensors import Array

# Low enough for average precision to see the whole curve that counts.
_MEASURING_SCORE = 0.05


class DetectionSettings(Protocol):
    """The validated configuration of a detector, a frozen dataclass."""

    @property
    def score_threshold(self) -> float:
        """Detections with a lower score are dropped."""
        ...

    def to_config(self) -> dict[str, Any]:
        """Return JSON values with every default filled in."""
        ...


SettingsT = TypeVar("SettingsT", bound=DetectionSettings)
TaskT = TypeVar("TaskT", bound="DetectionTask[Any]")


class DetectionTask(Generic[SettingsT]):
    """A detector's meaning, which is all in its configuration.

    Attributes:
        settings: the validated configuration.

    """

    def __init__(self, settings: SettingsT) -> None:
        """Keep the configuration."""
        self.settings = settings

    def __eq__(self, other: object) -> bool:
        """Compare configurations, which are all there is to a task."""
        return type(other) is type(self) and self.settings == other.settings

    def __hash__(self) -> int:
        """Hash the configuration."""
        return hash(self.settings)

    def config(self) -> dict[str, Any]:
        """Return the whole configuration, every default filled in."""
        return self.settings.to_config()

    def for_measuring(self: TaskT) -> TaskT:
        """Return the task with a score threshold of at most 0.05; see `Task.for_measuring`."""
        return self.with_score_threshold(min(self.settings.score_threshold, _MEASURING_SCORE))

    def with_score_threshold(self: TaskT, score_threshold: float) -> TaskT:
        """Return the same task with another threshold, e.g. a low one to measure AP."""
        settings: Any = self.settings
        return type(self)(replace(settings, score_threshold=score_threshold))


def json_values(value: Any) -> Any:
    """Return a configuration's values as JSON has them: lists where dataclasses hold tuples."""
    if isinstance(value, Mapping):
        return {key: json_values(item) for key, item in value.items()}
    return [json_values(item) for item in value] if isinstance(value, tuple) else value


def computable(array: Array) -> Array:
    """Widen half precision, in which numpy computes slowly and sums lose digits."""
    return array.astype(np.float32, copy=False) if array.dtype.kind == "f" else array
