# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The vehicle's motion out of bags, and when and where its clouds were measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from av_compress.data.bags import RawMessage, raw_messages, topics_of
from av_compress.data.images import stamp_of
from av_compress.data.motion_messages import (
    ODOMETRY,
    TF,
    TF_STATIC_TOPIC,
    TF_TOPIC,
    MotionMessages,
)
from av_compress.data.ros_types import CLOUD_TYPES, long_type
from av_compress.data.sweeps import FIXED_FRAME
from av_compress.data.transforms import Transforms
from av_compress.errors import DataError
from av_compress.progress import track


@dataclass(frozen=True)
class MotionOptions:
    """What of a bag tells the vehicle's motion, beside /tf and /tf_static.

    Attributes:
        fixed_frame: see `sweeps.merge_sweeps`.
        odometry: a topic of type nav_msgs/Odometry; None: none.

    """

    fixed_frame: str = FIXED_FRAME
    odometry: str | None = None


@dataclass(frozen=True)
class CloudHeader:
    """When and where a cloud was measured; see `PointCloud`."""

    stamp_ns: int
    frame_id: str


@dataclass(frozen=True)
class BagMotion:
    """What a bag tells of motion.

    Attributes:
        transforms: over the whole bag.
        headers: of the clouds, in recorded order; None where a message is damaged.
        broken: why transforms or messages of them were left out.

    """

    transforms: Transforms = field(default_factory=lambda: Transforms(memory_s=math.inf))
    headers: list[CloudHeader | None] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)


def read_motion(
    reader: Any, store: Any, path: Path, clouds: str, options: MotionOptions
) -> BagMotion:
    """Read through a bag: all motion, and the headers of a topic's clouds.

    Args:
        reader: rosbags' reader of the bag.
        store: type store of the bag's messages.
        path: of the bag.
        clouds: topic of type sensor_msgs/PointCloud2.
        options: what tells the motion.

    Raises:
        DataError: the odometry is not there, or the bag is damaged.

    """
    counts = {topic.name: topic.count for topic in topics_of(reader)}
    moving = _moving_topics(reader, path, options)
    found = BagMotion()
    heard = MotionMessages(found.transforms, found.broken.append)
    # What never changes holds from the start, whenever it was recorded.
    first = raw_messages(reader, {TF_STATIC_TOPIC}, {long_type(TF)}, path)
    for raw in first:
        _receive(raw, store, {long_type(TF): heard.tf_static}, found)
    receive = {long_type(TF): heard.tf, long_type(ODOMETRY): heard.odometry}
    rest = raw_messages(reader, {clouds, *moving}, {*CLOUD_TYPES, *receive}, path)
    total = sum(counts[name] for name in (clouds, *moving))
    for raw in track(rest, f"read the motion in {path.name}", total):
        _receive(raw, store, receive, found)
    found.headers.extend([None] * (counts[clouds] - len(found.headers)))
    return found


def odometry_topics(reader: Any) -> list[str]:
    """Return the topics of a bag that tell odometry."""
    return [topic.name for topic in topics_of(reader) if topic.type == ODOMETRY and topic.count]


def _moving_topics(reader: Any, path: Path, options: MotionOptions) -> set[str]:
    """Return the topics of what changes over time."""
    topics = topics_of(reader)
    tf = {topic.name for topic in topics if (topic.name, topic.type) == (TF_TOPIC, TF)}
    if options.odometry is None:
        return tf
    if options.odometry not in odometry_topics(reader):
        there = "; ".join(map(str, topics))
        raise DataError(
            f"bag {path} has no messages of type {ODOMETRY} on {options.odometry}; it has: {there}"
        )
    return {*tf, options.odometry}


def _receive(
    raw: RawMessage, store: Any, receive: Mapping[str, Callable[[Any], None]], found: BagMotion
) -> None:
    """Take what a message tells; one that is damaged is left out, and noted."""
    kind, time_ns, data = raw
    if kind in CLOUD_TYPES:
        found.headers.append(_header(store, raw))
        return
    try:
        receive[kind](store.deserialize_cdr(data, kind))
    except Exception as error:  # rosbags' deserialiser fails in many ways on damaged data.
        found.broken.append(f"a message at {time_ns} ns is no {kind}: {error}")


def _header(store: Any, raw: RawMessage) -> CloudHeader | None:
    kind, time_ns, data = raw
    with suppress(Exception):  # See _receive; reading the cloud itself will say what is wrong.
        header = store.deserialize_cdr(data, kind).header
        return CloudHeader(stamp_of(header) or time_ns, str(header.frame_id))
    return None
