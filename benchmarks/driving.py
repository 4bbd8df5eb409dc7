# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Driving a node from another process: publish a sensor's messages, time what comes back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from children import run_at_once
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile, QoSReliabilityPolicy

from av_compress.engines.bundle import load_bundle
from av_compress.engines.pipeline import Pipeline
from av_compress.nodes.lifecycle import LifecycleClient

ROOT = Path(__file__).resolve().parents[1]
PROFILE = ROOT / "config/fastdds_shm_profile.xml"
WARM_UP_S = 1.0
SETTLE_S = 2.5
# Until the first diagnostics, which come once a second.
COUNTS_S = 10.0
STOP_S = 10.0
# To start, to be brought up and to stop, beside the time of the run.
AROUND_S = 240.0
# Of the frames of sensors that are driven at once: less has not held their rates.
HELD_SHARE = 0.99
COUNTS = ("received", "processed", "dropped", "failed")


@dataclass(frozen=True)
class Sensor:
    """What is published, and what comes back.

    Attributes:
        topic: of the server, below `~/input`.
        type: class of the messages.
        answers: class of the detections.
        rate_hz: how often.
        make: makes the message; called in the process that publishes.

    """

    topic: str
    type: type[Any]
    answers: type[Any]
    rate_hz: float
    make: Callable[[], Any]


@dataclass(frozen=True)
class Contestant:
    """A server.

    Attributes:
        node: its name.
        command: what Python runs.
        profile: the middleware's, of both processes; None: as ROS comes.
        managed: whether it is a lifecycle node with the QoS of sensor data; the default QoS is
            reliable, and takes nothing from a best-effort publisher.

    """

    node: str
    command: tuple[str, ...]
    profile: Path | None
    managed: bool

    def qos(self) -> QoSProfile:
        """Return what is published with."""
        if self.managed:
            return QoSProfile(depth=1, reliability=QoSReliabilityPolicy.BEST_EFFORT)
        return QoSProfile(depth=10)


def ours(name: str) -> Contestant:
    """Return a node of this package."""
    return Contestant(name, ("-m", f"av_compress.nodes.{name}"), PROFILE, True)


def plain(kind: str, profile: Path | None) -> Contestant:
    """Return the peer of a kind, `camera` or `lidar`."""
    command = (str(ROOT / "benchmarks/plain_node.py"), kind)
    return Contestant(f"plain_{kind}", command, profile, False)


@dataclass(frozen=True)
class Latencies:
    """Milliseconds from publish to received detections, and the server's counts and memory."""

    frames: int
    answered: int
    median_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float
    rss_first_mb: float
    rss_last_mb: float
    counts: Mapping[str, int]

    @staticmethod
    def of(
        frames: int, latencies_ms: list[float], rss_mb: list[float], counts: Mapping[str, int]
    ) -> Latencies:
        if not latencies_ms:
            raise RuntimeError(f"none of {frames} frames was answered")
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
            counts=dict(counts),
        )

    @property
    def lost(self) -> int:
        """Frames that were neither answered nor dropped for a newer one."""
        return self.frames - self.answered - self.counts["dropped"]

    @property
    def held(self) -> bool:
        """Whether nothing was lost, and next to nothing dropped."""
        return self.lost == 0 and self.answered >= HELD_SHARE * self.frames


class Driver:
    """Publishes a sensor's messages and times the answers."""

    def __init__(self, contestant: Contestant, sensor: Sensor) -> None:
        self.contestant, self.sensor = contestant, sensor
        self.node = rclpy.create_node(f"driver_of_{contestant.node}")
        self.publisher = self.node.create_publisher(
            sensor.type, f"/{contestant.node}/input/{sensor.topic}", contestant.qos()
        )
        topic = f"/{contestant.node}/output/detections"
        self.node.create_subscription(sensor.answers, topic, self._on_detections, 10)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self.latencies_ms: list[float] = []
        self.counts: dict[str, int] = {}
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.node)
        self.thread = threading.Thread(target=self.executor.spin, daemon=True)
        self.thread.start()

    def _on_detections(self, message: Any) -> None:
        stamp = message.header.stamp
        self.latencies_ms.append((time.time_ns() - stamp.sec * 10**9 - stamp.nanosec) / 1e6)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name.startswith(f"{self.contestant.node}: "):
                values = {pair.key: pair.value for pair in status.values}
                self.counts = {name: int(values[name]) for name in COUNTS}

    def bring_up(self, wait: Callable[[], None]) -> None:
        """Bring the server to where it serves; `wait` waits a moment while it lives."""
        server = self.contestant.node
        if self.contestant.managed:
            client = LifecycleClient(self.node, server, wait)
            for transition in ("configure", "activate"):
                if not client.change(transition):
                    raise RuntimeError(f"{server} refused to {transition}")
        end = time.monotonic() + 60
        while self.publisher.get_subscription_count() == 0:
            if time.monotonic() > end:
                raise RuntimeError(f"{server} does not subscribe")
            wait()

    def publish(self, seconds: float, pid: int) -> Latencies:
        """Publish for so long, after a warm-up that is not counted."""
        message, rate_hz = self.sensor.make(), self.sensor.rate_hz
        rss_mb: list[float] = []
        for _ in paced(int(WARM_UP_S * rate_hz), rate_hz):
            self._send(message)
        time.sleep(SETTLE_S)
        before = self._counted()
        self.latencies_ms.clear()
        frames = int(seconds * rate_hz)
        for index, _ in enumerate(paced(frames, rate_hz)):
            if index % int(rate_hz) == 0:
                rss_mb.append(resident_mb(pid))
            self._send(message)
        time.sleep(SETTLE_S)
        counts = {name: count - before[name] for name, count in self.counts.items()}
        return Latencies.of(frames, list(self.latencies_ms), rss_mb, counts)

    def _counted(self) -> dict[str, int]:
        """Return what the server has counted; only lifecycle nodes do."""
        end = time.monotonic() + COUNTS_S
        while self.contestant.managed and not self.counts:
            if time.monotonic() > end:
                raise RuntimeError(f"no diagnostics came for {COUNTS_S:g} s")
            time.sleep(0.05)
        return dict(self.counts)

    def _send(self, message: Any) -> None:
        now = time.time_ns()
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(now, 10**9)
        self.publisher.publish(message)

    def stop(self) -> None:
        self.executor.shutdown()
        self.thread.join()
        self.node.destroy_node()


