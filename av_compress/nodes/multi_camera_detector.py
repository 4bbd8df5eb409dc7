# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""multi_camera_detector: serves several cameras with one model, their images in one batch."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from av_compress.errors import ConfigError
from av_compress.nodes.camera_detector import CameraDetectorRole
from av_compress.nodes.process import run_node
from av_compress.telemetry.windows import NS_PER_MS, NS_PER_S


class MultiCameraDetectorRole(CameraDetectorRole):
    """What makes a serving node a detector of several cameras: each has topics of its own."""

    name = "multi_camera_detector"

    def slots(self, parameters: Mapping[str, Any]) -> Sequence[str]:
        """Return the cameras' names.

        Raises:
            ConfigError: there are none.

        """
        # ROS knows no empty list: an empty name stands for none.
        cameras = [name for name in parameters["cameras"] if name]
        if not cameras:
            raise ConfigError(
                "parameter cameras names none; name them, e.g. [front, left, right]: the images "
                "of front are then expected on ~/front/input/image"
            )
        return cameras

    def window_s(self, parameters: Mapping[str, Any]) -> float:
        """Return how long the first image waits for those of the other cameras."""
        return float(parameters["arrival_window_ms"]) * NS_PER_MS / NS_PER_S


def main(argv: Sequence[str] | None = None) -> int:
    """Run the node until it is told to stop."""
    return run_node(MultiCameraDetectorRole(), argv)


if __name__ == "__main__":
    sys.exit(main())
