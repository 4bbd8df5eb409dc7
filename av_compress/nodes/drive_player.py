# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Plays a bag's sensors to detector nodes at sensor rate, and writes down what comes back.

`python -m av_compress.nodes.drive_player BAG --play camera_detector=/camera/image_raw --json FILE`
brings the node to active through its lifecycle services, publishes every image with the time of
its publication as stamp, and collects detections and diagnostics. `--play` may stand there for
each of several nodes; point clouds are played as well.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from av_compress.data.bags import BagClouds, BagImages, bag_topics
from av_compress.data.images import stamp_of
from av_compress.data.points import PointOptions
from av_compress.errors import AvCompressError, EngineError, UsageError
from av_compress.fileio import canonical_json, write_text
from av_compress.nodes.clouds import cloud_message
from av_compress.nodes.images import image_message
from av_compress.nodes.lifecycle import PATIENCE_S, LifecycleClient
from av_compress.nodes.ros import message_class, require_rclpy

# How long after the last frame its detections may take to arrive.
SETTLE_S = 2.0
# x, y, z and intensity.
_CLOUD_COLUMNS = 4


@dataclass(frozen=True)
class SensorKind:
    """A kind of sensor, and what its detector says.

    Attributes:
        input: the detector's topic, below `~/input`.
        type: of the messages that are played.
        answers: type of the detections.
        open: opens a topic of a bag.
        encode: makes a message of a frame.
        box: what is written down of a detection's box.

    """

    input: str
    type: str
    answers: str
    open: Callable[[Path, str], BagImages | BagClouds]
    encode: Callable[[Any], Any]
    box: Callable[[Any], list[float]]


def _box_in_image(box: Any) -> list[float]:
    center, half = box.center.position, (box.size_x / 2, box.size_y / 2)
    return [center.x - half[0], center.y - half[1], center.x + half[0], center.y + half[1]]


def _box_in_space(box: Any) -> list[float]:
    position, turn, size = box.center.position, box.center.orientation, box.size
    yaw = 2 * math.atan2(turn.z, turn.w)
    return [position.x, position.y, position.z, size.x, size.y, size.z, yaw]


KINDS = (
    SensorKind(
        "image",
        "sensor_msgs/Image",
        "vision_msgs/Detection2DArray",
        BagImages,
        image_message,
        _box_in_image,
    ),
    SensorKind(
        "points",
        "sensor_msgs/PointCloud2",
        "vision_msgs/Detection3DArray",
        lambda path, topic: BagClouds(path, topic, PointOptions(channels=_CLOUD_COLUMNS)),
        cloud_message,
        _box_in_space,
    ),
)


@dataclass
class Stream:
    """A sensor that is played to a node.

    Attributes:
        node: its name, in the root namespace.
        kind: of the sensor.
        source: the recorded frames.
        stamps: that each published frame was given, in nanoseconds.
        answers: when each message of detections was received, and the message.

    """

    node: str
    kind: SensorKind
    source: BagImages | BagClouds
    stamps: list[int] = field(default_factory=list)
    answers: list[tuple[int, Any]] = field(default_factory=list)


