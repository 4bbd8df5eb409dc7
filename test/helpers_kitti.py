# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Small folders in KITTI's layout."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

# The camera stands where the LiDAR does: x right is -y, y down is -z, z forward is x. A point 10 m
# ahead and 1 m to the left is 10 pixels left of the middle of an image of 200 x 100 pixels.
STRAIGHT = """P0: 0 0 0 0 0 0 0 0 0 0 0 0
P2: 100 0 100 0 0 100 50 0 0 0 1 0
R0_rect: 1 0 0 0 1 0 0 0 1
Tr_velo_to_cam: 0 -1 0 0 0 0 -1 0 1 0 0 0

"""
SIZE = (200, 100)
CAR_LINE = "Car 0.10 1 -1.5 30.0 40.0 90.0 75.5 1.50 2.00 4.00 1.0 1.75 10.0 0.0"
REGION_LINE = "DontCare -1 -1 -10 1 2 3 4 -1 -1 -1 -1000 -1000 -1000 -10"


def write_frame(
    root: Path,
    name: str,
    points: np.ndarray,
    labels: str = CAR_LINE,
    calibration: str = STRAIGHT,
    size: tuple[int, int] = SIZE,
) -> None:
    for folder in ("velodyne", "calib", "label_2", "image_2"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    points.astype("<f4").tofile(root / "velodyne" / f"{name}.bin")
    (root / "calib" / f"{name}.txt").write_text(calibration)
    (root / "label_2" / f"{name}.txt").write_text(labels)
    cv2.imwrite(str(root / "image_2" / f"{name}.png"), np.zeros((size[1], size[0], 3), np.uint8))
