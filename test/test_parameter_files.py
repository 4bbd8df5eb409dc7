# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Launch files read of parameter files what rcl reads of them."""

from __future__ import annotations

import itertools
from pathlib import Path

import helpers_node
import pytest
import yaml
from helpers_node import ROOT

from av_compress.errors import ConfigError, UsageError
from av_compress.nodes.parameter_files import full_name, sensor_names
from av_compress.nodes.topics import remap_each

NODE = "/vehicle/detector"


def names(path: Path, given: str = "", node: str = NODE) -> list[str]:
    return sensor_names(given, path, "merge.lidars", node, "lidar_detector")


def write(folder: Path, **sections: list[str]) -> Path:
    """Write a file in which each section names LiDARs."""
    path = folder / "node.param.yaml"
    content = {
        key: {"ros__parameters": {"merge": {"lidars": lidars}}} for key, lidars in sections.items()
    }
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


@pytest.mark.parametrize(
    ("parts", "whole"),
    [
        (("", "", "detector"), "/detector"),
        (("", "vehicle", "detector"), NODE),
        (("vehicle", "", "detector"), NODE),
        (("/a", "/vehicle/", "detector"), NODE),
        (("/a/", "b", "detector"), "/a/b/detector"),
        (("a", "/", "detector"), "/detector"),
    ],
)
def test_a_nodes_name_is_made_whole(parts, whole):
    assert full_name(*parts) == whole


def test_an_argument_counts_before_the_file(tmp_path: Path):
    path = write(tmp_path, **{"/**": ["a", "b"]})
    assert names(path, "front, rear") == ["front", "rear"]
    assert names(path) == ["a", "b"]
    # The default names none.
    assert names(ROOT / "config/lidar_detector.param.yaml") == []
    assert names(write(tmp_path, **{"/another": ["a"]})) == []


SECTIONS = ("/**", "/*", "/*/*", "/**/detector", "/vehicle/**", NODE, "/vehicle", "/*/other")


@pytest.mark.parametrize("keys", list(itertools.permutations(SECTIONS, 2)), ids=" ".join)
def test_sections_count_as_in_rcl(tmp_path: Path, keys):
    rclpy = pytest.importorskip("rclpy", reason="needs ROS 2 (rclpy)")
    path = write(tmp_path, **{key: [f"lidar{index}"] for index, key in enumerate(keys)})
    with helpers_node.ros_context():
        node = rclpy.create_node(
            "detector",
            namespace="vehicle",
            cli_args=["--ros-args", "--params-file", str(path)],
            automatically_declare_parameters_from_overrides=True,
        )
        found = node.get_parameter_or("merge.lidars").value
        node.destroy_node()
    assert names(path) == list(found or [])


@pytest.mark.parametrize(
    "content",
    [
        {"vehicle": {"detector": {"ros__parameters": {"merge.lidars": ["a", "b"]}}}},
        {"vehicle/detector": {"ros__parameters": {"merge": {"lidars": ["a", "b"]}}}},
    ],
)
def test_namespaces_and_parameters_nest_or_do_not(tmp_path: Path, content):
    path = tmp_path / "node.param.yaml"
    path.write_text(yaml.safe_dump(content))
    assert names(path) == ["a", "b"]
    assert names(path, node="/detector") == []


def test_topics_are_given_to_the_lidars_of_the_file(tmp_path: Path):
    lidars = names(write(tmp_path, **{"/**": ["front", "rear"]}))
    topics = {"input_points": "input/points"}
    assert remap_each(lidars, topics, {"input_points": ["/a", "/b"]}) == [
        ("~/front/input/points", "/a"),
        ("~/rear/input/points", "/b"),
    ]
    with pytest.raises(ConfigError, match="names 1 topics for 2 sensors: front, rear; give"):
        remap_each(lidars, topics, {"input_points": ["/a"]})


def test_what_cannot_be_names_is_refused(tmp_path: Path):
    path = write(tmp_path, **{"/**": ["front-left"]})
    with pytest.raises(ConfigError, match=r"node\.param\.yaml: .*lidars\[0\]: .* of letters"):
        names(path)
    with pytest.raises(ConfigError, match=r"argument a,a: .*lidars: .* items that differ"):
        names(path, "a,a")
    with pytest.raises(ConfigError, match=r"lidars: \"front\" is not allowed; allowed: array"):
        names(write(tmp_path, **{"/**": "front"}))
    with pytest.raises(UsageError, match="cannot be read"):
        names(tmp_path / "absent.yaml")
    for text in ("", "- 1", "/**: 3"):
        path.write_text(text)
        assert names(path) == []
