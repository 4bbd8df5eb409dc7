# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Clouds of several LiDARs out of bags, as recipes ask for them."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from helpers_data import frames
from helpers_lidar_node import TASK, cell_detector
from helpers_rig import (
    BASE,
    FRONT,
    MOVING,
    REAR,
    RIG,
    SHORT,
    TIMES,
    both,
    merged,
    recorded,
    write_rig,
)
from helpers_sweeps import (
    ODOMETRY,
    age_detector,
)
from helpers_sweeps import TASK as AGE_TASK

from av_compress.build.recipe import load_recipe
from av_compress.build.samples import open_samples
from av_compress.data.bag_motion import MotionOptions
from av_compress.data.bag_writer import BagWriter
from av_compress.data.sources import open_source
from av_compress.data.sweeps import SweepMerger
from av_compress.errors import ConfigError, DataError
from av_compress.tasks.base import IMAGES, Sweeps
from av_compress.tasks.registry import make_task
from av_compress.validation import load_schema

NEEDS = make_task(AGE_TASK).frame_needs
SINGLE = replace(NEEDS, columns=NEEDS.columns[:4], sweeps=Sweeps())


def source_config(**more: object) -> dict[str, object]:
    config = {"type": "bag", "path": "bag", "topics": [FRONT, REAR], "frame": "base", **more}
    return {key: value for key, value in config.items() if value is not None}


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"frame": None}, r"source\.frame: is missing: .* such as base_link"),
        ({"topics": [FRONT]}, r"source: topics: \[.*\] is not allowed; allowed: .* 2 items"),
        ({"topics": [FRONT, FRONT]}, r"source: topics: .* allowed: items that differ"),
        ({"topics": None}, r"source\.frame: goes with .* several LiDARs \(source\.topics\)"),
        ({"topics": None, "frame": None, "max_apart_s": 1}, r"source\.max_apart_s: goes with"),
        ({"topic": FRONT}, r"source\.topic: goes with one topic"),
        ({"max_apart_s": -0.1}, r"source: max_apart_s: -0\.1 is not allowed"),
        ({"topics": None, "frame": None, "odometry": ODOMETRY}, r"point clouds of one$"),
    ],
)
def test_keys_that_do_not_go_together_are_refused(tmp_path: Path, more, says):
    write_rig(tmp_path / "bag", SHORT)
    with pytest.raises(ConfigError, match=says):
        open_source(source_config(**more), tmp_path, SINGLE)


def test_defaults_are_the_nodes():
    variants = load_schema("source")["allOf"]
    (bag,) = (
        one["then"]["properties"] for one in variants if "topics" in one["then"]["properties"]
    )
    node = load_schema("lidar_detector")["$defs"]["parameters"]["properties"]
    apart_ms = node["merge"]["properties"]["max_apart_ms"]["default"]
    assert bag["max_apart_s"]["default"] == BASE.max_apart_s == apart_ms / 1000
    fixed = node["motion"]["properties"]["fixed_frame"]["default"]
    assert (
        bag["fixed_frame"]["default"] == BASE.fixed_frame == MotionOptions().fixed_frame == fixed
    )


def test_what_does_not_go_with_the_task_is_refused(tmp_path: Path):
    write_rig(tmp_path / "bag", SHORT)
    with pytest.raises(ConfigError, match=r"source\.topics: .*, the task takes images"):
        open_source(source_config(), tmp_path, IMAGES)
    with pytest.raises(ConfigError, match=r"source\.fixed_frame: is empty, .* 3 sweeps together"):
        open_source(source_config(fixed_frame=""), tmp_path, NEEDS)
    open_source(source_config(fixed_frame=""), tmp_path, SINGLE).close()


def test_topics_that_are_no_clouds_are_refused_by_name(tmp_path: Path):
    write_rig(tmp_path / "bag", SHORT)
    with pytest.raises(DataError, match=rf"has no topic /side; it has: {FRONT} .*{REAR} "):
        open_source(source_config(topics=[FRONT, "/side"]), tmp_path, SINGLE)
    with pytest.raises(DataError, match=r"topic /tf of bag .* is no point cloud"):
        open_source(source_config(topics=[FRONT, "/tf"]), tmp_path, SINGLE)
    with pytest.raises(DataError, match=r"no messages of type nav_msgs/Odometry on /odom"):
        open_source(source_config(odometry="/odom"), tmp_path, SINGLE)
    with BagWriter(tmp_path / "pictures") as writer:
        writer.write_image("/camera", frames(1)[0])
    with pytest.raises(DataError, match=rf"has no topic {FRONT}"):
        open_source(source_config(path="pictures"), tmp_path, SINGLE)


@pytest.mark.parametrize("task", [TASK, AGE_TASK], ids=["one sweep", "three sweeps"])
def test_a_build_calibrates_on_what_is_served(tmp_path: Path, task):
    path = write_rig(tmp_path / "bag", RIG, moving=MOVING, odometry=True)
    (tmp_path / "model.onnx").write_bytes(cell_detector() if task is TASK else age_detector())
    source = source_config(odometry=ODOMETRY, max_apart_s=0.05)
    calibration = {"source": source, "samples": 6}
    content = {"model": "model.onnx", "task": task, "calibration": calibration, "gate": None}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(content))
    needs = make_task(task).frame_needs
    _, transforms = recorded(path)
    want = merged(path, *both(len(TIMES)))
    if needs.sweeps.several:
        merger = SweepMerger(needs.sweeps, transforms)
        want = [merger.merge(one).cloud for one in want]
    with ExitStack() as stack:
        samples = open_samples(load_recipe(tmp_path / "recipe.yaml"), needs, stack).calibration
        found = list(samples.frames("test"))
        assert len(found) == 6
        for index, frame in zip(samples.indices, found):
            columns = frame.points.shape[1]
            np.testing.assert_array_equal(frame.points, want[index].points[:, :columns])
