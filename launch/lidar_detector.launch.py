# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Serve a LiDAR detection bundle.

ros2 launch av_compress lidar_detector.launch.py bundle:=DIR input_points:=/sensing/lidar/points
"""

from __future__ import annotations

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration

from av_compress.nodes.launching import common_arguments, make_node, start

NAME = "lidar_detector"


def topic_arguments() -> list[DeclareLaunchArgument]:
    """List the arguments that name topics."""
    return [
        DeclareLaunchArgument(
            "input_points",
            default_value="~/input/points",
            description="Topic of clouds (sensor_msgs/PointCloud2) to detect in, "
            "e.g. /sensing/lidar/points",
        ),
        DeclareLaunchArgument(
            "input_odometry",
            default_value="~/input/odometry",
            description="Topic of the vehicle's odometry (nav_msgs/Odometry), where sweeps are "
            "brought together and tf does not tell the motion",
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


def generate_launch_description() -> LaunchDescription:
    """Start the node and, unless told otherwise, bring it to active."""
    remappings = [
        ("~/input/points", LaunchConfiguration("input_points")),
        ("~/input/odometry", LaunchConfiguration("input_odometry")),
        ("~/output/detections", LaunchConfiguration("output_detections")),
        ("~/output/label_info", LaunchConfiguration("output_label_info")),
    ]
    bundle, *others = common_arguments(NAME)
    node = make_node(NAME, remappings, {})
    return LaunchDescription([bundle, *topic_arguments(), *others, *start(node)])
