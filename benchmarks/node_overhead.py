# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What camera_detector adds to its model: from publish to received detections, over two processes.

    python benchmarks/node_overhead.py --bundle DIR             # node and peer, one run
    python benchmarks/node_overhead.py --bundle DIR --minutes 10  # and a long run of the node

1280x720 bgr8 at 30 Hz. Overhead is the median from just before publish() to the callback with the
detections, less the median of the bare preprocess + run + postprocess of the same bundle at the
same rate, measured in the same run. The peer runs as ROS comes, as nodes usually do; to tell the
node's part from the middleware's, it also runs with the shared memory profile that the node's
launch file sets.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
from common import save_results
from driving import PROFILE, Drive, Sensor, compare, drive, ours, plain
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray

from av_compress.engines.bundle import load_bundle
from av_compress.nodes.images import image_message
from av_compress.tasks.base import ImageFrame

WIDTH, HEIGHT, RATE_HZ = 1280, 720, 30.0
HELD_MS, HELD_RATIO = 10.0, 0.5
CONTESTANTS = {
    "camera_detector": ours("camera_detector"),
    "plain_node": plain("camera", None),
    "plain_node_with_profile": plain("camera", PROFILE),
}


def picture(path: Path | None) -> np.ndarray:
    """Return the image that is published: a file's, or noise of a fixed seed."""
    if path is None:
        return np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    import cv2

    return cv2.resize(cv2.imread(str(path)), (WIDTH, HEIGHT))


def camera_message(path: Path | None) -> Image:
    """Return that image as a camera's message."""
    return image_message(ImageFrame(picture(path)))


def camera(path: Path | None) -> Sensor:
    """Return a camera."""
    return Sensor("image", Image, Detection2DArray, RATE_HZ, partial(camera_message, path))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, required=True, help="bundle to serve")
    parser.add_argument("--image", type=Path, help="image to publish (default: noise)")
    parser.add_argument("--seconds", type=float, default=20.0, help="length of each run")
    parser.add_argument("--minutes", type=float, default=0.0, help="length of the long run")
    args = parser.parse_args()
    sensor, frame = camera(args.image), ImageFrame(picture(args.image))
    found = compare(CONTESTANTS, sensor, frame, args.bundle, args.seconds)
    results = {
        "bundle": load_bundle(args.bundle).manifest.name,
        "images": f"{WIDTH}x{HEIGHT} bgr8 at {RATE_HZ:g} Hz",
        **found.figures("camera_detector"),
    }
    if args.minutes:
        node, seconds = CONTESTANTS["camera_detector"], args.minutes * 60
        (long_run,) = drive(Drive(node, sensor, args.bundle, seconds))
        results["long_run"] = {"minutes": args.minutes, **asdict(long_run)}
    save_results("node_overhead", results, ["ros-jazzy-rclpy", "ros-jazzy-rmw-fastrtps-cpp"])
    found.show()
    held = found.overhead_ms("camera_detector") <= HELD_MS
    held = held and found.ratio("camera_detector") <= HELD_RATIO
    print("held" if held else f"NOT held: at most {HELD_MS} ms and {HELD_RATIO} of plain_node")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
