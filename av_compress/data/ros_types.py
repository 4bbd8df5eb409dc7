# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The rosbags library where it is installed, and the message types that bags here hold."""

from __future__ import annotations

import importlib
from typing import Any

from av_compress.data.message_definitions import VISION_MSGS
from av_compress.errors import MissingExtraError

IMAGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
CLOUD_TYPES = ("sensor_msgs/msg/PointCloud2",)


def rosbags(module: str) -> Any:
    """Import `rosbags.<module>`.

    Raises:
        MissingExtraError: rosbags is not installed.

    """
    try:
        return importlib.import_module(f"rosbags.{module}")
    except ImportError as error:
        raise MissingExtraError(
            error.name or "rosbags", "bags", "reading or writing bags"
        ) from error


def make_typestore() -> Any:
    """Return a rosbags type store with ROS 2's standard messages and vision_msgs."""
    typesys = rosbags("typesys")
    store = typesys.get_typestore(typesys.Stores.ROS2_JAZZY)
    for name, text in VISION_MSGS.items():
        store.register(typesys.get_types_from_msg(text, name))
    return store


def short_type(name: str) -> str:
    """Return `sensor_msgs/Image` for `sensor_msgs/msg/Image`."""
    return name.replace("/msg/", "/")


def long_type(name: str) -> str:
    """Return `sensor_msgs/msg/Image` for `sensor_msgs/Image`."""
    return name if "/msg/" in name else name.replace("/", "/msg/")
