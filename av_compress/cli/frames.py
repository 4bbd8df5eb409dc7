# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The arguments that name recorded frames, for the verbs that take some."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from av_compress.data.bags import BagFrames
    from av_compress.data.base import FrameSource
    from av_compress.tasks.base import FrameNeeds

_NO_FIELD = "none"
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
        help="frames: a bag, a folder of images, annotations in COCO form (.json), a folder in "
        f"KITTI's or nuScenes' layout or one of clouds (.bin){otherwise}",
    )
    group.add_argument(
        "--images",
        type=Path,
        metavar="DIR",
        help="where the images of annotations are; by default the annotations' folder",
    )
    add_topic_arguments(group)


def add_topic_arguments(group: argparse._ArgumentGroup) -> None:
    """Declare --topic, --intensity, --fixed-frame and --odometry, of bags."""
    group.add_argument(
        "--topic",
        help="topic of a bag, of images or of point clouds as the task takes them; by default the "
        "bag's only one of that kind",
    )
    group.add_argument(
        "--intensity",
        metavar="FIELD",
        help="field of a bag's point clouds that holds the intensity (default intensity); none: "
        "the model is told zeros",
    )
    group.add_argument(
        "--fixed-frame",
        metavar="FRAME",
        help="where the task brings several sweeps together: a frame of a bag's /tf or odometry "
        "that stands still while the vehicle moves (default odom)",
    )
    group.add_argument(
        "--odometry",
        metavar="TOPIC",
        help="likewise: topic of a bag (nav_msgs/Odometry) that tells the motion, where /tf does "
        "not",
    )


def open_topic(args: argparse.Namespace, path: Path, needs: FrameNeeds) -> BagFrames[Any]:
    """Open the topic of a bag that --topic names and a task takes.

    Args:
        args: of `add_topic_arguments`.
        path: of the bag.
        needs: what frames the task takes.

    Raises:
        ConfigError: --intensity with a task that takes images, or --fixed-frame or --odometry
            with one that takes single sweeps.
        DataError: there are no frames that can be used.

    """
    from av_compress.data.sources import open_bag

    fields: dict[str, Any] = {}
    if args.intensity == _NO_FIELD:
        fields = {"intensity": (), "zeros": ("intensity",)}
    elif args.intensity is not None:
        fields = {"intensity": (args.intensity,)}
    motion = {key: getattr(args, key) for key in ("fixed_frame", "odometry")}
    given = {key: value for key, value in motion.items() if value is not None}
    return open_bag(path, args.topic, needs, fields, given)


def open_frames(args: argparse.Namespace, needs: FrameNeeds) -> FrameSource:
    """Open what --data names.

    Args:
        args: of `add_frame_arguments`.
        needs: what frames the task takes.

    Raises:
        UsageError: the others do not go with it.
        ConfigError: the task takes frames of another kind.
        DataError: there are no frames that can be used.

    """
    from av_compress.data.sources import labelled_type, open_source
    from av_compress.errors import UsageError
    from av_compress.tasks.base import ImageFrame

    path, images = args.data, args.images
    annotations = path.suffix == ".json"
    bag = path.suffix in _BAG_SUFFIXES or (path / "metadata.yaml").is_file()
    if images is not None and not annotations:
        raise UsageError("--images goes with annotations in COCO form (--data FILE.json)")
    for name in ("topic", "intensity", "fixed_frame", "odometry"):
        if getattr(args, name) is not None and not bag:
            raise UsageError(f"--{name.replace('_', '-')} goes with a bag (--data BAG)")
    if bag:
        return open_topic(args, path, needs)
    if annotations:
        folder = str(images or path.parent)
        config = {"type": "coco", "path": folder, "annotations": str(path)}
    else:
        kind = "images" if needs.type is ImageFrame else "clouds"
        config = {"type": labelled_type(path) or kind, "path": str(path)}
    return open_source(config, Path(), needs)
