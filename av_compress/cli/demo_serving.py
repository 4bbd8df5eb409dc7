# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The demo's nodes and the player that feeds them, as processes of their own."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from av_compress.errors import EngineError

SHUTDOWN_S = 5.0
_PLAYING_S = 300


def serve(output: Path, topics: Mapping[str, str], bundles: Mapping[str, Path]) -> dict[str, Any]:
    """Play the drive to all nodes at once; return what the player received of each.

    Args:
        output: the demo's folder.
        topics: node -> the topic that is played to it.
        bundles: node -> what it serves.

    Raises:
        EngineError: a node or the player failed; the node's log is named.

    """
    environment = _ros_environment()
    received = output / "received.json"
    logs = ", ".join(str(_log(output, node)) for node in topics)
    with ExitStack() as stack:
        for node in topics:
            stack.enter_context(_node(output, node, bundles[node], environment))
        command = [sys.executable, "-m", "av_compress.nodes.drive_player", str(output / "drive")]
        for node, topic in topics.items():
            command += ["--play", f"{node}={topic}"]
        command += ["--json", str(received)]
        played = subprocess.run(command, env=environment, check=False, timeout=_PLAYING_S)
    if played.returncode != 0:
        raise EngineError(f"the drive could not be played to the nodes; see {logs}")
    found: dict[str, Any] = json.loads(received.read_text(encoding="utf-8"))
    for node, one in found.items():
        if not one["answers"]:
            raise EngineError(f"{node} published no detections; see {_log(output, node)}")
    return found


@contextmanager
def _node(output: Path, name: str, bundle: Path, environment: dict[str, str]) -> Iterator[None]:
    command = [sys.executable, "-m", f"av_compress.nodes.{name}", "--ros-args"]
    command += ["-p", f"bundle_path:={bundle.resolve()}"]
    with _log(output, name).open("w", encoding="utf-8") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            yield
        finally:
            process.send_signal(signal.SIGINT)
            try:
                code = process.wait(SHUTDOWN_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                code = -signal.SIGKILL
    if code != 0:
        raise EngineError(f"{name} ended with {code}; see {_log(output, name)}")


def _log(output: Path, node: str) -> Path:
    return output / f"{node}.log"


def _ros_environment() -> dict[str, str]:
    """Return an environment in which nobody else's nodes are heard."""
    environment = dict(os.environ)
    environment["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    environment.setdefault("ROS_DOMAIN_ID", str(random.randint(1, 100)))
    profile = _shm_profile()
    if profile is not None:
        environment.setdefault("FASTRTPS_DEFAULT_PROFILES_FILE", str(profile))
    return environment


def _shm_profile() -> Path | None:
    """Find the Fast DDS profile in a source tree or where it was installed."""
    name = Path("config") / "fastdds_shm_profile.xml"
    root = Path(__file__).resolve().parents[2]
    share = [Path(p) / "share/av_compress" for p in (sys.prefix, *sys.path[:0])]
    share += [Path(p) / "share/av_compress" for p in _ament_prefixes()]
    return next((p / name for p in (root, *share) if (p / name).is_file()), None)


def _ament_prefixes() -> list[str]:
    return [p for p in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p]
