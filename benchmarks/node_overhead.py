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
import array
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import rclpy
from common import save_results
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray

from av_compress.engines.bundle import load_bundle
from av_compress.nodes.lifecycle import LifecycleClient
from av_compress.tasks.base import ImageFrame

ROOT = Path(__file__).resolve().parents[1]
PROFILE = ROOT / "config/fastdds_shm_profile.xml"
WIDTH, HEIGHT, RATE_HZ = 1280, 720, 30.0
WARM_UP_FRAMES = 30
HELD_MS, HELD_RATIO = 10.0, 0.5


@dataclass(frozen=True)
class Contestant:
    """A server, and the middleware profile of both processes (None: as ROS comes)."""

    node: str
    command: tuple[str, ...]
    qos: QoSProfile
    profile: Path | None


PEER_COMMAND = (str(ROOT / "benchmarks/plain_node.py"),)
CONTESTANTS = {
    "camera_detector": Contestant(
        "camera_detector",
        ("-m", "av_compress.nodes.camera_detector"),
        QoSProfile(depth=1, reliability=QoSReliabilityPolicy.BEST_EFFORT),
        PROFILE,
    ),
    # Its default QoS is reliable, and takes nothing from a best-effort publisher.
    "plain_node": Contestant("plain_detector", PEER_COMMAND, QoSProfile(depth=10), None),
    "plain_node_with_profile": Contestant(
        "plain_detector", PEER_COMMAND, QoSProfile(depth=10), PROFILE
    ),
}


@dataclass(frozen=True)
class Latencies:
    """Milliseconds from publish to received detections, and the server's memory."""

    frames: int
    answered: int
    median_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float
    rss_first_mb: float
    rss_last_mb: float

    @staticmethod
    def of(frames: int, latencies_ms: list[float], rss_mb: list[float]) -> Latencies:
        p50, p95, p99 = (round(float(v), 3) for v in np.percentile(latencies_ms, [50, 95, 99]))
        fifth = max(1, len(rss_mb) // 5)
        return Latencies(
            frames=frames,
            answered=len(latencies_ms),
            median_ms=p50,
            p95_ms=p95,
            p99_ms=p99,
            max_ms=round(max(latencies_ms), 3),
            rss_first_mb=round(float(np.median(rss_mb[:fifth])), 2),
            rss_last_mb=round(float(np.median(rss_mb[-fifth:])), 2),
        )


class Driver:
    """Publishes images and times the answers."""

    def __init__(self, contestant: Contestant) -> None:
        self.node = rclpy.create_node("driver")
        self.server = server = contestant.node
        self.publisher = self.node.create_publisher(
            Image, f"/{server}/input/image", contestant.qos
        )
        self.node.create_subscription(
            Detection2DArray, f"/{server}/output/detections", self.on_detections, 10
        )
        self.latencies_ms: list[float] = []
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.node)
        self.thread = threading.Thread(target=self.executor.spin, daemon=True)
        self.thread.start()

    def on_detections(self, message: Detection2DArray) -> None:
        stamp = message.header.stamp
        self.latencies_ms.append((time.time_ns() - stamp.sec * 10**9 - stamp.nanosec) / 1e6)

    def bring_up(self) -> None:
        if self.server == "camera_detector":
            client = LifecycleClient(self.node, self.server, lambda: time.sleep(0.02))
            for transition in ("configure", "activate"):
                if not client.change(transition):
                    raise SystemExit(f"{self.server} refused to {transition}")
        end = time.monotonic() + 60
        while self.publisher.get_subscription_count() == 0:
            if time.monotonic() > end:
                raise SystemExit(f"{self.server} does not subscribe")
            time.sleep(0.05)

    def publish(self, pixels: np.ndarray, frames: int, pid: int) -> Latencies:
        message = Image(height=HEIGHT, width=WIDTH, step=WIDTH * 3, encoding="bgr8")
        message.data = array.array("B", pixels.tobytes())
        rss_mb: list[float] = []
        for index, _ in enumerate(paced(frames + WARM_UP_FRAMES)):
            if index == WARM_UP_FRAMES:
                self.latencies_ms.clear()
            if index % int(RATE_HZ) == 0:
                rss_mb.append(resident_mb(pid))
            now = time.time_ns()
            message.header.stamp.sec, message.header.stamp.nanosec = divmod(now, 10**9)
            self.publisher.publish(message)
        time.sleep(0.5)
        return Latencies.of(frames, list(self.latencies_ms), rss_mb[1:] or rss_mb)

    def stop(self) -> None:
        self.executor.shutdown()
        self.thread.join()
        self.node.destroy_node()


