# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""ROS where it is installed, and a clear word where it is not."""

from __future__ import annotations

import importlib
from typing import Any

from av_compress.errors import MissingExtraError

_OUTSIDE_PYPI = ("vision_msgs", "tf2_msgs")


def require_rclpy() -> None:
    """Make sure that rclpy can be imported.

    Raises:
        MissingExtraError: it is not installed, or no ROS installation is sourced.

    """
    _import("rclpy", "a node (source a ROS installation, or use the extra)")


def message_class(name: str) -> Any:
    """Return the class of a message.

    Args:
        name: package and type, e.g. `sensor_msgs/Image`.

    Raises:
        MissingExtraError: the message's package is not installed.

    """
    package, _, kind = name.partition("/")
    purpose = f"message {name}"
    if package in _OUTSIDE_PYPI:
        deb = f"ros-$ROS_DISTRO-{package.replace('_', '-')}"
        purpose += f" (apt: {deb}; beside PyPI's ROS: scripts/generate_messages.py)"
    return getattr(_import(f"{package}.msg", purpose), kind)


def _import(module: str, purpose: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(error.name or module, "ros", purpose) from error
