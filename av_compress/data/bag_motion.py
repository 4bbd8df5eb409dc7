# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The vehicle's motion out of bags, and when and where its clouds were measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from av_compress.data.bags import BagTopic, RawMessage, open_reader, raw_messages, topics_of
from av_compress.data.ego_motion import FIXED_FRAME
from av_compress.data.images import stamp_of
from av_compress.data.motion_messages import (
    ODOMETRY,
    TF,
    TF_STATIC_TOPIC,
    TF_TOPIC,
    MotionMessages,
)
from av_compress.data.ros_types import CLOUD_TYPES, long_type, make_typestore
from av_compress.data.stretches import Stretches
from av_compress.data.transforms import Transforms
from av_compress.errors import DataError
from av_compress.progress import track


@dataclass(frozen=True)
class MotionOptions:
    """What of a bag tells the vehicle's motion, beside /tf and /tf_static.

    Attributes:
        fixed_frame: see `sweeps.merge_sweeps` and `merging.MergeOptions`.
        odometry: a topic of type nav_msgs/Odometry, which alone tells of its frame; None: none.

    """

    fixed_frame: str = FIXED_FRAME
    odometry: str | None = None


@dataclass(frozen=True)
class CloudHeader:
    """When and where a cloud was measured; see `PointCloud`.

    Attributes:
        stretch: the number of that which was being recorded; see `Stretches`.

    """

    stamp_ns: int
    frame_id: str
    stretch: int = 0


@dataclass(frozen=True)
class BagMotion:
    """What a bag tells of motion.

    Attributes:
        stretches: the transforms of the whole bag.
        headers: topic -> those of its clouds, in recorded order; None where a message is damaged.
        odometry: the topics of the bag that tell odometry.
        broken: why transforms or messages of them were left out.
        ignored: which sources of transforms were left out, and why.

    """

    headers: Mapping[str, list[CloudHeader | None]]
    odometry: Sequence[str]
    stretches: Stretches = field(default_factory=Stretches)
    broken: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)

    def transforms(self, header: CloudHeader) -> Transforms:
        """Return those of the stretch in which a cloud was recorded."""
        return self.stretches[header.stretch]


def read_motion(path: Path, clouds: Sequence[str], options: MotionOptions) -> BagMotion:
    """Read through a bag: all motion, and the headers of some topics' clouds.

    Args:
        path: of the bag.
        clouds: topics of type sensor_msgs/PointCloud2.
        options: what tells the motion.

    Raises:
        DataError: the odometry is not there, or the bag is damaged.

    """
    with closing(open_reader(path)) as reader:
        return _read_motion(reader, path, clouds, options)


def _read_motion(
    reader: Any, path: Path, clouds: Sequence[str], options: MotionOptions
) -> BagMotion:
    store = make_typestore()
    topics = topics_of(reader)
    counts = {topic.name: topic.count for topic in topics}
    odometry = [topic.name for topic in topics if topic.type == ODOMETRY and topic.count]
    found = BagMotion({topic: [] for topic in clouds}, odometry)
    moving = _moving_topics(topics, path, options, odometry)
    heard = MotionMessages(
        found.stretches, options.odometry or "", found.broken.append, found.ignored.append
    )
    if options.odometry is not None:
        # What is named wins over /tf, whichever was recorded first.
        named = raw_messages(reader, {options.odometry}, {long_type(ODOMETRY)}, path)
        for raw in named:
            with suppress(Exception):  # See _receive.
                heard.prefer_odometry(store.deserialize_cdr(raw.data, raw.kind))
                break
    # What never changes holds from the start, whenever it was recorded.
    first = raw_messages(reader, {TF_STATIC_TOPIC}, {long_type(TF)}, path)
    for raw in first:
        _receive(raw, store, {long_type(TF): heard.tf_static}, found)
    receive = {long_type(TF): heard.tf, long_type(ODOMETRY): heard.odometry}
    rest = raw_messages(reader, {*clouds, *moving}, {*CLOUD_TYPES, *receive}, path)
    total = sum(counts[name] for name in (*clouds, *moving))
    for raw in track(rest, f"read the motion in {path.name}", total):
        _receive(raw, store, receive, found)
    for topic, headers in found.headers.items():
        headers.extend([None] * (counts[topic] - len(headers)))
    return found


def _moving_topics(
    topics: Sequence[BagTopic], path: Path, options: MotionOptions, odometry: Sequence[str]
) -> set[str]:
    """Return the topics of what changes over time."""
    tf = {topic.name for topic in topics if (topic.name, topic.type) == (TF_TOPIC, TF)}
    if options.odometry is None:
        return tf
    if options.odometry not in odometry:
        there = "; ".join(map(str, topics))
        raise DataError(
            f"bag {path} has no messages of type {ODOMETRY} on {options.odometry}; it has: {there}"
        )
    return {*tf, options.odometry}


def _receive(
    raw: RawMessage, store: Any, receive: Mapping[str, Callable[[Any], None]], found: BagMotion
) -> None:
    """Take what a message tells; one that is damaged is left out, and noted."""
    if raw.kind in CLOUD_TYPES and raw.topic in found.headers:
        found.headers[raw.topic].append(_header(store, raw, found.stretches))
        return
    try:
        receive[raw.kind](store.deserialize_cdr(raw.data, raw.kind))
    except Exception as error:  # rosbags' deserialiser fails in many ways on damaged data.
        found.broken.append(f"a message at {raw.time_ns} ns is no {raw.kind}: {error}")


def _header(store: Any, raw: RawMessage, stretches: Stretches) -> CloudHeader | None:
    try:
        header = store.deserialize_cdr(raw.data, raw.kind).header
        stamp_ns, frame_id = stamp_of(header) or raw.time_ns, str(header.frame_id)
    except Exception:  # See _receive; reading the cloud itself will say what is wrong.
        return None
    return CloudHeader(stamp_ns, frame_id, stretches.cloud(raw.topic, stamp_ns))
