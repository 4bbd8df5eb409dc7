# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Task kinds by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from av_compress.errors import ConfigError
from av_compress.tasks.base import Task


def make_task(config: Mapping[str, Any]) -> Task[Any, Any]:
    """Make the task that `config` describes (the `task` section of a recipe or manifest).

    Args:
        config: JSON values; `kind` names the task, whose schema validates the rest.

    Raises:
        ConfigError: unknown kind, or a key breaks the schema.
        MissingExtraError: the kind needs a module that is not installed.

    """
    kind = config.get("kind") if isinstance(config, Mapping) else config
    if not isinstance(kind, str) or kind not in _KINDS:
        raise ConfigError(
            f"task.kind: {kind!r} is not allowed; allowed: {', '.join(sorted(_KINDS))}"
        )
    return _KINDS[kind](config)


# A task's dependencies load only when a task of its kind is made.
def _camera_detection(config: Mapping[str, Any]) -> Task[Any, Any]:
    from av_compress.tasks.camera_detection import CameraDetection

    return CameraDetection.from_config(config)


def _lidar_detection(config: Mapping[str, Any]) -> Task[Any, Any]:
    from av_compress.tasks.lidar_detection import LidarDetection

    return LidarDetection.from_config(config)


_KINDS: Mapping[str, Callable[[Mapping[str, Any]], Task[Any, Any]]] = {
    "camera_detection": _camera_detection,
    "lidar_detection": _lidar_detection,
}
