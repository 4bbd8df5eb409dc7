# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What the launch files have in common: arguments of every serving node, and its way to active."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ament_index_python.packages import get_package_share_directory
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


def common_arguments(name: str) -> list[DeclareLaunchArgument]:
    """List the arguments of every serving node.

    Args:
        name: of the executable, and of its parameter file.

    """
    config = Path(get_package_share_directory("av_compress")) / "config"
    return [
        DeclareLaunchArgument(
            "bundle",
            description="Folder of the bundle to serve, as written by: "
            "av-compress build RECIPE.yaml --output DIR",
        ),
        DeclareLaunchArgument(
            "node_name", default_value=name, description="Name of the node; no two may share one"
        ),
        DeclareLaunchArgument("namespace", default_value="", description="Namespace of the node"),
        DeclareLaunchArgument(
            "param_path",
            default_value=str(config / f"{name}.param.yaml"),
            description="Parameter file: threads, providers, deadline, signatures, diagnostics "
            "limits",
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
                default_value=str(config / "fastdds_shm_profile.xml"),
            ),
            description="Fast DDS profile of the node: that of the environment, or else the "
            "package's own, which has shared memory for large images. The publisher of the "
            "images should use the same",
        ),
    ]


def make_node(
    name: str, remappings: Sequence[tuple[str, Any]], parameters: dict[str, Any]
) -> LifecycleNode:
    """Describe a serving node.

    Args:
        name: of the executable.
        remappings: of its topics.
        parameters: beside those of the parameter file, the bundle and the clock.

    """
    return LifecycleNode(
        package="av_compress",
        executable=name,
        name=LaunchConfiguration("node_name"),
        namespace=LaunchConfiguration("namespace"),
        parameters=[
            LaunchConfiguration("param_path"),
            {
                "bundle_path": ParameterValue(LaunchConfiguration("bundle"), value_type=str),
                "use_sim_time": ParameterValue(
                    LaunchConfiguration("use_sim_time"), value_type=bool
                ),
                **parameters,
            },
        ],
        remappings=list(remappings),
        ros_arguments=["--log-level", LaunchConfiguration("log_level")],
        output="both",
        emulate_tty=True,
    )


def change_state(node: LifecycleNode, transition_id: int, **kwargs: object) -> EmitEvent:
    """Ask the node for a transition."""
    event = ChangeState(lifecycle_node_matcher=matches_action(node), transition_id=transition_id)
    return EmitEvent(event=event, **kwargs)


def start(node: LifecycleNode) -> list[Any]:
    """Start the node and, unless told otherwise, bring it to active."""
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
    return [
        SetEnvironmentVariable(
            "FASTRTPS_DEFAULT_PROFILES_FILE", LaunchConfiguration("fastdds_profile")
        ),
        activate_when_configured,
        node,
        configure,
    ]