def paced(count: int, rate_hz: float) -> Iterator[None]:
    """Yield `count` times at a sensor's rate."""
    due = time.monotonic()
    for _ in range(count):
        yield
        due += 1 / rate_hz
        time.sleep(max(0.0, due - time.monotonic()))


def resident_mb(pid: int) -> float:
    """Return the memory that a process has."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def measure_bare(pipeline: Pipeline, frame: Any, seconds: float, rate_hz: float) -> float:
    """Return the median of preprocess + run + postprocess in milliseconds, at a sensor's rate."""
    times_ms = []
    for _ in paced(int((WARM_UP_S + seconds) * rate_hz), rate_hz):
        started = time.perf_counter_ns()
        pipeline.process(frame)
        times_ms.append((time.perf_counter_ns() - started) / 1e6)
    pipeline.close()
    return round(float(np.median(times_ms[int(WARM_UP_S * rate_hz) :])), 3)


@dataclass(frozen=True)
class Drive:
    """A server that is driven: who, with what and for how long."""

    contestant: Contestant
    sensor: Sensor
    bundle: Path
    seconds: float


def drive(*drives: Drive) -> list[Latencies]:
    """Drive servers at once, each from a process of its own that has read no profile yet."""
    works = {
        f"{index}: {one.contestant.node}": partial(_measure, one)
        for index, one in enumerate(drives, 1)
    }
    return run_at_once(works, AROUND_S + max(one.seconds for one in drives))


@dataclass(frozen=True)
class Comparison:
    """What servers add to their model.

    Attributes:
        bare_ms: median of the bare preprocess + run + postprocess.
        runs: server -> from publish to received detections.

    """

    bare_ms: float
    runs: Mapping[str, Latencies]

    def overhead_ms(self, name: str) -> float:
        """Return by how much a server's median exceeds the bare model's."""
        return round(self.runs[name].median_ms - self.bare_ms, 3)

    def ratio(self, name: str) -> float:
        """Return a server's overhead, that of the plain node being 1."""
        return round(self.overhead_ms(name) / self.overhead_ms("plain_node"), 3)

    def figures(self, name: str) -> dict[str, Any]:
        """Return JSON values; the ratio is that of the server `name`."""
        return {
            "bare_median_ms": self.bare_ms,
            "overhead_median_ms": {one: self.overhead_ms(one) for one in self.runs},
            "ratio_to_plain_node": self.ratio(name),
            "runs": {one: asdict(run) for one, run in self.runs.items()},
        }

    def show(self) -> None:
        """Print a line for each server."""
        for name, run in self.runs.items():
            overhead = self.overhead_ms(name)
            print(f"{name:24} median {run.median_ms:7.2f} ms, overhead {overhead:7.2f} ms")


def compare(
    contestants: Mapping[str, Contestant], sensor: Sensor, frame: Any, bundle: Path, seconds: float
) -> Comparison:
    """Measure the bare pipeline of a bundle on a frame, and servers of it one after the other."""
    pipeline = load_bundle(bundle).open_pipeline()
    bare_ms = measure_bare(pipeline, frame, seconds, sensor.rate_hz)
    runs = {
        name: drive(Drive(one, sensor, bundle, seconds))[0] for name, one in contestants.items()
    }
    return Comparison(bare_ms, runs)


def _measure(one: Drive, all_ready: Callable[[], object]) -> Latencies:
    """Time a contestant in a process of its own; this one drives it."""
    _use_profile(one.contestant.profile)
    rclpy.init()
    process = subprocess.Popen(
        [sys.executable, *one.contestant.command, "--ros-args", "-p", f"bundle_path:={one.bundle}"]
    )
    driver = Driver(one.contestant, one.sensor)
    try:
        driver.bring_up(partial(_wait_for, process))
        all_ready()
        return driver.publish(one.seconds, process.pid)
    finally:
        driver.stop()
        _stop(process)
        rclpy.try_shutdown()


def _wait_for(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        raise RuntimeError(f"it ended with exit code {process.returncode}")
    time.sleep(0.02)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGINT)
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()


def _use_profile(profile: Path | None) -> None:
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    # Those that are driven at once share a domain, as on a vehicle.
    os.environ["ROS_DOMAIN_ID"] = str(os.getppid() % 101 + 1)
    os.environ.pop("FASTRTPS_DEFAULT_PROFILES_FILE", None)
    if profile is not None:
        os.environ["FASTRTPS_DEFAULT_PROFILES_FILE"] = str(profile)
