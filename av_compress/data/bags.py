# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Images and point clouds out of ROS 2 bags: db3 and mcap, plain or compressed, without ROS."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from av_compress.data.base import check_index
from av_compress.data.images import frame_from_message
from av_compress.data.packets import packets_note
from av_compress.data.points import PointOptions, cloud_from_message
from av_compress.data.ros_types import (
    CLOUD_TYPES,
    IMAGE_TYPES,
    make_typestore,
    rosbags,
    short_type,
)
from av_compress.errors import AvCompressError, DataError, FrameError
from av_compress.tasks.base import ImageFrame, PointCloud

FrameT = TypeVar("FrameT", ImageFrame, PointCloud)

_STORAGE_SUFFIXES = (".mcap", ".db3")


class SeveralTopicsError(DataError):
    """A bag has several topics that fit, and none was named."""


class RawMessage(NamedTuple):
    """A message as it lies in a bag.

    Attributes:
        topic: its topic.
        kind: its type, such as `sensor_msgs/msg/Image`.
        time_ns: when it was recorded (bag time).
        data: the serialised message.

    """

    topic: str
    kind: str
    time_ns: int
    data: bytes


@dataclass(frozen=True)
class BagTopic:
    """A topic of a bag: name, message type (`sensor_msgs/Image`) and number of messages."""

    name: str
    type: str
    count: int

    def __str__(self) -> str:
        """Format as `/camera/image_raw (sensor_msgs/Image, 53 messages)`."""
        return f"{self.name} ({self.type}, {self.count} messages)"


def bag_topics(path: Path) -> tuple[BagTopic, ...]:
    """List the topics of a bag.

    Raises:
        DataError: there is no bag at `path`, or it is damaged.

    """
    reader = open_reader(path)
    try:
        return topics_of(reader)
    finally:
        reader.close()


@dataclass(frozen=True)
class MessageKind(Generic[FrameT]):
    """Messages that hold frames of one kind.

    Attributes:
        noun: what people call such a frame.
        types: the messages' types.
        decode: makes a frame of a message, with a key.
        note: says, of topics that hold no such frames, and the bag, what they hold in their place
            and what to do; None where nothing is known of them.

    """

    noun: str
    types: Sequence[str]
    decode: Callable[[Any, str], FrameT]
    note: Callable[[Sequence[BagTopic], Path], str | None] = lambda topics, bag: None

    @property
    def allowed(self) -> str:
        """The types as people write them."""
        return ", ".join(map(short_type, self.types))

    def holds(self, topic: BagTopic) -> bool:
        """Tell whether a topic's messages are of this kind."""
        return topic.type in {short_type(name) for name in self.types}


