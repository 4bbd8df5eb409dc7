# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Configurations: what is published, what is filled in, and what a user reads who errs."""

import json
from dataclasses import MISSING, fields

import pytest
import yaml
from helpers_task import TASKS, changed, task_config

from av_compress.errors import ConfigError
from av_compress.fileio import canonical_json
from av_compress.tasks.camera_detection import CameraDetection
from av_compress.tasks.camera_detection.config import InputConfig, NmsConfig, ResizeConfig
from av_compress.tasks.camera_detection.heads import FAMILIES
from av_compress.tasks.registry import make_task
from av_compress.validation import load_schema

ANCHORS = [[[10, 13], [16, 30]], [[30.5, 61], [62, 45]], [[59, 119], [116, 90]]]
HEADS = [
    {"type": "yolox"},
    {"type": "yolox", "strides": [8, 16], "box_encoding": "pixels", "activation": "sigmoid"},
    {"type": "yolov5"},
    {"type": "yolov5", "anchors": ANCHORS, "outputs": {"maps": ["c", "b", "a"]}},
    {"type": "yolo_fastestv2", "anchors": ANCHORS[1:]},
    {"type": "yolov8", "bins": 8, "map_activation": "none", "multi_label": True},
    {"type": "nanodet", "cell_center": "corner", "strides": [8, 16, 32, 64]},
    {"type": "fastestdet", "objectness_power": 0.5},
    {"type": "centernet", "outputs": {"size": "wh", "offset": "reg", "heatmap": "hm"}},
    {"type": "decoded", "label_offset": 1, "nms_inside": True, "box_format": "cxcywh"},
]


@pytest.mark.parametrize("head", HEADS)
def test_a_configuration_survives_json(head):
    """What a manifest stores, whatever the order of its keys, makes an equal task."""
    task = make_task(task_config(head))
    again = make_task(json.loads(canonical_json(task.config())))
    assert again == task
    assert hash(again) == hash(task)
    assert again.config() == task.config()


def test_every_family_is_configured():
    assert {head["type"] for head in HEADS} == set(FAMILIES)


