# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What becomes of clouds before the model: their order, notes, and what is forgotten."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from test_merging import MS, OPTIONS, S, seen, tree

from av_compress.data.sweeps import SweepMerger
from av_compress.nodes.cloud_steps import LidarMerging, SweepMerging
from av_compress.nodes.roles import Gathering, each_alone
from av_compress.nodes.throttle import Throttle
from av_compress.tasks.base import PointCloud, Sweeps


def merged(step: LidarMerging, **clouds: PointCloud) -> Gathering:
    return step.gather(each_alone(clouds))


def test_stamps_ascend_where_a_lidar_misses_the_window():
    step = LidarMerging(OPTIONS, tree(1.0, 1.02, 1.1, 1.12))
    (first,) = merged(step, front=seen("front", 1.02)).frames
    late = merged(step, rear=seen("rear", 1.0))
    assert not late.frames
    assert "0.020 s newer; wait longer for it: merge.arrival_window_ms" in str(
        late.refused["rear"]
    )
    # One of the same stamp would be a second answer for it.
    assert merged(step, rear=seen("rear", 1.02)).refused.keys() == {"rear"}
    (whole,) = merged(step, rear=seen("rear", 1.1), front=seen("front", 1.12)).frames
    assert whole.slots == ("rear", "front")
    assert first.frame.stamp_ns < whole.frame.stamp_ns


@pytest.mark.parametrize("back_s", [1.001, 30])
def test_a_clock_that_was_set_back_is_followed(back_s: float):
    step = LidarMerging(OPTIONS, tree())
    assert merged(step, front=seen("front", 60.0)).frames
    back = replace(seen("front", 60.0), stamp_ns=60 * S - round(back_s * 1000) * MS)
    assert merged(step, front=back).frames


def test_what_was_served_is_forgotten():
    step = LidarMerging(OPTIONS, tree())
    for _ in range(2):
        assert merged(step, front=seen("front", 1.0)).frames
        step.forget()


def test_a_missed_window_costs_no_sweeps():
    """The late cloud is refused before it could be taken for a jump of the clock."""
    transforms = tree(*(0.1 * n for n in range(30)))
    lidars = LidarMerging(OPTIONS, transforms)
    sweeps = SweepMerging(SweepMerger(Sweeps(4, 1.0), transforms, "odom"))
    counts = []
    for n in range(5, 15):
        front, rear = seen("front", 0.1 * n), seen("rear", 0.1 * n)
        both = n != 10
        batches = [{"front": front, "rear": rear}] if both else [{"front": front}, {"rear": rear}]
        for batch in batches:
            for one in sweeps.gather(lidars.gather(each_alone(batch))).frames:
                counts.append(len(np.unique(one.frame.points[:, 4])))
                assert not one.notes
    assert counts == [1, 2, 3, 4, 4, 4, 4, 4, 4, 4]


def test_notes_of_all_steps_are_kept():
    transforms = tree(1.0)
    lidars = LidarMerging(OPTIONS, transforms)
    sweeps = SweepMerging(SweepMerger(Sweeps(2, 1.0), transforms, "odom"))
    notes = []
    for second in (2.0, 2.5):
        clouds = {"front": seen("front", second), "rear": seen("rear", second + 0.05)}
        (one,) = sweeps.gather(lidars.gather(each_alone(clouds))).frames
        notes.append(dict(one.notes))
    assert [sorted(one) for one in notes] == [["lidars"], ["lidars", "sweeps"]]
    assert "1 of 2 sweeps are served" in notes[1]["sweeps"]


def test_each_subject_has_silences_of_its_own():
    now = 0.0
    throttle = Throttle(1.0, lambda: now)
    assert throttle.passes(("front", "skipped"))
    assert throttle.passes(("rear", "skipped"))
    assert not throttle.passes(("front", "skipped"))
    now = 0.999
    assert not throttle.passes(("rear", "skipped"))
    now = 1.0
    assert throttle.passes(("front", "skipped"))
    assert not throttle.passes(("front", "skipped"))
