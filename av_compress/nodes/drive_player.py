# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Plays a bag's images to a detector node at sensor rate, and writes down what comes back.

`python -m av_compress.nodes.drive_player BAG --node camera_detector --json FILE` brings the node
to active through its lifecycle services, publishes every image with the time of its publication as
stamp, and collects detections and diagnostics.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from av_compress.data.bags import BagImages
from av_compress.data.images import stamp_of
from av_compress.errors import AvCompressError, EngineError
from av_compress.fileio import canonical_json, write_text
from av_compress.nodes.images import image_message
from av_compress.nodes.lifecycle import PATIENCE_S, LifecycleClient
from av_compress.nodes.ros import message_class, require_rclpy

# How long after the last image its detections may take to arrive.
SETTLE_S = 2.0


class DrivePlayer:
    """Plays images and collects answers; use from one thread."""

    def __init__(self, node_name: str) -> None:
        """Join the ROS graph.

        Args:
            node_name: of the detector node, in the root namespace.

        """
        import rclpy
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.qos import QoSProfile, QoSReliabilityPolicy

        self._target = node_name
        self._node = rclpy.create_node("drive_player")
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        self.detections: list[tuple[int, Any]] = []
        self.diagnostics: list[Any] = []
        sensor = QoSProfile(depth=1, reliability=QoSReliabilityPolicy.BEST_EFFORT)
        topic = f"/{node_name}/input/image"
        self._images = self._node.create_publisher(
            message_class("sensor_msgs/Image"), topic, sensor
        )
        self._node.create_subscription(
            message_class("vision_msgs/Detection2DArray"),
            f"/{node_name}/output/detections",
            lambda message: self.detections.append((self._now(), message)),
            10,
        )
        self._node.create_subscription(
            message_class("diagnostic_msgs/DiagnosticArray"),
            "/diagnostics",
            self.diagnostics.append,
            10,
        )

    def activate(self) -> None:
        """Bring the node to active.

        Raises:
            EngineError: it does not answer, or refuses; its own log says why.

        """
        client = LifecycleClient(
            self._node, self._target, lambda: self._executor.spin_once(timeout_sec=0.1)
        )
        for transition in ("configure", "activate"):
            if not client.change(transition):
                raise EngineError(f"the node could not {transition}; its log says why")
        self._wait(lambda: self._images.get_subscription_count() > 0, "the node to subscribe")

    def play(self, source: BagImages) -> list[int]:
        """Publish every image in the rhythm of its recording.

        Returns:
            the stamp that each image was given, in nanoseconds.

        """
        stamps: list[int] = []
        started = 0
        for index in range(len(source)):
            frame = source.read(index)
            started = started or time.monotonic_ns()
            due = started + source.time_ns(index) - source.time_ns(0)
            while (left := due - time.monotonic_ns()) > 0:
                self._executor.spin_once(timeout_sec=left / 1e9)
            stamp = self._now()
            self._images.publish(image_message(replace(frame, stamp_ns=stamp)))
            stamps.append(stamp)
        end = time.monotonic() + SETTLE_S
        while time.monotonic() < end:
            self._executor.spin_once(timeout_sec=0.05)
        return stamps

    def close(self) -> None:
        """Leave the ROS graph."""
        self._executor.shutdown()
        self._node.destroy_node()

    def _now(self) -> int:
        return int(self._node.get_clock().now().nanoseconds)

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + PATIENCE_S
        while not condition():
            if time.monotonic() > end:
                raise EngineError(f"waited {PATIENCE_S:g} s in vain for {what}")
            self._executor.spin_once(timeout_sec=0.1)


def report(player: DrivePlayer, stamps: Sequence[int]) -> dict[str, Any]:
    """Say what came back: per image, its detections and how long they took to arrive."""
    number = {stamp: index for index, stamp in enumerate(stamps)}
    answers = []
    for received, message in player.detections:
        stamp = stamp_of(message.header)
        if stamp in number:
            answers.append(
                {
                    "image": number[stamp],
                    "latency_ms": (received - stamp) / 1e6,
                    "detections": [_detection(one) for one in message.detections],
                }
            )
    return {"images": len(stamps), "answers": answers, "diagnostics": _last(player.diagnostics)}


def _detection(message: Any) -> dict[str, Any]:
    center, box = message.bbox.center.position, message.bbox
    half = (box.size_x / 2, box.size_y / 2)
    best = message.results[0].hypothesis
    return {
        "box": [center.x - half[0], center.y - half[1], center.x + half[0], center.y + half[1]],
        "score": best.score,
        "label": int(best.class_id),
    }


def _last(messages: Sequence[Any]) -> dict[str, str]:
    for message in reversed(messages):
        for status in message.status:
            if "processing_time_p50_ms" in {entry.key for entry in status.values}:
                return {entry.key: entry.value for entry in status.values}
    return {}


def main(argv: Sequence[str] | None = None) -> int:
    """Play a bag to a node and write what came back."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bag", type=Path)
    parser.add_argument("--topic", help="image topic; by default the bag's only one")
    parser.add_argument("--node", default="camera_detector")
    parser.add_argument("--json", type=Path, required=True, metavar="FILE")
    args = parser.parse_args(argv)
    try:
        require_rclpy()
        import rclpy

        rclpy.init(args=[])
        try:
            with closing(BagImages(args.bag, args.topic)) as source:
                player = DrivePlayer(args.node)
                with closing(player):
                    player.activate()
                    stamps = player.play(source)
                    write_text(args.json, canonical_json(report(player, stamps)))
        finally:
            rclpy.try_shutdown()
    except AvCompressError as error:
        print(f"drive_player: error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
