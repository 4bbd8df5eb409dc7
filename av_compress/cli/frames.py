# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The arguments that name recorded frames, for the verbs that take some."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from av_compress.data.base import FrameSource, RecordedSource
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
    """Declare --topic, --intensity, and what brings clouds together, of bags."""
    group.add_argument(
        "--topic",
        action="append",
        help="topic of a bag, of images or of point clouds as the task takes them; by default the "
        "bag's only one of that kind. Given several times: LiDARs whose clouds are merged, each "
        "of the first one's with those of the others that go with it by their stamps",
    )
    group.add_argument(
        "--intensity",
        metavar="FIELD",
        help="field of a bag's point clouds that holds the intensity (default intensity); none: "
        "the model is told zeros",
    )
    group.add_argument(
        "--frame",
        metavar="FRAME",
        help="of several topics: the frame that their clouds are brought into, such as base_link",
    )
    group.add_argument(
        "--max-apart-s",
        type=float,
        metavar="S",
        help="likewise: seconds by which the stamps of merged clouds may differ (default 0.1)",
    )
    group.add_argument(
        "--fixed-frame",
        metavar="FRAME",
        help="where several sweeps or LiDARs are brought together: a frame of a bag's /tf or "
        "odometry that stands still while the vehicle moves (default odom); of several LiDARs an "
        "empty one says that the motion is not known",
    )
    group.add_argument(
        "--odometry",
        metavar="TOPIC",
        help="likewise: topic of a bag (nav_msgs/Odometry) that tells the motion, where /tf does "
        "not",
    )


# Of --topic and what goes with it, those that are named as a bag's keys in a recipe are.
_SAME_KEYS = ("frame", "max_apart_s", "fixed_frame", "odometry")
_BAG_ARGUMENTS = ("topic", "intensity", *_SAME_KEYS)


def open_topic(args: argparse.Namespace, path: Path, needs: FrameNeeds) -> RecordedSource:
    """Open the topic of a bag that --topic names and a task takes, or the topics.

    Args:
        args: of `add_topic_arguments`.
        path: of the bag.
        needs: what frames the task takes.

    Raises:
        ConfigError: the arguments do not go with one another or with the task.
        DataError: there are no frames that can be used.

    """
    from av_compress.data.bag_sources import open_bag

    config = {key: value for key in _SAME_KEYS if (value := getattr(args, key)) is not None}
    topics = args.topic or []
    if len(topics) > 1:
        config["topics"] = topics
    elif topics:
        config["topic"] = topics[0]
    if args.intensity == _NO_FIELD:
        config["fields"] = {"intensity": (), "zeros": ("intensity",)}
    elif args.intensity is not None:
        config["fields"] = {"intensity": (args.intensity,)}
    return open_bag(path, config, needs)


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
    for name in _BAG_ARGUMENTS:
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