class BagFrames(Generic[FrameT]):
    """The frames of one topic of a bag, in recorded order.

    Made for reading in ascending order: one message is in memory, and reading index 10 after 5
    skips the four between without decoding them. Going back costs a seek to the frame's time.
    """

    def __init__(self, path: Path, topic: str | None, kind: MessageKind[FrameT]) -> None:
        """Open a bag.

        Args:
            path: bag folder, or a single .mcap or .db3 file.
            topic: a topic of that kind; None: the bag's only one.
            kind: what its messages hold.

        Raises:
            SeveralTopicsError: no topic is named, and several are of that kind.
            DataError: no bag, a damaged or empty bag, no such topic, or one of another kind.
            MissingExtraError: the rosbags library is not installed.

        """
        self._path = path
        self._kind: MessageKind[FrameT] = kind
        self._store = make_typestore()
        self._reader = open_reader(path)
        try:
            found = _choose_topic(topics_of(self._reader), topic, kind, path)
        except AvCompressError:
            self._reader.close()
            raise
        self.topic = found.name
        self.description = f"bag {path.name}, topic {found.name}"
        self._count = found.count
        self._messages: Iterator[RawMessage] = iter(())
        self._position = 0
        # Bag times of the messages passed so far, for going back to them.
        self._times: list[int] = []
        self._rewind(0)

    def __len__(self) -> int:
        """Count the frames."""
        return self._count

    def key(self, index: int) -> str:
        """Name frame `index` by topic and number."""
        return f"{self.topic}#{index}"

    def read(self, index: int) -> FrameT:
        """Read and decode frame `index`; see `FrameSource.read`.

        The stamp is the header's, or the bag's time where the header has none.
        """
        check_index(self, index)
        if index < self._position:
            self._rewind(index)
        while True:
            message = self._next()
            if self._position > index:
                return self._decode(index, message)

    def time_ns(self, index: int) -> int:
        """Return when frame `index`, which was read before, was recorded (bag time)."""
        return self._times[index]

    def close(self) -> None:
        """Close the bag."""
        self._messages = iter(())
        if self._reader.is_open:
            self._reader.close()

    def _rewind(self, index: int) -> None:
        """Make message `index` or an earlier one the next to be read."""
        if not self._reader.is_open:
            raise DataError(f"{self.description} is closed")
        start = None
        if index and _ascending(self._times):
            start = self._times[index]
            index = self._times.index(start)  # Several messages may share a time.
        else:
            index = 0
        self._position = index
        self._messages = raw_messages(
            self._reader, {self.topic}, self._kind.types, self._path, start
        )

    def _next(self) -> RawMessage:
        message = next(self._messages, None)
        if message is None:
            raise DataError(
                f"{self.description}: message {self._position} of {self._count} is missing; the "
                f"bag is incomplete, try: ros2 bag reindex {self._path}"
            )
        if self._position == len(self._times):
            self._times.append(message.time_ns)
        self._position += 1
        return message

    def _decode(self, index: int, message: RawMessage) -> FrameT:
        key = self.key(index)
        try:
            held = self._store.deserialize_cdr(message.data, message.kind)
            frame: FrameT = self._kind.decode(held, key)
        except FrameError as error:
            raise FrameError(f"{key}: {error}") from error
        except Exception as error:  # rosbags' deserialiser fails in many ways on damaged data.
            raise FrameError(
                f"{key} is not a {short_type(message.kind)} message of {len(message.data)} bytes: "
                f"{error}"
            ) from error
        return frame if frame.stamp_ns else replace(frame, stamp_ns=message.time_ns)


class BagImages(BagFrames[ImageFrame]):
    """The images of one topic of a bag; see `BagFrames`."""

    def __init__(self, path: Path, topic: str | None = None) -> None:
        """Open a bag; see `BagFrames`."""
        super().__init__(path, topic, MessageKind("image", IMAGE_TYPES, frame_from_message))


class BagClouds(BagFrames[PointCloud]):
    """The point clouds of one topic of a bag; see `BagFrames`."""

    def __init__(
        self, path: Path, topic: str | None = None, options: PointOptions | None = None
    ) -> None:
        """Open a bag.

        Args:
            path: see `BagFrames`.
            topic: see `BagFrames`.
            options: which fields of the messages become which columns.

        """

        def decode(message: Any, key: str) -> PointCloud:
            return cloud_from_message(message, options, key)

        kind = MessageKind("point cloud", CLOUD_TYPES, decode, packets_note)
        super().__init__(path, topic, kind)


def _ascending(times: Sequence[int]) -> bool:
    return all(earlier <= later for earlier, later in pairwise(times))


def open_reader(path: Path) -> Any:
    """Open a bag with rosbags' reader, whatever is wrong with it told in one sentence.

    Raises:
        DataError: there is no bag at `path`, or it is damaged.
        MissingExtraError: the rosbags library is not installed.

    """
    rosbag2 = rosbags("rosbag2")
    file = _storage(path)
    try:
        reader = rosbag2.Reader(file)
        reader.open()
    except Exception as error:  # Damaged files raise anything, from struct.error to sqlite's own.
        raise DataError(
            f"bag {path} cannot be opened: {_cause(error)}; if its recording was cut off, try: "
            f"ros2 bag reindex {path} (db3) or mcap recover (mcap)"
        ) from error
    return reader


