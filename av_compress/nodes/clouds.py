# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Point clouds as messages."""

from __future__ import annotations

import array
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from av_compress.data.points import CHANNELS
from av_compress.nodes.detections import header_message
from av_compress.nodes.ros import message_class
from av_compress.tasks.base import PointCloud

_FLOAT32 = 7  # sensor_msgs/PointField


def cloud_message(cloud: PointCloud, names: Sequence[str] = CHANNELS) -> Any:
    """Return a sensor_msgs/PointCloud2 whose fields are the cloud's columns, all float32.

    Args:
        cloud: what is sent.
        names: of the fields.

    """
    field = message_class("sensor_msgs/PointField")
    points = np.ascontiguousarray(cloud.points, np.float32)
    count, columns = points.shape
    data = array.array("B")
    data.frombytes(points.reshape(-1).view(np.uint8).data)
    return message_class("sensor_msgs/PointCloud2")(
        header=header_message(cloud.stamp_ns, cloud.frame_id),
        height=1,
        width=count,
        fields=[
            field(name=name, offset=4 * index, datatype=_FLOAT32, count=1)
            for index, name in enumerate(names[:columns])
        ],
        is_bigendian=sys.byteorder == "big",
        point_step=4 * columns,
        row_step=4 * columns * count,
        data=data,
        is_dense=bool(np.isfinite(points[:, :3]).all()),
    )
