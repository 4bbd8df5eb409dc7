# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Serve a LiDAR detection bundle.

ros2 launch av_compress lidar_detector.launch.py bundle:=DIR input_points:=/sensing/lidar/points
ros2 launch av_compress lidar_detector.launch.py bundle:=DIR lidars:=front,rear \
    input_points:=/front/points,/rear/points
"""

from __future__ import annotations

from pathlib import Path

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration

from av_compress.nodes.launching import common_arguments, make_node, start
from av_compress.nodes.parameter_files import full_name, sensor_names
from av_compress.nodes.topics import listed, remap_each

NAME = "lidar_detector"


def topic_arguments() -> list[DeclareLaunchArgument]:
    """List the arguments that name topics."""
    return [
        DeclareLaunchArgument(
            "lidars",
            default_value="",
            description="Names of LiDARs whose clouds are served as one, separated by commas, "
            "e.g. front,rear; by default what param_path says, one without a name",
        ),
        DeclareLaunchArgument(
            "merge_frame",
            default_value="",
            description="Frame that their clouds are brought into, by tf; by default what "
            "param_path says, base_link",
        ),
        DeclareLaunchArgument(
            "input_points",
            default_value="",
            description="Topic of clouds (sensor_msgs/PointCloud2) to detect in, e.g. "
            "/sensing/lidar/points; of several LiDARs one for each, separated by commas, in the "
            "order of lidars:= or of what param_path says; by default the node's own",
        ),
        DeclareLaunchArgument(
            "input_odometry",
            default_value="~/input/odometry",
            description="Topic of the vehicle's odometry (nav_msgs/Odometry), where sweeps or "
            "the clouds of several LiDARs are brought together and tf does not tell the motion",
        ),
        DeclareLaunchArgument(
            "output_detections",
            default_value="~/output/detections",
            description="Topic for the detections (vision_msgs/Detection3DArray)",
        ),
        DeclareLaunchArgument(
            "output_label_info",
            default_value="~/output/label_info",
            description="Latched topic for the class names (vision_msgs/LabelInfo)",
        ),
    ]


def describe(context: LaunchContext) -> list[object]:
    """Describe the node for the LiDARs that were named."""

    def value(argument: str) -> str:
        return LaunchConfiguration(argument).perform(context)

    lidars = listed(value("lidars"))
    pushed = context.launch_configurations.get("ros_namespace", "")
    node = full_name(pushed, value("namespace"), value("node_name"))
    # Of the parameter file, too: input_points names the topics of these.
    names = sensor_names(value("lidars"), Path(value("param_path")), "merge.lidars", node, NAME)
    points = listed(value("input_points"))
    parameters: dict[str, object] = {"merge.lidars": lidars} if lidars else {}
    if value("merge_frame"):
        parameters["merge.frame"] = value("merge_frame")
    remappings = [
        *remap_each(names or [""], {"input_points": "input/points"}, {"input_points": points}),
        ("~/input/odometry", LaunchConfiguration("input_odometry")),
        ("~/output/detections", LaunchConfiguration("output_detections")),
        ("~/output/label_info", LaunchConfiguration("output_label_info")),
    ]
    return start(make_node(NAME, remappings, parameters))


def generate_launch_description() -> LaunchDescription:
    """Start the node and, unless told otherwise, bring it to active."""
    bundle, *others = common_arguments(NAME)
    return LaunchDescription(
        [bundle, *topic_arguments(), *others, OpaqueFunction(function=describe)]
    )
