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

    """
    # Imported here so that a task's dependencies load only when a task is made.
    from av_compress.tasks.camera_detection import CameraDetection

    kinds: dict[str, Callable[[Mapping[str, Any]], Task[Any, Any]]] = {
        CameraDetection.kind: CameraDetection.from_config
    }
    kind = config.get("kind") if isinstance(config, Mapping) else config
    if not isinstance(kind, str) or kind not in kinds:
        raise ConfigError(
            f"task.kind: {kind!r} is not allowed; allowed: {', '.join(sorted(kinds))}"
        )
    return kinds[kind](config)
