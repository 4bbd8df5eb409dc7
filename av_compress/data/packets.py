# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Packets of LiDAR drivers, which bags hold in place of points: whose they are, what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


class Topic(Protocol):
    """What is asked of a topic."""

    @property
    def type(self) -> str:
        """Message type, such as `sensor_msgs/Image`."""


@dataclass(frozen=True)
class _Driver:
    """What makes points of packets: its package, and the topic that it puts them on."""

    package: str
    points: str


_VELODYNE = _Driver("velodyne_pointcloud or nebula", "/velodyne_points")
_HESAI = _Driver("nebula", "/pandar_points")
_OUSTER = _Driver("ouster_ros", "/ouster/points")
_LIVOX = _Driver("livox_ros_driver2 with xfer_format 0", "/livox/lidar")
# Message type -> its driver; the topics are the drivers' defaults.
_DRIVERS: Mapping[str, _Driver] = {
    **dict.fromkeys(("velodyne_msgs/VelodyneScan", "velodyne_msgs/VelodynePacket"), _VELODYNE),
    **dict.fromkeys(("pandar_msgs/PandarScan", "pandar_msgs/PandarPacket"), _HESAI),
    "nebula_msgs/NebulaPackets": _Driver("nebula", "/nebula_points"),
    "robosense_msgs/RobosenseScan": _Driver("nebula", "/robosense_points"),
    "rslidar_msg/RslidarPacket": _Driver("rslidar_sdk", "/rslidar_points"),
    "hesai_ros_driver/UdpFrame": _Driver("hesai_ros_driver", "/lidar_points"),
    "hesai_ros_driver/UdpPacket": _Driver("hesai_ros_driver", "/lidar_points"),
    **dict.fromkeys(("ouster_sensor_msgs/PacketMsg", "ouster_msgs/PacketMsg"), _OUSTER),
    **dict.fromkeys(("livox_ros_driver2/CustomMsg", "livox_interfaces/CustomMsg"), _LIVOX),
}


def packets_note(topics: Sequence[Topic], bag: Path) -> str | None:
    """Say what to do with topics of packets; None where there are none.

    Args:
        topics: of a bag, none of them with clouds.
        bag: where it is.

    """
    driver = next((_DRIVERS[one.type] for one in topics if one.type in _DRIVERS), None)
    if driver is None:
        return None
    held = " and ".join(dict.fromkeys(one.type for one in topics if one.type in _DRIVERS))
    return (
        f"messages of type {held} are a driver's packets, which that driver alone makes points "
        f"of: start it once without the sensor ({driver.package}), play the bag to it (ros2 bag "
        f"play {bag}), record what it makes (ros2 bag record {driver.points}), and give that bag "
        "here"
    )
