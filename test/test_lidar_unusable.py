# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Values that a model cannot be told: such points lie nowhere, as if the cloud had them not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers_lidar_task import bev_config, make
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from av_compress.errors import FrameError
from av_compress.tasks.base import PointCloud
from av_compress.tasks.lidar_detection import LidarDetection

TOO_LARGE = 1e5  # For float16, which ends at 65504.
PLACES = st.sampled_from([0.5, 1.0, 1.5, 4.5, 9.0, np.nan, -np.inf])
VALUES = st.sampled_from([0.0, 0.25, 255.0, -3.0, 7e4, np.nan, np.inf, -np.inf, 3.4e38])
CLOUDS = st.integers(0, 20).flatmap(
    lambda n: st.tuples(
        hnp.arrays(np.float32, (n, 3), elements=PLACES),
        hnp.arrays(np.float32, (n, 3), elements=VALUES),
    )
)
BOX = {"lower": [0.9, 0.9, 0.9], "upper": [1.1, 1.1, 1.1]}


def task_of(form: str, dtype: str, **changes) -> LidarDetection:
    encoder = {"dtype": dtype}
    if form == "bev":
        return LidarDetection.from_config(bev_config(encoder=encoder, **changes))
    features = {"voxels": "pointpillars", "time": "autoware_centerpoint", "place": ["x", "z"]}
    return make(encoder={**encoder, "features": features[form]}, **changes)


# Form -> columns whose values the model is told.
TOLD = {"voxels": [3], "bev": [3], "time": [4], "place": []}


def usable(points, form, dtype, scale):
    """Tell of each point, in double precision, whether its values can be told."""
    values = points.astype(np.float64)
    values[:, 3] *= scale
    largest = {"float32": np.finfo(np.float32).max, "float16": 65504.0}[dtype]
    return (np.abs(values[:, TOLD[form]]) <= float(largest)).all(axis=1)


@given(
    CLOUDS,
    st.sampled_from(list(TOLD)),
    st.sampled_from(["float32", "float16"]),
    st.sampled_from([{}, {"input_ego_box": BOX}]),
    st.sampled_from([1.0, 0.5, 2.0]),
)
def test_it_is_as_if_such_points_were_not_there(cloud, form, dtype, box, scale):
    points = np.hstack(cloud)
    task = task_of(form, dtype, input_intensity_scale=scale, **box)
    keep = usable(points, form, dtype, scale)
    placed = np.isfinite(points[:, :3]).all(axis=1)
    if box:
        placed &= ~((points[:, :3] >= 0.9) & (points[:, :3] <= 1.1)).all(axis=1)
    if placed.any() and not keep[placed].any():
        with pytest.raises(FrameError, match="each of its"):
            task.preprocess(PointCloud(points))
        return
    before = points.copy()
    found = task.preprocess(PointCloud(points))
    np.testing.assert_array_equal(points, before)
    want = task.preprocess(PointCloud(points[keep]))
    for name, array in want.tensors.items():
        np.testing.assert_array_equal(found.tensors[name], array)
        assert np.isfinite(found.tensors[name]).all()
    counts, others = found.context.counts, want.context.counts
    assert (counts.voxels, counts.surplus_points) == (others.voxels, others.surplus_points)
    whole = counts.outside + found.context.in_ego_box
    assert whole == others.outside + want.context.in_ego_box + (~keep).sum()
    assert found.context.points == len(points)
    # Those in the ego box are dropped before values are looked at; those of no place are none.
    assert found.context.unusable == (placed & ~keep).sum()


@pytest.mark.parametrize(("unusable", "told"), [(0, False), (1, False), (2, True)])
def test_more_than_one_point_in_a_hundred_is_worth_a_word(unusable: int, told: bool):
    points = np.full((100, 4), 0.5, np.float32)
    points[:unusable, 3] = np.nan
    context = task_of("voxels", "float32").preprocess(PointCloud(points)).context
    said = context.shortfalls()
    assert said.keys() == ({"points"} if told else set())
    if told:
        assert said["points"].startswith("2 of 100 points have a NaN")


def test_voxels_without_room_are_worth_a_word():
    points = np.array([[0.5, 0.5, 0.5, 1], [1.5, 0.5, 0.5, 1], [2.5, 0.5, 0.5, 1]], np.float32)
    context = make(encoder={"max_voxels": 2}).preprocess(PointCloud(points)).context
    assert context.shortfalls().keys() == {"voxels"}
    assert (
        "1 of 3 points lie in voxels for which there was no room beside 2"
        in (context.shortfalls()["voxels"])
    )
    assert not make(encoder={"max_voxels": 3}).preprocess(PointCloud(points)).context.shortfalls()


def test_a_cloud_of_unusable_values_alone_is_refused():
    points = np.ones((7, 4), np.float32)
    points[:, 3] = np.nan
    points[6, 0] = np.inf
    words = r"cloud 'a': each of its 6 points has a NaN, .* in intensity; name the field"
    with pytest.raises(FrameError, match=words):
        task_of("voxels", "float32").preprocess(PointCloud(points, key="a"))
    points[:, 3] = TOO_LARGE
    with pytest.raises(FrameError, match=r"over 6\.55e\+04 in intensity"):
        task_of("bev", "float16").preprocess(PointCloud(points, key="a"))
    # Where there is no point, none is unusable.
    points[:, 3], points[:, 1] = np.nan, np.nan
    found = task_of("voxels", "float32").preprocess(PointCloud(points))
    assert found.context.counts.outside == 7


def test_values_that_the_model_is_not_told_do_not_matter():
    points = np.full((5, 5), 0.5, np.float32)
    points[:, 3] = np.nan
    found = task_of("time", "float32").preprocess(PointCloud(points))
    assert (found.context.counts.voxels, found.context.counts.outside) == (1, 0)


# Prints how many bytes the peak of resident memory grew by, of those of the message.
MEASURE = """
import re, sys
from pathlib import Path
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from helpers_lidar_task import make
from helpers_points import message, xyzi
from av_compress.data.points import cloud_from_message

def peak():
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

task, fields = make(input_intensity_scale=0.5), xyzi()[0]
def serve(points):
    held = message(fields, memoryview(points).cast("B"), len(points))
    return task.preprocess(cloud_from_message(held)).context

serve(np.ones((1000, 4), np.float32))
points = np.random.default_rng(0).random((5_000_000, 4), np.float32)
points[::3, 3] = np.nan
before = peak()
for _ in range(3):
    context = serve(points)
assert context.points == 5_000_000
assert context.counts.outside == len(points[::3])
print((peak() - before) / points.nbytes)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peaks are read from /proc")
def test_five_million_points_take_memory_for_a_few_copies():
    """The cloud and its scaled points; nothing heaps up."""
    here = Path(__file__).parent
    found = subprocess.run(
        [sys.executable, "-c", MEASURE],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(here.parent), str(here)])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert 0.5 < float(found.stdout) < 2.5
