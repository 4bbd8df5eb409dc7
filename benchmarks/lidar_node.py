# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What lidar_detector adds to its model, and camera_detector and lidar_detector side by side.

    python benchmarks/lidar_node.py --bundle out/demo/lidar_bundle --camera out/demo/bundle

A recorded sweep of 120 000 points (x, y, z, intensity, ring and time in 22 bytes) at 10 Hz.
Overhead is the median from just before publish() to the callback with the detections, less the
median of the bare preprocess + run + postprocess of the same bundle at the same rate, measured in
the same run. The peer is a node written the usual way, as ROS comes and with the node's shared
memory profile. Then both nodes run at once, each sensor in a process of its own: 1280x720 at
30 Hz, and the sweep at 10 Hz; they hold these rates where 99 % of each sensor's frames are
answered and every other one is counted as dropped for a newer one.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path

from clouds import POINTS, driver_message, sweep
from common import save_results
from driving import (
    HELD_SHARE,
    PROFILE,
    ROOT,
    Drive,
    Latencies,
    Sensor,
    compare,
    drive,
    ours,
    plain,
)
from node_overhead import HEIGHT, WIDTH, camera
from sensor_msgs.msg import PointCloud2
from vision_msgs.msg import Detection3DArray

from av_compress.engines.bundle import load_bundle
from av_compress.tasks.base import PointCloud

RATE_HZ = 10.0
HELD_MS = 10.0
CONTESTANTS = {
    "lidar_detector": ours("lidar_detector"),
    "plain_node": plain("lidar", None),
    "plain_node_with_profile": plain("lidar", PROFILE),
}


def lidar_message(data: Path) -> PointCloud2:
    """Return the sweep as a driver's message."""
    return driver_message(sweep(data))


def lidar(data: Path) -> Sensor:
    """Return a LiDAR."""
    return Sensor("points", PointCloud2, Detection3DArray, RATE_HZ, partial(lidar_message, data))


def side_by_side(args: argparse.Namespace) -> dict[str, Latencies]:
    """Drive both nodes at once."""
    camera_run, lidar_run = drive(
        Drive(ours("camera_detector"), camera(None), args.camera, args.seconds),
        Drive(CONTESTANTS["lidar_detector"], lidar(args.data), args.bundle, args.seconds),
    )
    return {"camera_detector": camera_run, "lidar_detector": lidar_run}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, required=True, help="of lidar_detector")
    parser.add_argument("--camera", type=Path, required=True, help="of camera_detector")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--seconds", type=float, default=30.0, help="length of each run")
    args = parser.parse_args()
    cloud = PointCloud(sweep(args.data))
    found = compare(CONTESTANTS, lidar(args.data), cloud, args.bundle, args.seconds)
    both = side_by_side(args)
    results = {
        "bundle": load_bundle(args.bundle).manifest.name,
        "clouds": f"{POINTS} points at {RATE_HZ:g} Hz",
        "images": f"{WIDTH}x{HEIGHT} bgr8 at 30 Hz",
        **found.figures("lidar_detector"),
        "side_by_side": {
            name: {**asdict(run), "lost": run.lost, "held": run.held} for name, run in both.items()
        },
    }
    save_results("lidar_node", results, ["ros-jazzy-rclpy", "ros-jazzy-rmw-fastrtps-cpp"])
    found.show()
    for name, run in both.items():
        print(f"{name:24} answered {run.answered} of {run.frames}: {dict(run.counts)}")
    held = found.overhead_ms("lidar_detector") <= HELD_MS and all(
        run.held for run in both.values()
    )
    share = f"{100 * HELD_SHARE:g} % answered, the rest counted as dropped"
    print("held" if held else f"NOT held: overhead of at most {HELD_MS} ms; at once, {share}")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
