# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Serving nodes in this process, and bundles of the demo's detector for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from helpers_node import Probe, Spinning

from av_compress.cli.main import main


@contextmanager
def serving(role: Any, defaults: Mapping[str, Any]) -> Iterator[Callable[..., Any]]:
    """Give what starts nodes in state unconfigured; they end with the block."""
    from rclpy.parameter import Parameter

    from av_compress.nodes.runtime import ServingNode

    running: list[Spinning] = []

    def start(**parameters: Any) -> ServingNode:
        values = {**defaults, **parameters}
        node = ServingNode(
            role,
            parameter_overrides=[Parameter(key, value=value) for key, value in values.items()],
        )
        running.append(Spinning(node))
        return node

    try:
        yield start
    finally:
        for spinning in running:
            spinning.node.release()
            spinning.stop()


def activated(start: Callable[..., Any], probe: Probe, name: str) -> Callable[..., Any]:
    """Return what starts a node and brings it to active."""

    def activate(**parameters: Any) -> Any:
        node = start(**parameters)
        assert probe.change_state(name, "configure")
        assert probe.change_state(name, "activate")
        return node

    return activate


def put_demo_detector(folder: Path) -> None:
    """Write the demo's camera detector and its task."""
    for name in ("detector.onnx", "detector.task.yaml"):
        source = resources.files("av_compress.data.demo") / name
        (folder / name).write_bytes(source.read_bytes())


def build_demo_bundle(folder: Path, name: str, **recipe: Any) -> None:
    """Build folder/name of the demo's detector, calibrated on folder/images, without a gate."""
    whole = {
        "model": "detector.onnx",
        "task": "detector.task.yaml",
        "calibration": {"source": {"type": "images", "path": "images"}, "samples": 4},
        "gate": None,
        **recipe,
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(whole))
    assert main(["build", str(path), "--output", str(folder / name)]) == 0
