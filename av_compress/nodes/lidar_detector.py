# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""lidar_detector: PointCloud2 in, Detection3DArray out."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from av_compress.data.detections import label_info_fields
from av_compress.data.detections3d import detections3d_to_fields
from av_compress.data.points import PointOptions, cloud_from_message
from av_compress.data.sweeps import SweepMerger
from av_compress.nodes.clouds import cloud_message
from av_compress.nodes.detections import label_info_message
from av_compress.nodes.detections3d import Detection3DArrayWriter, markers_message
from av_compress.nodes.motion import Listener, Motion
from av_compress.nodes.process import run_node
from av_compress.nodes.roles import OneSensor
from av_compress.nodes.ros import message_class
from av_compress.nodes.topics import Advertise, latched_qos
from av_compress.tasks.base import Detections3D, PointCloud, Sweeps, Task

_SAMPLE_POINTS = 50_000
_SAMPLE_EXTENT_M = 60.0


class LidarOutputs:
    """Detections, what their labels mean, and markers and counts for whoever looks."""

    def __init__(self, advertise: Advertise, task: Task[Any, Any]) -> None:
        """Advertise the topics."""
        self._class_names = tuple(task.class_names)
        self._threshold = float(task.config()["score_threshold"])
        self._writer = Detection3DArrayWriter()
        self._detections = advertise("vision_msgs/Detection3DArray", "~/output/detections", 1)
        self._labels = advertise("vision_msgs/LabelInfo", "~/output/label_info", latched_qos())
        self._markers = advertise("visualization_msgs/MarkerArray", "~/debug/markers", 1)
        self._counts = {
            name: advertise("std_msgs/UInt32", f"~/debug/count/{name}", 1)
            for name in ("points", "voxels", "surplus_points")
        }

    def announce(self, stamp: Any) -> None:
        """Publish the class names and the score threshold, once for all who come later."""
        fields = label_info_fields(self._class_names, self._threshold)
        self._labels.publish(label_info_message(fields, stamp))

    def publish(self, frame: PointCloud, result: Detections3D) -> None:
        """Publish detections with the cloud's stamp and frame_id."""
        fields = detections3d_to_fields(result, frame.stamp_ns, frame.frame_id)
        self._detections.publish(self._writer.write(fields))

    def publish_debug(self, frame: PointCloud, result: Detections3D, context: Any) -> None:
        """Publish markers and counts, each while somebody subscribes."""
        if self._markers.get_subscription_count() > 0:
            fields = detections3d_to_fields(result, frame.stamp_ns, frame.frame_id)
            self._markers.publish(markers_message(fields, self._class_names))
        counts = context.counts
        values = {
            "points": context.points,
            "voxels": counts.voxels,
            "surplus_points": counts.surplus_points + counts.surplus_voxel_points,
        }
        count = message_class("std_msgs/UInt32")
        for name, publisher in self._counts.items():
            if publisher.get_subscription_count() > 0:
                publisher.publish(count(data=int(values[name])))


class LidarReader:
    """Reads clouds, and brings the last ones to each where that is asked for."""

    def __init__(
        self,
        points: PointOptions,
        sweeps: Sweeps,
        fixed_frame: str,
        warn: Callable[[str], None],
    ) -> None:
        """Start without sweeps.

        Args:
            points: which fields of a message are read.
            sweeps: which sweeps are brought together, as the task says.
            fixed_frame: see `data.sweeps.merge_sweeps`.
            warn: is told why some are missing.

        """
        self._points, self._warn = points, warn
        self._motion = Motion(warn) if sweeps.several else None
        self._merger = None
        if self._motion is not None:
            self._merger = SweepMerger(sweeps, self._motion.transforms, fixed_frame)

    def read(self, message: Any) -> PointCloud:
        """Return the cloud in a PointCloud2, with the sweeps before it."""
        cloud = cloud_from_message(message, self._points)
        if self._merger is None:
            return cloud
        merged = self._merger.merge(cloud)
        if merged.warning is not None:
            self._warn(merged.warning)
        return merged.cloud

    def read_raw(self, message: Any) -> PointCloud:
        """Return the same: nothing is decoded later."""
        return self.read(message)

    def sample_message(self) -> Any:
        """Return a cloud of points all around."""
        random = np.random.default_rng(0)
        points = random.uniform(-1, 1, (_SAMPLE_POINTS, 6)).astype(np.float32)
        points[:, :2] *= _SAMPLE_EXTENT_M
        points[:, 3:] = 0
        return cloud_message(PointCloud(points))

    def listeners(self) -> Sequence[Listener]:
        """Return what tells the vehicle's motion, where sweeps are brought together."""
        return () if self._motion is None else self._motion.listeners()


class LidarDetectorRole(OneSensor):
    """What makes a serving node a LiDAR detector."""

    name = "lidar_detector"
    task_kind = "lidar_detection"
    inputs: Mapping[str, str] = {"~/input/points": "sensor_msgs/PointCloud2"}

    def make_reader(
        self, task: Task[Any, Any], parameters: Mapping[str, Any], warn: Callable[[str], None]
    ) -> LidarReader:
        """Return what reads clouds of as many sweeps as the task wants."""
        needs = task.frame_needs
        fields = parameters["points"]
        points = PointOptions(
            channels=len(needs.sweep_columns),
            intensity=_named(fields["intensity"]),
            time=_named(fields["time"]),
            zeros=_named(fields["zeros"]),
        )
        return LidarReader(points, needs.sweeps, parameters["motion"]["fixed_frame"], warn)

    def make_outputs(
        self, advertise: Advertise, task: Task[Any, Any], parameters: Mapping[str, Any]
    ) -> LidarOutputs:
        """Advertise detections, labels, markers and counts."""
        return LidarOutputs(advertise, task)


def _named(names: Sequence[str]) -> tuple[str, ...]:
    # ROS knows no empty list: an empty name stands for none.
    return tuple(name for name in names if name)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the node until it is told to stop."""
    return run_node(LidarDetectorRole(), argv)


if __name__ == "__main__":
    sys.exit(main())
