# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The arguments that name recorded frames, for the verbs that take some."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    """Declare --topic, what says how clouds are read, and what brings them together, of bags."""
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
        "--time-field",
        metavar="FIELD",
        help="field that holds a point's time, likewise, where the model is told one and sweeps "
        "are not brought together (default time, t, timestamp or time_stamp)",
    )
    group.add_argument(
        "--time-unit",
        metavar="s|ms|us|ns",
        help="of that time (default s where it is a float, ns where an integer)",
    )
    group.add_argument(
        "--clock",
        metavar="stamp|epoch",
        help="what that time counts from: the cloud's stamp (default) or the epoch",
    )
    group.add_argument(
        "--ring-field",
        metavar="FIELD",
        help="field that holds a point's ring, likewise (default ring)",
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


# Keys of a bag in a recipe, and the options that are the same.
_OPTIONS = {
    "topic": "--topic",
    "topics": "--topic given several times",
    "frame": "--frame",
    "max_apart_s": "--max-apart-s",
    "fixed_frame": "--fixed-frame",
    "odometry": "--odometry",
    "fields.intensity": "--intensity",
    "fields.time": "--time-field",
    "fields.ring": "--ring-field",
    "fields.time_unit": "--time-unit",
    "fields.clock": "--clock",
}
# Of the keys below `fields`, those that name no field.
_SETTINGS = ("time_unit", "clock")
_NUMBER = re.compile(r"\[\d+\]")


def _argument(option: str) -> str:
    """Return where argparse keeps an option."""
    return option.removeprefix("--").replace("-", "_")


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
    from av_compress.validation import validate

    config = {"type": "bag", "path": str(path), **_bag_keys(args)}
    fields = [name for key, name in _given(args) if key.startswith("fields.")]
    names = {**_OPTIONS, "fields": ", ".join(fields)}

    def named(key: str) -> str:
        return names.get(_NUMBER.sub("", key), key)

    validate(config, "source", "", named=named)
    return open_bag(path, config, needs, named)


def _given(args: argparse.Namespace) -> list[tuple[str, str]]:
    """Return keys of a bag and options, of those that are given."""
    return [
        (key, option)
        for key, option in _OPTIONS.items()
        if key != "topics" and getattr(args, _argument(option)) is not None
    ]


def _bag_keys(args: argparse.Namespace) -> dict[str, Any]:
    """Return what the options are as keys of a bag in a recipe."""
    keys: dict[str, Any] = {}
    fields: dict[str, Any] = {}
    for key, option in _given(args):
        section, _, field = key.rpartition(".")
        value = getattr(args, _argument(option))
        if not section:
            keys[key] = value
        elif field in _SETTINGS:
            fields[field] = value
        elif value == _NO_FIELD:
            fields[field] = []
            fields.setdefault("zeros", []).append(field)
        else:
            fields[field] = [value]
    topics = keys.pop("topic", [])
    if topics:
        keys |= {"topics": topics} if len(topics) > 1 else {"topic": topics[0]}
    return {**keys, "fields": fields} if fields else keys


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
    for _, option in _given(args) if not bag else ():
        raise UsageError(f"{option} goes with a bag (--data BAG)")
    if bag:
        return open_topic(args, path, needs)
    if annotations:
        folder = str(images or path.parent)
        config = {"type": "coco", "path": folder, "annotations": str(path)}
    else:
        kind = "images" if needs.type is ImageFrame else "clouds"
        config = {"type": labelled_type(path) or kind, "path": str(path)}
    return open_source(config, Path(), needs)
