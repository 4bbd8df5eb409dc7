# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""lidar_detector on the real middleware with whatever a LiDAR may send.

A cloud that cannot be used is counted, diagnostics and log name its fault, and the next is served.
"""

from __future__ import annotations

import array
import re

import helpers_node
import numpy as np
import pytest
from helpers_camera_node import probe, ros  # noqa: F401 (fixtures)
from helpers_lidar_node import cloud

helpers_node.require_ros("vision_msgs.msg", "nav_msgs.msg", "visualization_msgs.msg")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rcl_interfaces.msg import Log
from sensor_msgs.msg import PointCloud2, PointField
from test_node_lidar_detector import (  # noqa: F401 (some are fixtures)
    DETECTIONS,
    NAME,
    POINTS,
    activate,
    bundle,
    start,
)
from vision_msgs.msg import Detection3DArray

from av_compress.nodes.clouds import cloud_message
from av_compress.tasks.base import PointCloud

CELL = (3.5, 2.5)
CALM = {"diagnostics.period_s": 0.1, "diagnostics.input_timeout_ms": 0.0, "deadline_ms": 0.0}


def field(name: str, offset: int, datatype: int = PointField.FLOAT32, count: int = 1):
    return PointField(name=name, offset=offset, datatype=datatype, count=count)


def good(second: float = 1.0, frame: str = "lidar") -> PointCloud2:
    return cloud_message(cloud(second, CELL, frame=frame))


def changed(**fields) -> PointCloud2:
    message = good(2.0)
    for name, value in fields.items():
        setattr(message, name, value)
    return message


def values_of(message: PointCloud2) -> np.ndarray:
    return np.frombuffer(message.data, np.float32).reshape(-1, 4).copy()


def held(values: np.ndarray) -> array.array:
    return array.array("B", np.ascontiguousarray(values).tobytes())


def with_fields(*fields: PointField) -> PointCloud2:
    names = {one.name for one in fields}
    return changed(fields=[*fields, *(one for one in good().fields if one.name not in names)])


def with_intensity(value: float) -> PointCloud2:
    values = values_of(good())
    values[:, 3] = value
    return changed(data=held(values))


def without(name: str) -> PointCloud2:
    return changed(fields=[one for one in good().fields if one.name != name])


# What is sent -> what is said of it.
BAD = {
    "no z": (without("z"), "lacks the fields z; it has x, y, intensity"),
    "no intensity": (without("intensity"), "lacks the fields intensity; it has x, y, z"),
    "no fields": (changed(fields=[]), "lacks the fields x, y, z, intensity; it has none"),
    "truncated": (changed(data=good().data[:-8]), "is truncated: 1040 bytes are needed, it has"),
    "no data": (changed(data=array.array("B")), "is truncated: 1040 bytes are needed, it has 0"),
    "point too short": (changed(point_step=4), "field y .* ends at byte 8 of a point of 4"),
    "point of no bytes": (changed(point_step=0), "field x .* ends at byte 4 of a point of 0"),
    "rows too short": (changed(height=5, width=13, row_step=9), "has rows of 9 bytes; 208 are"),
    "more rows than data": (changed(height=2), "is truncated: 2080 bytes are needed"),
    "no height": (changed(height=0), "65 x 0 points has 1040 bytes of data"),
    "no width": (changed(width=0), "0 x 1 points has 1040 bytes of data"),
    "absurd size": (changed(height=2**32 - 1, width=2**32 - 1), "has rows of"),
    "absurd offset": (with_fields(field("x", 2**32 - 1)), "field x .* ends at byte 4294967299"),
    "unknown datatype": (with_fields(field("x", 0, 77)), "datatype 77; allowed: 1 to 8"),
    "several values": (with_fields(field("z", 8, count=2)), "field z .* is 2 values, not one"),
    "twice": (with_fields(field("x", 0), field("x", 4)), "has several fields x; wanted is one"),
    "intensity NaN": (with_intensity(np.nan), "each of its 63 points has a NaN, .* in intensity"),
    "intensity infinite": (with_intensity(np.inf), "each of its 63 points has a NaN"),
}


def serve(probe, publisher, message, received: list) -> Detection3DArray:
    before = len(received)
    publisher.publish(message)
    probe.until(lambda: len(received) > before, "detections")
    return received[-1]


def places(found: Detection3DArray) -> list[tuple[float, float]]:
    return [(one.bbox.center.position.x, one.bbox.center.position.y) for one in found.detections]


@pytest.fixture
def running(activate, probe):
    """Return node, publisher of clouds and list of detections, after a first cloud was served."""
    received = probe.collect(Detection3DArray, DETECTIONS)
    node = activate(**CALM)
    publisher = probe.publisher(PointCloud2, POINTS)
    probe.until(lambda: probe.node.count_publishers(DETECTIONS) > 0, "the detections' publisher")
    assert places(serve(probe, publisher, good(), received)) == [CELL]
    return node, publisher, received


@pytest.mark.parametrize(("message", "says"), BAD.values(), ids=BAD)
def test_a_cloud_that_cannot_be_used(running, probe, message, says):
    node, publisher, received = running
    reports = probe.collect(DiagnosticArray, "/diagnostics")
    logs = probe.collect(Log, "/rosout", 100)
    probe.until(lambda: reports, "diagnostics")
    publisher.publish(message)
    probe.until(
        lambda: any("1 bad frames" in one.message for r in reports for one in r.status),
        "diagnostics of the failure",
    )
    status = reports[-1].status[0]
    assert status.level == DiagnosticStatus.WARN
    assert re.search(f"1 bad frames, the last: .*{says}", status.message)
    assert {pair.key: pair.value for pair in status.values}["failed"] == "1"
    probe.until(lambda: any("skipped" in one.msg for one in logs), "a line in the log")
    (line,) = (one for one in logs if "skipped" in one.msg)
    assert line.name == NAME
    assert re.search(f"message skipped: .*{says}", line.msg)
    assert "unexpectedly" not in line.msg
    found = serve(probe, publisher, good(3.0), received)
    assert (found.header.stamp.sec, places(found)) == (3, [CELL])
    assert len(received) == 2
    assert node.monitor().totals().failed == 1


def swapped() -> PointCloud2:
    return changed(data=held(values_of(good()).astype(">f4")), is_bigendian=True)


def padded() -> PointCloud2:
    """Return 5 rows of 13 points, 8 bytes between them, the last row without."""
    rows = values_of(good()).reshape(5, -1).view(np.uint8)
    data = np.pad(rows, ((0, 0), (0, 8)), constant_values=255).reshape(-1)[:-8]
    return changed(height=5, width=13, row_step=13 * 16 + 8, data=held(data))


def some_unusable() -> PointCloud2:
    """Return the cell's points, and among them as many with values that are none."""
    values = values_of(good()).repeat(2, axis=0)
    values[::2, 3] = np.array([np.nan, np.inf, -np.inf])[np.arange(len(values) // 2) % 3]
    values[::4, :3] = 9.5, 0.5, 0.0
    return cloud_message(PointCloud(values, 2 * 10**9, "lidar"))


def behind_and_below() -> PointCloud2:
    values = values_of(good()).repeat(3, axis=0)
    values[::3, 0] *= -1
    values[1::3, 2] = -50
    return cloud_message(PointCloud(values, 2 * 10**9, "lidar"))


def ranged() -> PointCloud2:
    """Return a cloud with a field `range`, of which nobody asks; some of it is negative."""
    values = values_of(good())
    wide = np.c_[values, -np.ones(len(values), np.float32)]
    fields = [*good().fields, field("range", 16)]
    return changed(fields=fields, point_step=20, row_step=20 * len(wide), data=held(wide))


ODD = {
    "more data than points": (changed(data=good().data + array.array("B", bytes(99))), [CELL]),
    "big endian": (swapped(), [CELL]),
    "rows with gaps": (padded(), [CELL]),
    "no length of rows": (changed(row_step=0), [CELL]),
    "dense it is not": (changed(is_dense=False), [CELL]),
    "a foreign field twice": (with_fields(field("a", 0, 9, 7), field("a", 0)), [CELL]),
    "some values are none": (some_unusable(), [CELL]),
    "points behind and below": (behind_and_below(), [CELL]),
    "ranges below zero": (ranged(), [CELL]),
    "no points": (changed(width=0, data=array.array("B"), row_step=0), []),
    "no points, no fields": (changed(height=0, width=0, data=array.array("B"), fields=[]), []),
    "all NaN": (changed(data=held(np.full((65, 4), np.nan, np.float32))), []),
    "all infinite": (changed(data=held(np.full((65, 4), -np.inf, np.float32))), []),
    "nothing ahead": (changed(data=held(values_of(good()) * np.float32([-1, 1, 1, 1]))), []),
}


@pytest.mark.parametrize(("message", "cells"), ODD.values(), ids=ODD)
def test_an_odd_cloud_is_served(running, probe, message, cells):
    node, publisher, received = running
    found = serve(probe, publisher, message, received)
    assert (found.header.stamp.sec, places(found)) == (2, cells)
    assert places(serve(probe, publisher, good(3.0), received)) == [CELL]
    assert node.monitor().totals().failed == 0


def test_stamps_and_frames_may_change_at_any_time(running, probe):
    """Each cloud is served as what it says it is: another clock, another sensor, no stamp."""
    node, publisher, received = running
    sent = [(9.5, "lidar"), (4.25, "lidar"), (0.0, "lidar"), (5.0, "rear"), (5.0, ""), (6.0, "l")]
    for second, frame in sent:
        found = serve(probe, publisher, good(second, frame), received)
        stamp = found.header.stamp
        assert (stamp.sec + stamp.nanosec / 1e9, found.header.frame_id) == (second, frame)
        assert places(found) == [CELL]
    assert node.monitor().totals().failed == 0


def test_five_million_points_are_served(running, probe):
    """Eighty megabytes: 25 times what a LiDAR of 128 beams sends."""
    node, publisher, received = running
    points = np.random.default_rng(0).random((5_000_000, 4), np.float32)
    points[:, 0] += 20  # Outside.
    points[-63:, :3] = (*CELL, 0)
    message = cloud_message(PointCloud(points, 2 * 10**9, "lidar"))
    assert places(serve(probe, publisher, message, received)) == [CELL]
    assert places(serve(probe, publisher, good(3.0), received)) == [CELL]
    assert node.monitor().totals().failed == 0