class DrivePlayer:
    """Plays streams and collects answers; use from one thread."""

    def __init__(self, streams: Sequence[Stream]) -> None:
        """Join the ROS graph."""
        import rclpy
        from rclpy.executors import SingleThreadedExecutor

        self._streams = streams
        self._node = rclpy.create_node("drive_player")
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        self.diagnostics: list[Any] = []
        self._publishers = [self._connect(stream) for stream in streams]
        self._node.create_subscription(
            message_class("diagnostic_msgs/DiagnosticArray"),
            "/diagnostics",
            self.diagnostics.append,
            10,
        )

    def activate(self) -> None:
        """Bring the nodes to active.

        Raises:
            EngineError: one does not answer, or refuses; its own log says why.

        """
        for stream, publisher in zip(self._streams, self._publishers):
            client = LifecycleClient(
                self._node, stream.node, lambda: self._executor.spin_once(timeout_sec=0.1)
            )
            for transition in ("configure", "activate"):
                if not client.change(transition):
                    raise EngineError(f"{stream.node} could not {transition}; its log says why")
            self._wait_for_subscriber(stream, publisher)

    def play(self) -> None:
        """Publish every frame in the rhythm of its recording."""
        waiting = {
            number: self._read(stream, 0)
            for number, stream in enumerate(self._streams)
            if len(stream.source)
        }
        first = min((due for due, _ in waiting.values()), default=0)
        started = time.monotonic_ns()
        while waiting:
            number = min(waiting, key=lambda one: (waiting[one][0], one))
            recorded, frame = waiting.pop(number)
            stream = self._streams[number]
            while (left := started + recorded - first - time.monotonic_ns()) > 0:
                self._executor.spin_once(timeout_sec=left / 1e9)
            stamp = self._now()
            self._publishers[number].publish(stream.kind.encode(replace(frame, stamp_ns=stamp)))
            stream.stamps.append(stamp)
            if len(stream.stamps) < len(stream.source):
                waiting[number] = self._read(stream, len(stream.stamps))
        end = time.monotonic() + SETTLE_S
        while time.monotonic() < end:
            self._executor.spin_once(timeout_sec=0.05)

    def close(self) -> None:
        """Leave the ROS graph."""
        self._executor.shutdown()
        self._node.destroy_node()

    def _connect(self, stream: Stream) -> Any:
        from rclpy.qos import QoSProfile, QoSReliabilityPolicy

        self._node.create_subscription(
            message_class(stream.kind.answers),
            f"/{stream.node}/output/detections",
            lambda message: stream.answers.append((self._now(), message)),
            10,
        )
        sensor = QoSProfile(depth=1, reliability=QoSReliabilityPolicy.BEST_EFFORT)
        topic = f"/{stream.node}/input/{stream.kind.input}"
        return self._node.create_publisher(message_class(stream.kind.type), topic, sensor)

    @staticmethod
    def _read(stream: Stream, index: int) -> tuple[int, Any]:
        frame = stream.source.read(index)
        return stream.source.time_ns(index), frame

    def _now(self) -> int:
        return int(self._node.get_clock().now().nanoseconds)

    def _wait_for_subscriber(self, stream: Stream, publisher: Any) -> None:
        end = time.monotonic() + PATIENCE_S
        while publisher.get_subscription_count() == 0:
            if time.monotonic() > end:
                raise EngineError(
                    f"waited {PATIENCE_S:g} s in vain for {stream.node} to subscribe"
                )
            self._executor.spin_once(timeout_sec=0.1)


def report(stream: Stream, diagnostics: Sequence[Any]) -> dict[str, Any]:
    """Say what came back: per frame, its detections and how long they took to arrive."""
    number = {stamp: index for index, stamp in enumerate(stream.stamps)}
    answers = []
    for received, message in stream.answers:
        stamp = stamp_of(message.header)
        if stamp in number:
            answers.append(
                {
                    "frame": number[stamp],
                    "latency_ms": (received - stamp) / 1e6,
                    "detections": [_detection(one, stream.kind) for one in message.detections],
                }
            )
    return {
        "frames": len(stream.stamps),
        "answers": answers,
        "diagnostics": _last(diagnostics, stream.node),
    }


def _detection(message: Any, kind: SensorKind) -> dict[str, Any]:
    best = message.results[0].hypothesis
    return {"box": kind.box(message.bbox), "score": best.score, "label": int(best.class_id)}


def _last(messages: Sequence[Any], node: str) -> dict[str, str]:
    """Return the last latencies that a node told."""
    for message in reversed(messages):
        for status in message.status:
            values: Mapping[str, str] = {entry.key: entry.value for entry in status.values}
            if status.name.startswith(node) and "processing_time_p50_ms" in values:
                return dict(values)
    return {}


def _open(bag: Path, wanted: str) -> Stream:
    """Open what `NODE=TOPIC` asks for.

    Raises:
        UsageError: it is no such pair, or the topic is not there, or has no frames.

    """
    node, _, topic = wanted.partition("=")
    types = {one.name: one.type for one in bag_topics(bag)}
    kind = next((one for one in KINDS if one.type == types.get(topic)), None)
    if not node or kind is None:
        allowed = ", ".join(n for n, t in types.items() if t in {one.type for one in KINDS})
        raise UsageError(f"--play {wanted} is not allowed; allowed: NODE=TOPIC of {allowed}")
    return Stream(node, kind, kind.open(bag, topic))


def _play(streams: Sequence[Stream], path: Path) -> None:
    import rclpy

    rclpy.init(args=[])
    try:
        player = DrivePlayer(streams)
        with closing(player):
            player.activate()
            player.play()
            found = {stream.node: report(stream, player.diagnostics) for stream in streams}
        write_text(path, canonical_json(found))
    finally:
        rclpy.try_shutdown()


def main(argv: Sequence[str] | None = None) -> int:
    """Play a bag to nodes and write what came back."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bag", type=Path)
    parser.add_argument(
        "--play", action="append", required=True, metavar="NODE=TOPIC", help="may be repeated"
    )
    parser.add_argument("--json", type=Path, required=True, metavar="FILE")
    args = parser.parse_args(argv)
    try:
        require_rclpy()
        with ExitStack() as stack:
            streams = [_open(args.bag, wanted) for wanted in args.play]
            for stream in streams:
                stack.callback(stream.source.close)
            _play(streams, args.json)
    except AvCompressError as error:
        print(f"drive_player: error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
