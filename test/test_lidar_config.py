# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Configurations of LiDAR detectors: what is published, filled in, and read by a user who errs."""

import json
import re
import subprocess
import sys
from dataclasses import MISSING, fields
from pathlib import Path

import pytest
import yaml
from helpers_lidar_task import NAMES, bev_config, lidar_config
from helpers_task import changed

from av_compress.errors import ConfigError
from av_compress.fileio import canonical_json
from av_compress.tasks.lidar_detection import LidarDetection
from av_compress.tasks.lidar_detection.config import NmsConfig, SweepsConfig
from av_compress.tasks.lidar_detection.encoders import ENCODERS
from av_compress.tasks.lidar_detection.encoders.voxels import VoxelTensors
from av_compress.tasks.lidar_detection.features import _NAMED, CHANNELS
from av_compress.tasks.lidar_detection.heads import FAMILIES
from av_compress.tasks.lidar_detection.heads.anchors import Anchor
from av_compress.tasks.registry import make_task
from av_compress.validation import load_schema

ANCHOR = {"class_name": "car", "size": [3.9, 1.6, 1.56], "bottom": -1.78}
MAPS = {"reg": ["dx", "dy", "z", "length", "width", "height", "sin", "cos"]}
CONFIGS = [
    lidar_config(),
    lidar_config({"type": "center", "maps": MAPS, "groups": [["bus"], ["cyclist", "car"]]}),
    lidar_config({"type": "center", "outputs": {"heatmap": "hm", "reg": "r"}, "peaks": False}),
    lidar_config({"type": "anchors", "anchors": [ANCHOR], "extent": [0, -1, 2.5, 1]}),
    lidar_config(
        {"type": "anchors", "anchors": [ANCHOR], "outputs": {"boxes": ["a"]}, "groups": [NAMES]}
    ),
    lidar_config(
        encoder={
            "features": ["x", "distance"],
            "index_form": "batch_zyx",
            "index_dtype": "int32",
            "padding": "repeat_last",
            "tensors": {"num_points": "n"},
        },
        input_ego_box={"lower": [-1, -1, -1], "upper": [1, 1, 1.5]},
        input_intensity_scale=0.25,
        input_sweeps={"max_age_s": 3},
        nms={"type": "circle", "radii": {"bus": 4, "car": 2.5, "cyclist": 0.5}},
    ),
    bev_config(),
    bev_config(encoder={"channels": ["density", "height"], "rows_along": "y", "name": "bev"}),
]


@pytest.mark.parametrize("config", CONFIGS)
def test_a_configuration_survives_json(config):
    """What a manifest stores, whatever the order of its keys, makes an equal task."""
    task = make_task(config)
    again = make_task(json.loads(canonical_json(task.config())))
    assert again == task
    assert hash(again) == hash(task)
    assert again.config() == task.config()


PAGE = Path(__file__).parent.parent / "docs" / "lidar_task.md"


