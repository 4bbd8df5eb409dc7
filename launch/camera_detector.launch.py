# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Serve a camera detection bundle.

ros2 launch av_compress camera_detector.launch.py bundle:=DIR input_image:=/camera/image_raw
"""

from __future__ import annotations

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    RegisterEventHandler,
    SetEnvironmentVariable,
)
from launch.conditions import IfCondition
from launch.events import matches_action
from launch.substitutions import EnvironmentVariable, LaunchConfiguration
from launch_ros.actions import LifecycleNode
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from launch_ros.parameter_descriptions import ParameterValue
from lifecycle_msgs.msg import Transition

CONFIG = Path(get_package_share_directory("av_compress")) / "config"


def declare_arguments() -> list[DeclareLaunchArgument]:
    """List the arguments; `--show-args` prints them."""
    return [
        DeclareLaunchArgument(
            "bundle",
            description="Folder of the bundle to serve, as written by: "
            "av-compress build RECIPE.yaml --output DIR",
        ),
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
        DeclareLaunchArgument(
            "node_name",
            default_value="camera_detector",
            description="Name of the node; give every camera its own",
        ),
        DeclareLaunchArgument("namespace", default_value="", description="Namespace of the node"),
        DeclareLaunchArgument(
            "param_path",
            default_value=str(CONFIG / "camera_detector.param.yaml"),
            description="Parameter file: threads, providers, deadline, diagnostics limits",
        ),
        DeclareLaunchArgument(
            "use_sim_time",
            default_value="false",
            choices=["true", "false"],
            description="Take time from /clock, as a replayed bag or a simulator gives it",
        ),
        DeclareLaunchArgument(
            "autostart",
            default_value="true",
            choices=["true", "false"],
            description="Configure and activate the node at once; "
            "false leaves that to `ros2 lifecycle set` or a lifecycle manager",
        ),
        DeclareLaunchArgument(
            "log_level",
            default_value="info",
            choices=["debug", "info", "warn", "error", "fatal"],
            description="Least severity that the node logs",
        ),
        DeclareLaunchArgument(
            "fastdds_profile",
            default_value=EnvironmentVariable(
                "FASTRTPS_DEFAULT_PROFILES_FILE",
                default_value=str(CONFIG / "fastdds_shm_profile.xml"),
            ),
            description="Fast DDS profile of the node: that of the environment, or else the "
            "package's own, which has shared memory for large images. The publisher of the "
            "images should use the same",
        ),
    ]


def make_node() -> LifecycleNode:
    """Describe the node."""
    return LifecycleNode(
        package="av_compress",
        executable="camera_detector",
        name=LaunchConfiguration("node_name"),
        namespace=LaunchConfiguration("namespace"),
        parameters=[
            LaunchConfiguration("param_path"),
            {
                "bundle_path": ParameterValue(LaunchConfiguration("bundle"), value_type=str),
                "use_sim_time": ParameterValue(
                    LaunchConfiguration("use_sim_time"), value_type=bool
                ),
            },
        ],
        remappings=[
            ("~/input/image", LaunchConfiguration("input_image")),
            ("~/input/image/compressed", LaunchConfiguration("input_image_compressed")),
            ("~/output/detections", LaunchConfiguration("output_detections")),
            ("~/output/label_info", LaunchConfiguration("output_label_info")),
        ],
        ros_arguments=["--log-level", LaunchConfiguration("log_level")],
        output="both",
        emulate_tty=True,
    )


def change_state(node: LifecycleNode, transition_id: int, **kwargs: object) -> EmitEvent:
    """Ask the node for a transition."""
    event = ChangeState(lifecycle_node_matcher=matches_action(node), transition_id=transition_id)
    return EmitEvent(event=event, **kwargs)


def generate_launch_description() -> LaunchDescription:
    """Start the node and, unless told otherwise, bring it to active."""
    node = make_node()
    # Activation follows a configuration that succeeded. `start_state` matters: without it, a later
    # deactivation, which also ends in `inactive`, would activate the node again.
    activate_when_configured = RegisterEventHandler(
        OnStateTransition(
            target_lifecycle_node=node,
            start_state="configuring",
            goal_state="inactive",
            entities=[change_state(node, Transition.TRANSITION_ACTIVATE)],
        ),
        condition=IfCondition(LaunchConfiguration("autostart")),
    )
    configure = change_state(
        node,
        Transition.TRANSITION_CONFIGURE,
        condition=IfCondition(LaunchConfiguration("autostart")),
    )
    return LaunchDescription(
        [
            *declare_arguments(),
            SetEnvironmentVariable(
                "FASTRTPS_DEFAULT_PROFILES_FILE", LaunchConfiguration("fastdds_profile")
            ),
            activate_when_configured,
            node,
            configure,
        ]
    )
