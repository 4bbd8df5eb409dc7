# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Frame sources out of configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from av_compress.data.bags import BagImages
from av_compress.data.base import FrameSource
from av_compress.data.coco import CocoSource
from av_compress.data.folder import ImageFolder
from av_compress.validation import validate


def open_source(config: Mapping[str, Any], base: Path) -> FrameSource:
    """Open a frame source.

    Args:
        config: as `schema/source.schema.json` describes it: `type`, `path`, and what the type
            needs besides.
        base: the folder that relative paths are relative to.

    Raises:
        ConfigError: a key breaks the schema; key, value and what is allowed are named.
        DataError: what the configuration names is not there or cannot be used.

    """
    validate(dict(config), "source", "source")
    return _OPENERS[config["type"]](config, base)


def _images(config: Mapping[str, Any], base: Path) -> FrameSource:
    return ImageFolder(base / config["path"])


def _coco(config: Mapping[str, Any], base: Path) -> FrameSource:
    return CocoSource(base / config["annotations"], base / config["path"])


def _bag(config: Mapping[str, Any], base: Path) -> FrameSource:
    return BagImages(base / config["path"], config.get("topic"))


_OPENERS: Mapping[str, Callable[[Mapping[str, Any], Path], FrameSource]] = {
    "images": _images,
    "coco": _coco,
    "bag": _bag,
}