@pytest.mark.parametrize(
    ("block", "shapes"),
    list(
        zip(
            re.findall(r"^```yaml\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE),
            [
                [("voxels", (40000, 32, 10)), ("voxel_idxs", (40000, 4)), ("voxel_num", (1,))],
                [("voxels", (None, 20, 10)), ("indices", (None,))],
                [("input", (1, 3, 608, 608))],
            ],
            strict=True,
        )
    ),
)
def test_the_pages_tasks_are_valid(block, shapes):
    task = make_task(yaml.safe_load(block))
    assert [(spec.name, spec.shape) for spec in task.input_specs] == shapes


def test_every_family_and_encoder_is_configured():
    assert {config["head"]["type"] for config in CONFIGS} == set(FAMILIES)
    assert {config["input"]["encoder"]["type"] for config in CONFIGS} == set(ENCODERS)


def test_different_configurations_make_different_tasks():
    tasks = [make_task(config) for config in CONFIGS]
    assert len(set(tasks)) == len(tasks)


def section_defaults(section):
    return {
        key: entry["default"] for key, entry in section["properties"].items() if "default" in entry
    }


def listed(value):
    return [listed(item) for item in value] if isinstance(value, tuple) else value


def variants(section):
    return {rule["then"]["properties"]["type"]["const"]: rule["then"] for rule in section["allOf"]}


def test_the_schema_says_what_the_code_does():
    """Keys and defaults are written in the schema and in the dataclasses: they must agree."""
    schema = load_schema("lidar_detection_task")["properties"]
    encoder, head = schema["input"]["properties"]["encoder"], schema["head"]
    encoders, heads = variants(encoder), variants(head)
    assert set(heads) == set(FAMILIES) == set(head["properties"]["type"]["enum"])
    assert set(encoders) == set(ENCODERS) == set(encoder["properties"]["type"]["enum"])
    features = encoders["voxels"]["properties"]["features"]
    assert features["items"]["enum"] == list(CHANNELS)
    assert features["then"]["enum"] == list(_NAMED)
    pairs = [
        (schema["nms"], NmsConfig),
        (schema["input"]["properties"]["sweeps"], SweepsConfig),
        (encoders["voxels"]["properties"]["tensors"], VoxelTensors),
        (heads["anchors"]["properties"]["anchors"]["items"], Anchor),
        *((encoders[name], config) for name, config in ENCODERS.items()),
        *((heads[name], family.config) for name, family in FAMILIES.items()),
    ]
    for section, config in pairs:
        declared = {field.name: field.default for field in fields(config)}
        assert set(section["properties"]) - {"type"} == set(declared) - {"type"}
        defaults = section_defaults(section)
        for name, default in declared.items():
            if name in section.get("required", ()):
                assert default is MISSING
            elif name == "maps":
                assert {role: list(names) for role, names in default} == defaults[name]
            elif name not in {"outputs", "tensors", "radii"}:
                assert listed(default) == defaults[name], name


def test_defaults_are_filled_in():
    config = make_task(lidar_config()).config()
    assert config["input"]["ego_box"] is None
    assert config["input"]["encoder"]["features"] == "pointpillars"
    assert config["input"]["encoder"]["tensors"]["num_points"] is None
    assert config["head"]["maps"]["rot"] == ["sin", "cos"]
    assert config["nms"]["radii"] == {}


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("head.type", "pointrcnn", ["task.head.type", '"pointrcnn"', '"center"', '"anchors"']),
        ("head.stride", 0, ["task.head.stride: 0", ">= 1"]),
        ("head.map", {}, ["unknown key 'map'", "did you mean 'maps'?"]),
        ("head.maps", {"reg": ["dx", "depth"]}, ["task.head.maps.reg[1]", '"depth"', '"dx"']),
        ("head.yaw_form", "north", ["task.head.yaw_form", '"north"', '"det3d"']),
        ("head", {"type": "anchors"}, ["task.head", "'anchors' is missing"]),
        (
            "head",
            {"type": "anchors", "anchors": [{**ANCHOR, "size": [1, 2]}]},
            ["task.head.anchors[0].size", "at least 3 items"],
        ),
        ("input.lower", MISSING, ["task.input", "'lower' is missing"]),
        ("input.lower", [0, 0], ["task.input.lower", "at least 3 items"]),
        ("input.upper", [4.9, 2, 1], ["task.input.lower, task.input.upper", "along x", "whole"]),
        ("input.upper", [-1, 2, 1], ["along x", "the upper over the lower"]),
        ("input.voxel_size", [0.4, 0, 4], ["task.input.voxel_size[1]: 0", "> 0"]),
        ("input.intensity_scale", 0, ["task.input.intensity_scale: 0", "> 0"]),
        ("input.ego_box", {"lower": [0, 0, 0]}, ["task.input.ego_box", "'upper' is missing"]),
        ("input.sweeps", {"count": 0}, ["task.input.sweeps.count: 0", ">= 1"]),
        ("input.sweeps", {"count": 33}, ["task.input.sweeps.count: 33", "<= 32"]),
        ("input.sweeps", {"max_age_s": 0}, ["task.input.sweeps.max_age_s: 0", ">= 0.01"]),
        ("input.sweeps", {"fixed_frame": "odom"}, ["unknown key 'fixed_frame'"]),
        ("input.sweeps", {"count": 2}, ["task.input.sweeps.count: 2", "told no time"]),
        ("input.encoder.type", "image", ["task.input.encoder.type", '"bev"', '"voxels"']),
        ("input.encoder.features", "pillars", ['"pillars"', '"pointpillars"']),
        ("input.encoder.features", ["x", "colour"], ["features[1]", '"colour"', '"intensity"']),
        ("input.encoder.features", [], ["features: []", "at least 1"]),
        ("input.encoder.max_points", 0, ["max_points: 0", ">= 1"]),
        ("input.encoder.tensors", {"voxel": "v"}, ["unknown key 'voxel'", "'voxels'?"]),
        ("input.encoder.tensors", {"voxels": "indices"}, ["indices, indices must differ"]),
        ("nms.type", "soft", ["task.nms.type", '"soft"', '"circle"']),
        ("nms.type", "circle", ["task.nms.radii", "for each class"]),
        ("nms.radii", {"car": 1, "bus": 1, "cyclist": 1}, ["task.nms.radii", "only there"]),
        ("nms.radii", {"car": 1}, ["task.nms.radii: car", "car, bus, cyclist"]),
        ("nms.radii", {"car": -1}, ["task.nms.radii.car: -1", "> 0"]),
        ("score_threshold", 0, ["task.score_threshold: 0", "> 0"]),
        ("class_names", ["car", "car"], ["task.class_names", "differ"]),
    ],
)
def test_an_error_names_key_value_and_what_is_allowed(path, value, words):
    with pytest.raises(ConfigError) as caught:
        make_task(changed(lidar_config(), path, value))
    for word in words:
        assert word in str(caught.value)


