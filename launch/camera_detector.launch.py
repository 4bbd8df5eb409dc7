# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Serve a camera detection bundle.

ros2 launch av_compress camera_detector.launch.py bundle:=DIR input_image:=/camera/image_raw
"""

from __future__ import annotations

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration

from av_compress.nodes.launching import common_arguments, make_node, start

NAME = "camera_detector"


def topic_arguments() -> list[DeclareLaunchArgument]:
    """List the arguments that name topics."""
    return [
        DeclareLaunchArgument(
            "input_image",
            default_value="~/input/image",
            description="Topic of raw images (sensor_msgs/Image) to detect in, "
            "e.g. /camera/image_raw",
        ),
        DeclareLaunchArgument(
            "input_image_compressed",
            default_value="~/input/image/compressed",
            description="Topic of compressed images (sensor_msgs/CompressedImage) to detect in; "
            "give this one or input_image, not both",
        ),
        DeclareLaunchArgument(
            "output_detections",
            default_value="~/output/detections",
            description="Topic for the detections (vision_msgs/Detection2DArray)",
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
        ("~/input/image", LaunchConfiguration("input_image")),
        ("~/input/image/compressed", LaunchConfiguration("input_image_compressed")),
        ("~/output/detections", LaunchConfiguration("output_detections")),
        ("~/output/label_info", LaunchConfiguration("output_label_info")),
    ]
    bundle, *others = common_arguments(NAME)
    node = make_node(NAME, remappings, {})
    return LaunchDescription([bundle, *topic_arguments(), *others, *start(node)])
