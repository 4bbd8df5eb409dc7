# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Qualities of service, and how parts of a node ask for a publisher."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from av_compress.errors import ConfigError

Advertise = Callable[[str, str, Any], Any]
"""Makes a publisher out of message type (`std_msgs/Float64`), topic, and QoS or depth."""


def sensor_qos() -> Any:
    """Return the QoS of sensor data: the newest sample or none at all."""
    from rclpy.qos import QoSProfile, QoSReliabilityPolicy

    # A new one each time, since rclpy writes overrides into the profile it is given.
    return QoSProfile(depth=1, reliability=QoSReliabilityPolicy.BEST_EFFORT)


def latched_qos() -> Any:
    """Return the QoS of what a late subscriber gets too."""
    from rclpy.qos import QoSDurabilityPolicy, QoSProfile

    return QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)


def latched_listener_qos() -> Any:
    """Return the QoS to hear what others latch, each a message of its own.

    As deep as tf2's own listener: of all publishers together, no more than `depth` are kept until
    they are taken, and with one for each sensor most of /tf_static would be lost.
    """
    from rclpy.qos import QoSDurabilityPolicy, QoSProfile

    return QoSProfile(depth=100, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)


def below(advertise: Advertise, slot: str) -> Advertise:
    """Advertise what is the node's own (`~/...`) below a slot's name; `""`: where it is."""
    if not slot:
        return advertise

    def advertise_below(kind: str, topic: str, qos: Any) -> Any:
        return advertise(kind, topic_below(topic, slot), qos)

    return advertise_below


def topic_below(topic: str, slot: str) -> str:
    """Return a node's own topic below a slot's name: `~/front/input/image`."""
    return topic.replace("~/", f"~/{slot}/", 1) if slot else topic


def listed(text: str) -> list[str]:
    """Return what stands between commas; brackets around it may be there or not."""
    return [part.strip() for part in text.strip().strip("[]").split(",") if part.strip()]


def remap_each(
    slots: Sequence[str], topics: Mapping[str, str], given: Mapping[str, Sequence[str]]
) -> list[tuple[str, str]]:
    """Return (the node's own topic, the given one) for every sensor.

    Args:
        slots: the sensors' names; `("",)`: one without.
        topics: argument -> each sensor's own topic that it remaps, below its name.
        given: argument -> topics, one for each sensor or none.

    Raises:
        ConfigError: there are more or fewer topics than sensors.

    """
    found = []
    for argument, names in given.items():
        if names and len(names) != len(slots):
            raise ConfigError(
                f"{argument} names {len(names)} topics for {len(slots)} sensors"
                f"{': ' if any(slots) else ''}{', '.join(slots)}; give one for each, in the same "
                "order"
            )
        own = (topic_below(f"~/{topics[argument]}", slot) for slot in slots)
        found += list(zip(own, names))
    return found