def test_several_sweeps_are_for_models_that_are_told_their_ages():
    features = {"features": "autoware_centerpoint"}
    config = lidar_config(encoder=features, input_sweeps={"count": 10, "max_age_s": 2})
    needs = make_task(config).frame_needs
    assert (needs.sweeps.count, needs.sweeps.max_age_s) == (10, 2.0)
    assert needs.sweep_columns == ("x", "y", "z", "intensity")
    single = make_task(lidar_config(encoder=features))
    assert single.config()["input"]["sweeps"] == {"count": 1, "max_age_s": 1.0}
    assert single.frame_needs.sweep_columns == ("x", "y", "z", "intensity", "time")
    # Bundles that differ in it prepare frames differently.
    assert single.preprocess_config() != make_task(config).preprocess_config()
    config["input"]["encoder"]["features"] = ["x", "y", "time", "ring"]
    with pytest.raises(ConfigError, match=r"task\.input\.sweeps\.count: 10 .* told the rings"):
        make_task(config)
    with pytest.raises(ConfigError, match=r"told no time.*name time in task.input.encoder"):
        make_task(bev_config(input_sweeps={"count": 2}))


def test_what_does_not_go_together_is_refused():
    tall = bev_config(input_voxel_size=[0.4, 0.5, 1.0])
    with pytest.raises(ConfigError, match=r"task.input.voxel_size: 1 m .* 4 layers.*wants one: 4"):
        make_task(tall)
    wide = lidar_config(
        encoder={"index_dtype": "int32"}, input_upper=[1e5, 1e5, 1], input_voxel_size=[0.5, 0.5, 4]
    )
    wide["input"]["lower"] = [0, 0, -3]
    with pytest.raises(ConfigError, match="int32 cannot number the 40000000000 cells"):
        make_task(wide)
    radii = {"car": 1, "bus": 2, "cyclist": 1}
    with pytest.raises(ConfigError, match="class_aware: false is not allowed"):
        make_task(lidar_config(nms={"type": "circle", "radii": radii, "class_aware": False}))


@pytest.mark.parametrize("config", [None, [], "lidar_detection", {}])
def test_what_is_no_mapping_is_refused(config):
    with pytest.raises(ConfigError):
        LidarDetection.from_config(config)


def test_a_camera_needs_no_compiler_of_loops():
    """A task's modules are imported when one of its kind is made, and what is absent is named."""
    program = """
import sys
sys.modules["numba"] = None
from av_compress.errors import MissingExtraError
from av_compress.tasks.registry import make_task
make_task({
    "kind": "camera_detection", "class_names": ["car"], "head": {"type": "yolox"},
    "input": {"width": 64, "height": 64},
})
try:
    make_task({"kind": "lidar_detection"})
except MissingExtraError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert "pip install 'av_compress[lidar]'" in done.stdout