@pytest.mark.parametrize("path", sorted(TASKS.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_published_tasks_are_valid(path):
    task = make_task(yaml.safe_load(path.read_text()))
    assert make_task(task.config()) == task


def test_defaults_are_filled_in():
    task = make_task(
        {
            "kind": "camera_detection",
            "class_names": "coco",
            "input": {"width": 640, "height": 384},
            "head": {"type": "yolov8"},
        }
    )
    config = task.config()
    assert (len(config["class_names"]), config["class_names"][79]) == (80, "toothbrush")
    assert config["input"] == {
        "name": "images",
        "width": 640,
        "height": 384,
        "layout": "nchw",
        "dtype": "float32",
        "color": "bgr",
        "mean": [0.0, 0.0, 0.0],
        "std": [1.0, 1.0, 1.0],
    }
    assert config["resize"]["mode"] == "letterbox"
    assert config["score_threshold"] == 0.25
    assert config["nms"]["iou_threshold"] == 0.6


def differing_tasks():
    base = task_config({"type": "yolox"})
    yield base, {**base, "score_threshold": 0.31}
    yield base, {**base, "class_names": ["class 0", "class 1", "class X"]}
    yield base, task_config({"type": "yolox", "activation": "sigmoid"})
    yield base, task_config({"type": "yolov8"})


@pytest.mark.parametrize(("first", "second"), list(differing_tasks()))
def test_different_configurations_make_different_tasks(first, second):
    assert make_task(first) != make_task(second)


def section_defaults(section):
    return {
        key: entry["default"] for key, entry in section["properties"].items() if "default" in entry
    }


def listed(value):
    return [listed(item) for item in value] if isinstance(value, tuple) else value


def test_the_schema_says_what_the_code_does():
    """Keys and defaults are written in the schema and in the dataclasses: they must agree."""
    schema = load_schema("camera_detection_task")["properties"]
    heads = {
        rule["then"]["properties"]["type"]["const"]: rule["then"]
        for rule in schema["head"]["allOf"]
    }
    assert set(heads) == set(FAMILIES) == set(schema["head"]["properties"]["type"]["enum"])
    pairs = [
        (schema["input"], InputConfig),
        (schema["resize"], ResizeConfig),
        (schema["nms"], NmsConfig),
        *((heads[name], family.config) for name, family in FAMILIES.items()),
    ]
    for section, config in pairs:
        declared = {field.name: field.default for field in fields(config)}
        assert set(section["properties"]) - {"type"} == set(declared)
        defaults = section_defaults(section)
        for name, default in declared.items():
            if name in section.get("required", ()):
                assert default is MISSING
            elif name not in {"outputs", "anchors"}:
                assert listed(default) == defaults[name], name


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("head.type", "yolo9000", ["task.head.type", '"yolo9000"', '"yolov8"', '"centernet"']),
        ("head.type", MISSING, ["task.head", "'type' is missing"]),
        ("head.activation", "relu", ["task.head.activation", '"relu"', '"none", "sigmoid"']),
        ("head.anchors", [], ["task.head", "unknown key 'anchors'", "strides", "box_encoding"]),
        ("head.activaton", "none", ["unknown key 'activaton'", "did you mean 'activation'?"]),
        ("head.strides", [8, 0], ["task.head.strides[1]: 0", "integer >= 1"]),
        ("head.strides", [], ["task.head.strides: []", "at least 1"]),
        ("head.outputs", {"boxes": "b"}, ["task.head.outputs", "'boxes'", "detections"]),
        ("input.width", MISSING, ["task.input", "'width' is missing"]),
        ("input.width", 0, ["task.input.width: 0", ">= 1"]),
        ("input.width", 320.0, ["task.input.width: 320.0", "integer"]),
        ("input.width", True, ["task.input.width: true", "integer"]),
        ("input.colour", "rgb", ["unknown key 'colour'", "did you mean 'color'?"]),
        ("input.color", "yuv", ["task.input.color", '"yuv"', '"bgr", "rgb"']),
        ("input.mean", [0, 0], ["task.input.mean", "at least 3 items"]),
        ("input.std", [255, 255, 0], ["task.input.std[2]: 0", "> 0"]),
        ("input.std", [255, 255, float("nan")], ["task.input.std[2]: NaN", "number"]),
        ("input.mean", [0, float("inf"), 0], ["task.input.mean[1]: Infinity", "number"]),
        ("resize.mode", "crop", ["task.resize.mode", '"crop"', '"letterbox", "stretch"']),
        ("resize.pad_value", 256, ["task.resize.pad_value: 256", "<= 255"]),
        ("score_threshold", 0, ["task.score_threshold: 0", "> 0"]),
        ("score_threshold", "high", ["task.score_threshold", '"high"', "number"]),
        ("nms.iou_threshold", 1.5, ["task.nms.iou_threshold: 1.5", "<= 1"]),
        ("nms.max_detections", 0, ["task.nms.max_detections: 0", ">= 1"]),
        ("class_names", [], ["task.class_names", "at least 1"]),
        ("class_names", "imagenet", ["task.class_names", '"imagenet"', '"coco"']),
        ("class_names", ["car", "car"], ["task.class_names", "differ"]),
        ("class_names", ["car", 5], ["task.class_names[1]: 5", "string"]),
        ("class_names", 5, ["task.class_names: 5", "array or string"]),
        ("kind", "lidar", ["task.kind", "'lidar'", "camera_detection"]),
        ("score", 0.5, ["task", "unknown key 'score'", "did you mean 'score_threshold'?"]),
    ],
)
def test_an_error_names_key_value_and_what_is_allowed(path, value, words):
    with pytest.raises(ConfigError) as caught:
        make_task(changed(task_config({"type": "yolox"}), path, value))
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("config", [None, [], "camera_detection", 3, {}])
def test_what_is_no_mapping_is_refused(config):
    with pytest.raises(ConfigError):
        make_task(config)
    with pytest.raises(ConfigError):
        CameraDetection.from_config(config)


def test_bytes_are_not_normalised():
    config = task_config({"type": "yolox"})
    config["input"] |= {"dtype": "uint8", "mean": [1, 0, 0]}
    with pytest.raises(ConfigError, match=r"task\.input\.mean\[0\]: 1 is not allowed; allowed: 0"):
        make_task(config)
    config["input"]["mean"] = [0, 0, 0]
    assert make_task(config).config()["input"]["dtype"] == "uint8"


@pytest.mark.parametrize("kind", ["yolov5", "yolo_fastestv2"])
def test_every_stride_needs_its_anchors(kind):
    head = {"type": kind, "strides": [8, 16], "anchors": ANCHORS}
    with pytest.raises(ConfigError, match=r"task\.head\.anchors: 3 lists .* 2 strides"):
        make_task(task_config(head))


def test_yolo_fastestv2_needs_anchors():
    with pytest.raises(ConfigError, match="'anchors' is missing"):
        make_task(task_config({"type": "yolo_fastestv2"}))


def test_every_fault_is_named_at_once():
    config = task_config({"type": "yolox", "activation": "relu"}, score_threshold=2)
    with pytest.raises(ConfigError) as caught:
        make_task(config)
    assert "task.head.activation" in str(caught.value)
    assert "task.score_threshold" in str(caught.value)
