# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""lidar_detector reads the fields, units and clocks that its parameters name."""

from __future__ import annotations

import array
from pathlib import Path

import helpers_node
import numpy as np
import pytest
from helpers_camera_node import probe, ros  # noqa: F401 (fixtures)
from helpers_node import Probe
from helpers_serving import activated, serving
from helpers_sweeps import SINGLE_TASK, START_NS, TASK, write_age_bundle

helpers_node.require_ros("vision_msgs.msg", "nav_msgs.msg", "tf2_msgs.msg")

from sensor_msgs.msg import PointCloud2, PointField
from test_node_lidar_detector import DETECTIONS, NAME, POINTS
from vision_msgs.msg import Detection3DArray

from av_compress.data.points import fields_of
from av_compress.nodes.detections import header_message
from av_compress.nodes.lidar_detector import LidarDetectorRole
from av_compress.tasks.registry import make_task

NOW_S = START_NS / 1e9
EPOCH = {"points.time": ["when"], "points.clock": "epoch"}


@pytest.fixture
def start(tmp_path: Path):
    root = write_age_bundle(tmp_path / "bundle", SINGLE_TASK)
    defaults = {"bundle_path": str(root), "onnxruntime.intra_op_threads": 1, "deadline_ms": 0.0}
    with serving(LidarDetectorRole(), defaults) as start:
        yield start


@pytest.fixture
def activate(start, probe: Probe):
    return activated(start, probe, NAME)


def timed(kind: str, values: list[float]) -> PointCloud2:
    """Return a cloud of two points, whose `when` holds values."""
    layout = np.dtype([(name, "<f4") for name in ("x", "y", "z", "intensity")] + [("when", kind)])
    points = np.zeros(2, layout)
    points["x"], points["when"] = (3.5, 8.5), values
    data = array.array("B")
    data.frombytes(points.tobytes())
    fields = [
        PointField(name=one.name, offset=one.offset, datatype=one.datatype, count=1)
        for one in fields_of(layout)
    ]
    return PointCloud2(
        header=header_message(START_NS, "lidar"),
        height=1,
        width=2,
        fields=fields,
        point_step=layout.itemsize,
        row_step=2 * layout.itemsize,
        data=data,
    )


@pytest.mark.parametrize(
    ("parameters", "kind", "values"),
    [
        (EPOCH, "<f8", [NOW_S - 0.25, NOW_S - 0.125]),
        ({**EPOCH, "points.time_unit": "us"}, "<f8", [NOW_S * 1e6 - 25e4, NOW_S * 1e6 - 125e3]),
        ({"points.time": ["when"], "points.time_unit": "ms"}, "<i4", [-250, -125]),
    ],
)
def test_times_are_of_the_unit_and_clock_that_are_named(activate, probe, parameters, kind, values):
    received = probe.collect(Detection3DArray, DETECTIONS)
    activate(**parameters)
    clouds = probe.publisher(PointCloud2, POINTS)
    probe.until(lambda: probe.node.count_publishers(DETECTIONS) > 0, "the detections' publisher")
    clouds.publish(timed(kind, values))
    probe.until(lambda: received, "detections")
    found = {
        round(one.bbox.center.position.x, 3): one.results[0].hypothesis.score
        for one in received[0].detections
    }
    assert found == pytest.approx({3.5: 0.25, 8.5: 0.125}, abs=1e-3)


def test_times_of_another_clock_are_refused_with_the_parameters_that_help(activate, probe):
    logs = probe.logs()
    activate(**{"points.time": ["when"]})
    clouds = probe.publisher(PointCloud2, POINTS)
    clouds.publish(timed("<f8", [NOW_S, NOW_S]))
    told = "set points.time_unit or points.clock to what it is"
    probe.told(told, logs)


def test_rings_are_read_from_the_field_that_is_named():
    encoder = {**TASK["input"]["encoder"], "features": ["x", "y", "z", "ring"]}
    task = make_task({**TASK, "input": {**SINGLE_TASK["input"], "encoder": encoder}})
    points = {"intensity": ["i"], "time": [""], "ring": ["line", "when"]}
    parameters = {
        "points": {
            **points,
            "time_unit": "auto",
            "clock": "stamp",
            "zeros": ["intensity", "time"],
        },
        "motion": {"fixed_frame": ""},
        "merge": {"lidars": [""]},
    }
    reader = LidarDetectorRole().make_reader(task, parameters, print)
    np.testing.assert_array_equal(reader.read(timed("<u2", [7, 31])).points[:, 5], [7, 31])


@pytest.mark.parametrize("name", ["reflectivity", "time"])
def test_any_field_may_hold_the_intensity(activate, name):
    """The node warms up on a cloud of such fields."""
    activate(**{"points.intensity": [name]})


def test_sweeps_without_a_frame_that_stands_still_are_refused(start, probe, tmp_path):
    several = write_age_bundle(tmp_path / "several")
    start(**{"bundle_path": str(several), "motion.fixed_frame": ""})
    assert not probe.change_state(NAME, "configure")
    told = "parameter motion.fixed_frame is empty, but the bundle's model takes 3 sweeps together"
    probe.told(told, probe.logs())
