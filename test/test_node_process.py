# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The camera_detector process: how it starts, how it fails to, and how it ends."""

import array
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import helpers_node
import pytest
from helpers_node import Probe
from test_bundle import write_bundle

helpers_node.require_ros("vision_msgs.msg")

from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray

NAME = "camera_detector"
# Ends within a second on a machine of its own; the rest is for a loaded one.
EXIT_S = 5.0


@pytest.fixture(scope="module", autouse=True)
def _ros():
    with helpers_node.ros_context():
        yield


@pytest.fixture
def probe() -> Iterator[Probe]:
    probe = Probe()
    yield probe
    probe.stop()


@pytest.fixture
def spawn(tmp_path: Path):
    """Start the node's process."""
    processes: list[subprocess.Popen] = []

    def spawn(*ros_arguments: str) -> subprocess.Popen:
        bundle = write_bundle(tmp_path / "bundle")
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "av_compress.nodes.camera_detector"),
                *("--ros-args", "-p", f"bundle_path:={bundle}", *ros_arguments),
            ],
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process

    yield spawn
    for process in processes:
        process.kill()
        process.communicate()


def end(process: subprocess.Popen, number: int) -> tuple[int, str]:
    """Send a signal; return the exit code and what was logged."""
    process.send_signal(number)
    _, log = process.communicate(timeout=EXIT_S)
    return process.returncode, log


def serve(probe: Probe, frames: int) -> None:
    """Bring the node to active and have it serve images."""
    received = probe.collect(Detection2DArray, f"/{NAME}/output/detections")
    assert probe.change_state(NAME, "configure")
    assert probe.change_state(NAME, "activate")
    publisher = probe.publisher(Image, f"/{NAME}/input/image")
    message = Image(height=720, width=1280, step=3840, encoding="bgr8")
    message.data = array.array("B", bytes(720 * 3840))
    for count in range(1, frames + 1):
        # Best effort: a message may be lost, and is then sent again.
        for _ in range(10):
            publisher.publish(message)
            probe.spin_until(lambda: len(received) >= count, timeout_s=3.0)  # noqa: B023
            if len(received) >= count:
                break
        assert len(received) >= count, "no detections"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("state", ["unconfigured", "active"])
def test_a_signal_ends_it_cleanly_from_every_state(spawn, probe, number, state):
    process = spawn()
    if state == "active":
        serve(probe, frames=3)
    else:
        assert probe.state(NAME) == "unconfigured"
    code, log = end(process, number)
    assert code == 0
    assert "Traceback" not in log
    assert "Error" not in log


def test_a_second_signal_does_not_break_into_the_end(spawn, probe):
    process = spawn()
    serve(probe, frames=1)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    code, log = end(process, signal.SIGINT)
    assert code == 0
    assert "Traceback" not in log


def test_memory_stays_when_it_serves_and_starts_over(spawn, probe):
    process = spawn()
    serve(probe, frames=20)

    def start_over() -> None:
        assert probe.change_state(NAME, "deactivate")
        assert probe.change_state(NAME, "cleanup")
        serve(probe, frames=10)

    # The allocator's arenas fill up over the first rounds.
    for _ in range(8):
        start_over()
    before = resident_mib(process.pid)
    for _ in range(8):
        start_over()
    # A round's images take 26 MiB, its histograms 4 MiB: a leak of either is far more.
    assert resident_mib(process.pid) - before < 16
    assert end(process, signal.SIGINT)[0] == 0


def resident_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no VmRSS")


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("deadline_ms:=fast", "allowed: number with a point"),
        ("gpu_id:=-1", "allowed: integer from 0 to 63"),
    ],
)
def test_a_wrong_parameter_is_one_line_and_exit_code_2(spawn, argument, words):
    process = spawn("-p", argument)
    _, log = process.communicate(timeout=helpers_node.WAIT_S)
    assert process.returncode == 2
    lines = [line for line in log.splitlines() if line.startswith(f"{NAME}: error:")]
    assert len(lines) == 1
    assert argument.split(":=")[0] in lines[0]
    assert words in lines[0]
    assert "Traceback" not in log


@pytest.fixture
def after():
    """Start the node's process after some lines of Python."""
    processes: list[subprocess.Popen] = []

    def after(preparation: str, bundle: Path) -> subprocess.Popen:
        code = (
            f"import sys\n{preparation}\n"
            "from av_compress.nodes.camera_detector import main\n"
            "sys.exit(main())"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", code, "--ros-args", "-p", f"bundle_path:={bundle}"],
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process

    yield after
    for process in processes:
        process.kill()
        process.communicate()


def test_a_missing_ros_is_one_line(after, tmp_path):
    process = after("sys.modules['rclpy'] = None", write_bundle(tmp_path / "bundle"))
    _, log = process.communicate(timeout=helpers_node.WAIT_S)
    assert process.returncode == 1
    assert "'rclpy'" in log
    assert "av_compress[ros]" in log
    assert "Traceback" not in log


def test_a_missing_message_package_is_named_on_configure(after, tmp_path, probe):
    bundle = write_bundle(tmp_path / "bundle")
    process = after("sys.modules['vision_msgs'] = None", bundle)
    assert not probe.change_state(NAME, "configure")
    code, log = end(process, signal.SIGINT)
    assert code == 0
    assert "message vision_msgs/Detection2DArray" in log
    assert "Traceback" not in log


HANG = """
import pathlib, time
from av_compress.engines.pipeline import Pipeline
process, count = Pipeline.process, 0
def hang_after_warm_up(self, frame):
    global count
    count += 1
    if count > 3:
        pathlib.Path({mark!r}).touch()
        time.sleep(600)
    return process(self, frame)
Pipeline.process = hang_after_warm_up
"""


def test_a_model_at_work_does_not_hold_up_the_end(after, tmp_path, probe):
    mark = tmp_path / "at_work"
    process = after(HANG.format(mark=str(mark)), write_bundle(tmp_path / "bundle"))
    assert probe.change_state(NAME, "configure")
    assert probe.change_state(NAME, "activate")
    publisher = probe.publisher(Image, f"/{NAME}/input/image")
    message = Image(height=2, width=2, step=6, encoding="bgr8", data=array.array("B", bytes(12)))

    def at_work() -> bool:
        # One message alone may pass before the node has found its publisher.
        publisher.publish(message)
        return mark.exists()

    probe.until(at_work, "model at work")
    code, log = end(process, signal.SIGINT)
    assert code == 0
    assert "left without waiting: the model is still at work" in log
    assert "Traceback" not in log
