# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Serve several cameras with one camera detection bundle, their images in one batch.

ros2 launch av_compress multi_camera_detector.launch.py bundle:=DIR cameras:=front,left
will do where images come on /multi_camera_detector/front/input/image and so on; otherwise add
input_images:=/front/image_raw,/left/image_raw
"""

from __future__ import annotations

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration

from av_compress.nodes.launching import common_arguments, make_node, start
from av_compress.nodes.topics import listed, remap_each

NAME = "multi_camera_detector"
# Argument -> each camera's own topic that it remaps.
TOPICS = {
    "input_images": "input/image",
    "input_images_compressed": "input/image/compressed",
    "output_detections": "output/detections",
}


def camera_arguments() -> list[DeclareLaunchArgument]:
    """List the arguments that say what is served."""
    return [
        DeclareLaunchArgument(
            "cameras",
            description="Names of the cameras, separated by commas, e.g. front,left,right; their "
            "topics are ~/front/input/image, ~/front/output/detections and so on",
        ),
        DeclareLaunchArgument(
            "input_images",
            default_value="",
            description="Topics of raw images (sensor_msgs/Image), one for each camera and in the "
            "same order, separated by commas; by default the node's own",
        ),
        DeclareLaunchArgument(
            "input_images_compressed",
            default_value="",
            description="Topics of compressed images (sensor_msgs/CompressedImage), likewise; "
            "give these or input_images, not both",
        ),
        DeclareLaunchArgument(
            "output_detections",
            default_value="",
            description="Topics for the detections (vision_msgs/Detection2DArray), likewise",
        ),
        DeclareLaunchArgument(
            "arrival_window_ms",
            default_value="",
            description="Milliseconds that the first image of a batch waits for those of the "
            "other cameras; by default what param_path says",
        ),
    ]


def describe(context: LaunchContext) -> list[object]:
    """Describe the node for the cameras that were named."""

    def value(argument: str) -> str:
        return LaunchConfiguration(argument).perform(context)

    cameras = listed(value("cameras"))
    given = {argument: listed(value(argument)) for argument in TOPICS}
    remappings = remap_each(cameras, TOPICS, given)
    parameters: dict[str, object] = {"cameras": cameras}
    if value("arrival_window_ms"):
        parameters["arrival_window_ms"] = float(value("arrival_window_ms"))
    return start(make_node(NAME, remappings, parameters))


def generate_launch_description() -> LaunchDescription:
    """Start the node and, unless told otherwise, bring it to active."""
    bundle, *others = common_arguments(NAME)
    return LaunchDescription(
        [bundle, *camera_arguments(), *others, OpaqueFunction(function=describe)]
    )