def _storage(path: Path) -> Path:
    """Return what rosbags can open: a folder with metadata, or the one file of a folder."""
    if not path.exists():
        raise DataError(f"bag {path} does not exist")
    if path.is_file():
        if path.suffix in _STORAGE_SUFFIXES:
            return path
        hint = "; convert a ROS 1 bag with: rosbags-convert" if path.suffix == ".bag" else ""
        raise DataError(f"{path} is not a bag: allowed are a bag folder, .mcap and .db3{hint}")
    if (path / "metadata.yaml").exists():
        return path
    files = sorted(file for file in path.iterdir() if file.suffix in _STORAGE_SUFFIXES)
    if len(files) == 1:
        return files[0]
    found = f"{len(files)} .mcap or .db3 files" if files else "no .mcap or .db3 file"
    raise DataError(
        f"{path} is not a bag folder: it has no metadata.yaml and {found}"
        + (f"; name one of them, or try: ros2 bag reindex {path}" if files else "")
    )


def topics_of(reader: Any) -> tuple[BagTopic, ...]:
    """List the topics of a bag that rosbags' reader has open."""
    topics: dict[str, BagTopic] = {}
    for connection in reader.connections:
        kind = short_type(connection.msgtype)
        before = topics.get(connection.topic, BagTopic(connection.topic, kind, 0))
        topics[connection.topic] = replace(before, count=before.count + connection.msgcount)
    return tuple(topics[name] for name in sorted(topics))


def _choose_topic(
    topics: Sequence[BagTopic], wanted: str | None, kind: MessageKind[Any], path: Path
) -> BagTopic:
    there = "; ".join(map(str, topics))
    if not any(topic.count for topic in topics):
        raise DataError(
            f"bag {path} is empty: it has no messages" + (f" on {there}" * bool(there))
        )
    if wanted is None:
        return _only_topic(topics, kind, there, path)
    found = next((topic for topic in topics if topic.name == wanted), None)
    if found is None:
        raise DataError(f"bag {path} has no topic {wanted}; it has: {there}")
    if not kind.holds(found):
        advice = kind.note([found], path) or f"allowed: {kind.allowed}; the bag has: {there}"
        raise DataError(
            f"topic {found.name} of bag {path} is of type {found.type}, which is no {kind.noun}; "
            f"{advice}"
        )
    if not found.count:
        raise DataError(f"topic {found.name} of bag {path} has no messages; the bag has: {there}")
    return found


def _only_topic(
    topics: Sequence[BagTopic], kind: MessageKind[Any], there: str, path: Path
) -> BagTopic:
    fitting = [topic for topic in topics if kind.holds(topic) and topic.count]
    if not fitting:
        advice = kind.note([topic for topic in topics if topic.count], path)
        note = f"; {advice}" if advice else ""
        raise DataError(f"bag {path} has no {kind.noun} topic; it has: {there}{note}")
    if len(fitting) > 1:
        names = ", ".join(topic.name for topic in fitting)
        raise SeveralTopicsError(
            f"bag {path} has {len(fitting)} {kind.noun} topics: {names}; name one of them"
        )
    return fitting[0]


def raw_messages(
    reader: Any,
    topics: Collection[str],
    types: Collection[str],
    path: Path,
    start_ns: int | None = None,
) -> Iterator[RawMessage]:
    """Yield the messages of topics, of some types, in recorded order.

    Args:
        reader: rosbags' reader of the bag.
        topics: their names.
        types: of their messages, such as `sensor_msgs/msg/Image`.
        path: of the bag.
        start_ns: bag time of the first; None: from the start.

    Raises:
        DataError: the bag is damaged.

    """
    connections = [
        connection
        for connection in reader.connections
        if connection.topic in topics and connection.msgtype in types
    ]
    if not connections:
        return  # rosbags would take none for all.
    stream = reader.messages(connections, start=start_ns)
    try:
        for connection, time_ns, data in stream:
            yield RawMessage(connection.topic, connection.msgtype, time_ns, data)
    except Exception as error:  # See open_reader.
        raise DataError(
            f"bag {path} is damaged and cannot be read any further on "
            f"{', '.join(sorted(topics))}: {_cause(error)}"
        ) from error
    finally:
        with suppress(Exception):
            stream.close()


def _cause(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else f"unexpected end or content ({type(error).__name__})"
