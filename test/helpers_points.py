# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Messages that hold point clouds, packed value by value."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from av_compress.data.points import PointField

STAMP_NS = 1_700_000_000_250_000_000

# Datatype of sensor_msgs/PointField -> format of `struct`.
FORMATS = {1: "b", 2: "B", 3: "h", 4: "H", 5: "i", 6: "I", 7: "f", 8: "d"}


def message(fields, data: Any, width: int, **changes) -> SimpleNamespace:
    """Make what has the attributes of a sensor_msgs/PointCloud2; its rows are not padded."""
    height = changes.get("height", 1)
    step = changes.pop("point_step", None)
    if step is None:
        step = max((f.offset + struct.calcsize(FORMATS[f.datatype]) for f in fields), default=0)
    stamp = SimpleNamespace(sec=STAMP_NS // 10**9, nanosec=STAMP_NS % 10**9)
    whole = {
        "header": SimpleNamespace(stamp=stamp, frame_id="lidar"),
        "height": height,
        "width": width,
        "fields": list(fields),
        "is_bigendian": False,
        "point_step": step,
        "row_step": step * width,
        "data": data,
        "is_dense": True,
    }
    return SimpleNamespace(**{**whole, **changes})


def packed(
    fields: Sequence[PointField],
    rows: Sequence[Sequence[Sequence[Any]]],
    step: int,
    padding: int = 0,
    big: bool = False,
    filler: int = 0xA5,
) -> bytes:
    """Pack values [row, point, field] one by one."""
    whole = bytearray()
    for row in rows:
        for point in row:
            place = bytearray([filler] * step)
            for field, value in zip(fields, point):
                code = (">" if big else "<") + FORMATS[field.datatype]
                struct.pack_into(code, place, field.offset, value)
            whole += place
        whole += bytes([filler] * padding)
    return bytes(whole)


def xyzi(count: int = 5) -> tuple[list[PointField], np.ndarray]:
    """Return the fields and values [count, 4] of a plain cloud."""
    values = np.random.default_rng(count).normal(0, 10, (count, 4)).astype("<f4")
    fields = [PointField(name, 4 * at, 7) for at, name in enumerate(("x", "y", "z", "intensity"))]
    return fields, values
