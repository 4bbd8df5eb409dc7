# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The arguments that name recorded frames, for the verbs that take some."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from av_compress.data.base import FrameSource

_BAG_SUFFIXES = frozenset({".mcap", ".db3"})


def add_frame_arguments(group: argparse._ArgumentGroup, otherwise: str = "") -> None:
    """Declare --data, --images and --topic.

    Args:
        group: where.
        otherwise: what happens without --data.

    """
    group.add_argument(
        "--data",
        type=Path,
        metavar="PATH",
        help=f"frames: a bag, a folder of images, or annotations in COCO form (.json){otherwise}",
    )
    group.add_argument(
        "--images",
        type=Path,
        metavar="DIR",
        help="where the images of annotations are; by default the annotations' folder",
    )
    group.add_argument("--topic", help="image topic of a bag; by default its only one")


def open_frames(path: Path, topic: str | None, images: Path | None) -> FrameSource:
    """Open what --data names.

    Args:
        path: of --data.
        topic: of --topic.
        images: of --images.

    Raises:
        UsageError: the others do not go with it.
        DataError: there are no frames that can be used.

    """
    from av_compress.data.bags import BagImages
    from av_compress.data.coco import CocoSource
    from av_compress.data.folder import ImageFolder
    from av_compress.errors import UsageError

    annotations = path.suffix == ".json"
    bag = path.suffix in _BAG_SUFFIXES or (path / "metadata.yaml").is_file()
    if images is not None and not annotations:
        raise UsageError("--images goes with annotations in COCO form (--data FILE.json)")
    if topic is not None and not bag:
        raise UsageError("--topic goes with a bag (--data BAG)")
    if annotations:
        return CocoSource(path, images or path.parent)
    return BagImages(path, topic) if bag else ImageFolder(path)
