# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Telemetry as messages: `/diagnostics` and `~/debug/...` times."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from av_compress.nodes.ros import message_class
from av_compress.nodes.topics import Advertise
from av_compress.telemetry.monitor import Report
from av_compress.telemetry.windows import NS_PER_MS

# Topic below ~/debug -> the spans whose sum it carries.
_TIMES: Mapping[str, tuple[str, ...]] = {
    "processing_time/decode_ms": ("decode",),
    "processing_time/preprocess_ms": ("preprocess",),
    "processing_time/inference_ms": ("h2d", "execute", "d2h"),
    "processing_time/postprocess_ms": ("postprocess",),
    "processing_time/publish_ms": ("publish",),
    "processing_time/total_ms": (
        "decode",
        "preprocess",
        "h2d",
        "execute",
        "d2h",
        "postprocess",
        "publish",
    ),
}


class DebugTimes:
    """Publishes the times of each frame as std_msgs/Float64, on topics that have a subscriber."""

    def __init__(self, advertise: Advertise) -> None:
        """Advertise the topics; `advertise(type, topic, qos)` makes a publisher."""
        self._message = message_class("std_msgs/Float64")
        self._publishers = {
            parts: advertise("std_msgs/Float64", f"~/debug/{topic}", 1)
            for topic, parts in _TIMES.items()
        }
        self._latency = advertise("std_msgs/Float64", "~/debug/pipeline_latency_ms", 1)

    def publish(self, spans: Mapping[str, int]) -> None:
        """Publish the spans of one frame."""
        for parts, publisher in self._publishers.items():
            self._publish(publisher, sum(spans.get(part, 0) for part in parts))
        self._publish(self._latency, sum(spans.values()))

    def _publish(self, publisher: Any, duration_ns: int) -> None:
        if publisher.get_subscription_count() > 0:
            publisher.publish(self._message(data=duration_ns / NS_PER_MS))


class DiagnosticsOutput:
    """Publishes health reports on `/diagnostics`."""

    def __init__(
        self, advertise: Advertise, hardware_id: str, identity: Mapping[str, str]
    ) -> None:
        """Advertise the topic.

        Args:
            advertise: makes a publisher out of type, topic and QoS.
            hardware_id: what runs the model.
            identity: values that stay the same, e.g. `bundle_sha256`.

        """
        self._array = message_class("diagnostic_msgs/DiagnosticArray")
        self._status = message_class("diagnostic_msgs/DiagnosticStatus")
        self._pair = message_class("diagnostic_msgs/KeyValue")
        self._publisher = advertise("diagnostic_msgs/DiagnosticArray", "/diagnostics", 10)
        self._hardware_id = hardware_id
        self._identity = dict(identity)

    def publish(self, reports: Mapping[str, Report], stamp: Any) -> None:
        """Publish reports.

        Args:
            reports: name of the status, by which an aggregator sorts it -> what it says.
            stamp: a builtin_interfaces/Time.

        """
        message = self._array(status=[self._make(*item) for item in reports.items()])
        message.header.stamp = stamp
        self._publisher.publish(message)

    def _make(self, name: str, report: Report) -> Any:
        values = {key: _text(value) for key, value in report.figures.items()}
        return self._status(
            level=bytes([report.level]),
            name=name,
            message=report.message,
            hardware_id=self._hardware_id,
            values=[
                self._pair(key=key, value=value)
                for key, value in {**self._identity, **values}.items()
            ],
        )


def _text(value: int | float) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
