# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""A recorded LiDAR sweep of a wanted size, as points and as a message."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from av_compress.data.points import fields_of

POINTS = 120_000
# As velodyne_pointcloud and others publish points: tightly packed, the ring before the time.
XYZIRT = np.dtype(
    {
        "names": ["x", "y", "z", "intensity", "ring", "time"],
        "formats": ["<f4", "<f4", "<f4", "<f4", "<u2", "<f4"],
    }
)


def sweep(data: Path) -> np.ndarray:
    """Return a recorded sweep's points [n, 4], topped up from the next to the number wanted."""
    paths = sorted((data / "lidar" / "kitti" / "velodyne").glob("*.bin"))
    found = np.concatenate([np.fromfile(path, np.float32).reshape(-1, 4) for path in paths[:2]])
    return found[:POINTS].copy()


def driver_message(points: np.ndarray) -> Any:
    """Return points as a driver's sensor_msgs/PointCloud2, with ring and time."""
    import array

    from sensor_msgs.msg import PointCloud2, PointField

    rows = np.zeros(len(points), XYZIRT)
    for column, name in enumerate(("x", "y", "z", "intensity")):
        rows[name] = points[:, column]
    message = PointCloud2(
        height=1,
        width=len(rows),
        point_step=XYZIRT.itemsize,
        row_step=XYZIRT.itemsize * len(rows),
        fields=[
            PointField(name=one.name, offset=one.offset, datatype=one.datatype, count=1)
            for one in fields_of(XYZIRT)
        ],
        is_dense=True,
        data=array.array("B", rows.tobytes()),
    )
    message.header.frame_id = "lidar"
    return message
