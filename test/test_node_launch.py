# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The launch file and the layouts: they name what the node has, and say what it is for."""

import ast
import importlib.util
import json
import re
import sys
from types import ModuleType

import pytest
import yaml
from helpers_node import ROOT

from av_compress.nodes.camera_detector import CameraDetectorRole

LAUNCH_FILE = ROOT / "launch/camera_detector.launch.py"
ARGUMENTS = {
    "bundle",
    "input_image",
    "input_image_compressed",
    "output_detections",
    "output_label_info",
    "node_name",
    "namespace",
    "param_path",
    "use_sim_time",
    "autostart",
    "log_level",
    "fastdds_profile",
}


def calls(name: str) -> list[ast.Call]:
    """Return the calls of `name` in the launch file."""
    return [
        node
        for node in ast.walk(ast.parse(LAUNCH_FILE.read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == name
    ]


def keywords(call: ast.Call) -> dict[str, ast.expr]:
    return {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}


def test_every_argument_has_a_description():
    declared = {call.args[0].value: keywords(call) for call in calls("DeclareLaunchArgument")}
    assert set(declared) == ARGUMENTS
    for name, given in declared.items():
        assert len(ast.literal_eval(given["description"])) > 10, name


def test_every_argument_is_used():
    used = {call.args[0].value for call in calls("LaunchConfiguration")}
    assert used == ARGUMENTS


def test_inputs_are_remapped_under_the_node_s_own_names():
    (node,) = calls("LifecycleNode")
    given = keywords(node)
    remapped = {pair.elts[0].value for pair in given["remappings"].elts}
    assert set(CameraDetectorRole.inputs) < remapped
    assert given["package"].value == "av_compress"
    assert given["executable"].value == CameraDetectorRole.name


def test_only_a_successful_configuration_activates():
    (handler,) = calls("OnStateTransition")
    given = keywords(handler)
    assert given["start_state"].value == "configuring"
    assert given["goal_state"].value == "inactive"


def load() -> ModuleType:
    pytest.importorskip("launch_ros", reason="needs launch_ros, which PyPI does not have")
    packages = pytest.importorskip("ament_index_python.packages")
    try:
        packages.get_package_share_directory("av_compress")
    except packages.PackageNotFoundError:
        pytest.skip("av_compress is not installed in a ROS workspace (colcon build)")
    spec = importlib.util.spec_from_file_location("camera_detector_launch", LAUNCH_FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_launch_description_is_made():
    description = load().generate_launch_description()
    arguments = {argument.name: argument for argument in description.get_launch_arguments()}
    assert set(arguments) == ARGUMENTS
    assert not arguments["bundle"].default_value
    assert all(arguments[name].default_value is not None for name in ARGUMENTS - {"bundle"})


def topics_of_the_node() -> set[str]:
    sources = (ROOT / "av_compress/nodes").glob("*.py")
    text = "\n".join(path.read_text() for path in sources)
    found = set(re.findall(r'"~/([a-z_/]+)"', text))
    times = re.findall(r'"(processing_time/[a-z_]+)":', text)
    return found | {f"debug/{name}" for name in times}


@pytest.mark.parametrize("layout", ["camera_detector.foxglove.json", "camera_detector.rviz"])
def test_layouts_show_topics_that_exist(layout: str):
    text = (ROOT / "config" / layout).read_text()
    assert json.loads(text) if layout.endswith("json") else yaml.safe_load(text)
    shown = set(re.findall(r"/camera_detector/([a-z_/]+)", text))
    assert shown
    assert shown <= topics_of_the_node()
