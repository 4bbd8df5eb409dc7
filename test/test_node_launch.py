# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The launch file and the layouts: they name what the node has, and say what it is for."""

import ast
import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from helpers_node import ROOT

from av_compress.errors import ConfigError
from av_compress.nodes.camera_detector import CameraDetectorRole
from av_compress.nodes.topics import listed, remap_each

COMMON = {
    "bundle",
    "node_name",
    "namespace",
    "param_path",
    "use_sim_time",
    "autostart",
    "log_level",
    "fastdds_profile",
}
ARGUMENTS = {
    "camera_detector": {
        *COMMON,
        "input_image",
        "input_image_compressed",
        "output_detections",
        "output_label_info",
    },
    "lidar_detector": {
        *COMMON,
        "lidars",
        "merge_frame",
        "input_points",
        "input_odometry",
        "output_detections",
        "output_label_info",
    },
    "multi_camera_detector": {
        *COMMON,
        "cameras",
        "input_images",
        "input_images_compressed",
        "output_detections",
        "arrival_window_ms",
    },
}
REQUIRED = {"bundle", "cameras"}
SHARED = ROOT / "av_compress/nodes/launching.py"


def launch_file(name: str) -> Path:
    return ROOT / f"launch/{name}.launch.py"


def calls(path: Path, name: str) -> list[ast.Call]:
    """Return the calls of `name` in a file."""
    return [
        node
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == name
    ]


def calls_of(launch: str, name: str) -> list[ast.Call]:
    return [*calls(SHARED, name), *calls(launch_file(launch), name)]


def keywords(call: ast.Call) -> dict[str, ast.expr]:
    return {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}


@pytest.mark.parametrize("launch", ARGUMENTS)
def test_every_argument_has_a_description(launch):
    found = calls_of(launch, "DeclareLaunchArgument")
    declared = {call.args[0].value: keywords(call) for call in found}
    assert set(declared) == ARGUMENTS[launch]
    for name, given in declared.items():
        assert len(ast.literal_eval(given["description"])) > 10, name
        assert ("default_value" in given) == (name not in REQUIRED), name


def test_arguments_say_what_several_lidars_need():
    found = calls(launch_file("lidar_detector"), "DeclareLaunchArgument")
    said = {call.args[0].value: ast.literal_eval(keywords(call)["description"]) for call in found}
    assert "of several LiDARs one for each" in said["input_points"]
    assert "in the order of lidars:= or of what param_path says" in said["input_points"]
    assert "the clouds of several LiDARs" in said["input_odometry"]


@pytest.mark.parametrize("launch", ARGUMENTS)
def test_every_argument_is_used(launch):
    text = launch_file(launch).read_text() + SHARED.read_text()
    for name in ARGUMENTS[launch]:
        # Where it is declared, and where it is read.
        assert text.count(f'"{name}"') >= 2, name


def test_inputs_are_remapped_under_the_node_s_own_names():
    text = launch_file("camera_detector").read_text()
    for topic in CameraDetectorRole.inputs:
        assert f'("{topic}", LaunchConfiguration(' in text
    (node,) = calls(SHARED, "LifecycleNode")
    assert keywords(node)["package"].value == "av_compress"
    for launch in ARGUMENTS:
        assert f'NAME = "{launch}"' in launch_file(launch).read_text()
        assert f'"{launch} = av_compress.nodes.{launch}:main"' in (ROOT / "setup.py").read_text()


def test_only_a_successful_configuration_activates():
    (handler,) = calls(SHARED, "OnStateTransition")
    given = keywords(handler)
    assert given["start_state"].value == "configuring"
    assert given["goal_state"].value == "inactive"


def load(launch: str) -> ModuleType:
    pytest.importorskip("launch_ros", reason="needs launch_ros, which PyPI does not have")
    packages = pytest.importorskip("ament_index_python.packages")
    try:
        packages.get_package_share_directory("av_compress")
    except packages.PackageNotFoundError:
        pytest.skip("av_compress is not installed in a ROS workspace (colcon build)")
    spec = importlib.util.spec_from_file_location(f"{launch}_launch", launch_file(launch))
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("launch", ARGUMENTS)
def test_the_launch_description_is_made(launch):
    description = load(launch).generate_launch_description()
    arguments = {argument.name: argument for argument in description.get_launch_arguments()}
    assert set(arguments) == ARGUMENTS[launch]
    for name, argument in arguments.items():
        assert bool(argument.default_value is None) == (name in REQUIRED)


def test_topics_are_given_sensor_by_sensor():
    assert listed("[front, left]") == listed("front,left") == ["front", "left"]
    assert listed("") == []
    topics = {"input_images": "input/image", "output_detections": "output/detections"}
    given = {"input_images": ["/a", "/b"], "output_detections": []}
    assert remap_each(["front", "left"], topics, given) == [
        ("~/front/input/image", "/a"),
        ("~/left/input/image", "/b"),
    ]
    assert remap_each([""], topics, {"input_images": ["/a"]}) == [("~/input/image", "/a")]
    with pytest.raises(ConfigError, match="names 1 topics for 2 sensors: front, left; give"):
        remap_each(["front", "left"], topics, {"input_images": ["/a"]})
    with pytest.raises(ConfigError, match="names 2 topics for 1 sensors; give"):
        remap_each([""], topics, {"input_images": ["/a", "/b"]})


def topics_of_the_node() -> set[str]:
    sources = (ROOT / "av_compress/nodes").glob("*.py")
    text = "\n".join(path.read_text() for path in sources)
    found = set(re.findall(r'"~/([a-z_/]+)"', text))
    times = re.findall(r'"(processing_time/[a-z_]+)":', text)
    return found | {f"debug/{name}" for name in times}


@pytest.mark.parametrize("kind", ["foxglove.json", "rviz"])
@pytest.mark.parametrize("node", ["camera_detector", "lidar_detector"])
def test_layouts_show_topics_that_exist(node: str, kind: str):
    layout = f"{node}.{kind}"
    text = (ROOT / "config" / layout).read_text()
    assert json.loads(text) if layout.endswith("json") else yaml.safe_load(text)
    shown = set(re.findall(rf"/{node}/([a-z_/]+)", text))
    assert shown
    assert shown <= topics_of_the_node()