def paced(count: int) -> Iterator[None]:
    """Yield `count` times at the sensor's rate."""
    due = time.monotonic()
    for _ in range(count):
        yield
        due += 1 / RATE_HZ
        time.sleep(max(0.0, due - time.monotonic()))


def resident_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def measure_bare(bundle: Path, pixels: np.ndarray, frames: int) -> float:
    """Return the median of preprocess + run + postprocess in milliseconds."""
    pipeline = load_bundle(bundle).open_pipeline()
    frame = ImageFrame(pixels)
    times_ms = []
    for _ in paced(frames + WARM_UP_FRAMES):
        started = time.perf_counter_ns()
        pipeline.process(frame)
        times_ms.append((time.perf_counter_ns() - started) / 1e6)
    pipeline.close()
    return round(float(np.median(times_ms[WARM_UP_FRAMES:])), 3)


def measure_server(name: str, bundle: Path, pixels: np.ndarray, frames: int) -> Latencies:
    """Time a contestant in a process of its own; this one drives it."""
    contestant = CONTESTANTS[name]
    use_profile(contestant.profile)
    rclpy.init()
    process = subprocess.Popen(
        [sys.executable, *contestant.command, "--ros-args", "-p", f"bundle_path:={bundle}"]
    )
    driver = Driver(contestant)
    try:
        driver.bring_up()
        return driver.publish(pixels, frames, process.pid)
    finally:
        driver.stop()
        process.send_signal(signal.SIGINT)
        process.wait(10)
        rclpy.try_shutdown()


def use_profile(profile: Path | None) -> None:
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    os.environ["ROS_DOMAIN_ID"] = str(os.getpid() % 101 + 1)
    os.environ.pop("FASTRTPS_DEFAULT_PROFILES_FILE", None)
    if profile is not None:
        os.environ["FASTRTPS_DEFAULT_PROFILES_FILE"] = str(profile)


def in_fresh_process(name: str, bundle: Path, pixels: np.ndarray, frames: int) -> Latencies:
    """Run `measure_server` where no middleware profile has been read yet."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measure_server, (name, bundle, pixels, frames))


def picture(path: Path | None) -> np.ndarray:
    """Return the image that is published: a file's, or noise of a fixed seed."""
    if path is None:
        return np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    import cv2

    return cv2.resize(cv2.imread(str(path)), (WIDTH, HEIGHT))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, required=True, help="bundle to serve")
    parser.add_argument("--image", type=Path, help="image to publish (default: noise)")
    parser.add_argument("--seconds", type=float, default=20.0, help="length of each run")
    parser.add_argument("--minutes", type=float, default=0.0, help="length of the long run")
    args = parser.parse_args()
    pixels = picture(args.image)
    frames = int(args.seconds * RATE_HZ)
    bare_ms = measure_bare(args.bundle, pixels, frames)
    runs = {name: in_fresh_process(name, args.bundle, pixels, frames) for name in CONTESTANTS}
    overhead = {name: round(run.median_ms - bare_ms, 3) for name, run in runs.items()}
    ratio = round(overhead["camera_detector"] / overhead["plain_node"], 3)
    results = {
        "bundle": load_bundle(args.bundle).manifest.name,
        "images": f"{WIDTH}x{HEIGHT} bgr8 at {RATE_HZ:g} Hz",
        "bare_median_ms": bare_ms,
        "overhead_median_ms": overhead,
        "ratio_to_plain_node": ratio,
        "runs": {name: asdict(run) for name, run in runs.items()},
    }
    if args.minutes:
        long_frames = int(args.minutes * 60 * RATE_HZ)
        long_run = in_fresh_process("camera_detector", args.bundle, pixels, long_frames)
        results["long_run"] = {"minutes": args.minutes, **asdict(long_run)}
    save_results("node_overhead", results, ["ros-jazzy-rclpy", "ros-jazzy-rmw-fastrtps-cpp"])
    for name, run in runs.items():
        print(f"{name:24} median {run.median_ms:7.2f} ms, overhead {overhead[name]:7.2f} ms")
    held = overhead["camera_detector"] <= HELD_MS and ratio <= HELD_RATIO
    print("held" if held else f"NOT held: at most {HELD_MS} ms and {HELD_RATIO} of plain_node")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
