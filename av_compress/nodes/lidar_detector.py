# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""lidar_detector: PointCloud2 in, Detection3DArray out."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from av_compress.data.detections import label_info_fields
from av_compress.data.detections3d import detections3d_to_fields
from av_compress.data.merging import MergeOptions
from av_compress.data.points import PointOptions, cloud_from_message
from av_compress.data.sweeps import SweepMerger
from av_compress.errors import ConfigError
from av_compress.nodes.cloud_steps import LidarMerging, SweepMerging
from av_compress.nodes.clouds import cloud_message
from av_compress.nodes.detections import label_info_message
from av_compress.nodes.detections3d import Detection3DArrayWriter, markers_message
from av_compress.nodes.motion import Listener, Motion
from av_compress.nodes.process import run_node
from av_compress.nodes.roles import Gathering, each_alone
from av_compress.nodes.ros import message_class
from av_compress.nodes.topics import Advertise, latched_qos
from av_compress.tasks.base import Detections3D, PointCloud, Sweeps, Task
from av_compress.tasks.lidar_detection.task import CloudContext
from av_compress.telemetry.windows import NS_PER_MS, NS_PER_S

# Topic below ~/debug/count -> what of a cloud it counts.
_COUNTS: Mapping[str, Callable[[CloudContext], int]] = {
    "points": lambda cloud: cloud.points,
    "ego_points": lambda cloud: cloud.in_ego_box,
    "unusable_points": lambda cloud: cloud.unusable,
    "outside_points": lambda cloud: cloud.counts.outside,
    "voxels": lambda cloud: cloud.counts.voxels,
    "surplus_points": lambda cloud: (
        cloud.counts.surplus_points + cloud.counts.surplus_voxel_points
    ),
}
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
            name: advertise("std_msgs/UInt32", f"~/debug/count/{name}", 1) for name in _COUNTS
        }

    def announce(self, stamp: Any) -> None:
        """Publish the class names and the score threshold, once for all who come later."""
        fields = label_info_fields(self._class_names, self._threshold)
        self._labels.publish(label_info_message(fields, stamp))

    def publish(self, frame: PointCloud, result: Detections3D) -> None:
        """Publish detections with the cloud's stamp and frame_id."""
        fields = detections3d_to_fields(result, frame.stamp_ns, frame.frame_id)
        self._detections.publish(self._writer.write(fields))

    def publish_debug(
        self, frame: PointCloud, result: Detections3D, context: CloudContext
    ) -> None:
        """Publish markers and counts, each while somebody subscribes."""
        if self._markers.get_subscription_count() > 0:
            fields = detections3d_to_fields(result, frame.stamp_ns, frame.frame_id)
            self._markers.publish(markers_message(fields, self._class_names))
        count = message_class("std_msgs/UInt32")
        for name, publisher in self._counts.items():
            if publisher.get_subscription_count() > 0:
                publisher.publish(count(data=int(_COUNTS[name](context))))

    def shortfalls(self, context: CloudContext) -> Mapping[str, str]:
        """Tell where points were lost that should not have been."""
        return context.shortfalls()


class LidarReader:
    """Reads clouds, and brings those of several LiDARs and the last sweeps to each."""

    def __init__(
        self,
        points: PointOptions,
        sweeps: Sweeps,
        fixed_frame: str,
        merge: MergeOptions | None,
        warn: Callable[[str], None],
    ) -> None:
        """Start without sweeps.

        Args:
            points: which fields of a message are read.
            sweeps: which sweeps are brought together, as the task says.
            fixed_frame: see `data.sweeps.merge_sweeps`.
            merge: how clouds of several LiDARs are; None where there is one.
            warn: is told of messages of motion that say nothing.

        """
        self._points = points
        self._motion = Motion(warn) if sweeps.several or merge is not None else None
        self._steps: list[LidarMerging | SweepMerging] = []
        self._frame_id = ""
        if self._motion is not None and merge is not None:
            self._frame_id = merge.frame
            options = replace(merge, ego_box=sweeps.ego_box)
            self._steps.append(LidarMerging(options, self._motion.transforms))
        if self._motion is not None and sweeps.several:
            merger = SweepMerger(sweeps, self._motion.transforms, fixed_frame)
            self._steps.append(SweepMerging(merger))

    def read(self, message: Any) -> PointCloud:
        """Return the cloud in a PointCloud2."""
        return cloud_from_message(message, self._points)

    def read_raw(self, message: Any) -> PointCloud:
        """Return the same: nothing is decoded later."""
        return self.read(message)

    def gather(self, frames: Mapping[str, PointCloud]) -> Gathering:
        """Bring together what several LiDARs saw, and the sweeps before it."""
        gathering = each_alone(frames)
        for step in self._steps:
            gathering = step.gather(gathering)
        return gathering

    def forget(self) -> None:
        """Forget the clouds before, and the vehicle's motion."""
        for step in self._steps:
            step.forget()
        if self._motion is not None:
            self._motion.forget()

    def sample_message(self) -> Any:
        """Return a cloud of points all around."""
        names = self._points.first_names()
        random = np.random.default_rng(0)
        points = random.uniform(-1, 1, (_SAMPLE_POINTS, len(names))).astype(np.float32)
        points[:, :2] *= _SAMPLE_EXTENT_M
        points[:, 3:] = 0
        # No transforms are known yet: of several LiDARs it is in the frame that it is wanted in.
        return cloud_message(PointCloud(points, frame_id=self._frame_id), names)

    def listeners(self) -> Sequence[Listener]:
        """Return what tells the vehicle's motion, where clouds are brought together."""
        return () if self._motion is None else self._motion.listeners()


class LidarDetectorRole:
    """What makes a serving node a detector of one LiDAR, or of several as if they were one."""

    name = "lidar_detector"
    task_kind = "lidar_detection"
    inputs: Mapping[str, str] = {"~/input/points": "sensor_msgs/PointCloud2"}

    def slots(self, parameters: Mapping[str, Any]) -> Sequence[str]:
        """Return the LiDARs' names; the only one needs none."""
        return _named(parameters["merge"]["lidars"]) or ("",)

    def channel(self, slot: str, parameters: Mapping[str, Any]) -> str:
        """Return that all LiDARs have their results in common."""
        return ""

    def window_s(self, parameters: Mapping[str, Any]) -> float:
        """Return how long the first cloud waits for those of the other LiDARs."""
        return float(parameters["merge"]["arrival_window_ms"]) * NS_PER_MS / NS_PER_S

    def make_reader(
        self, task: Task[Any, Any], parameters: Mapping[str, Any], warn: Callable[[str], None]
    ) -> LidarReader:
        """Return what reads clouds of as many sweeps as the task wants.

        Raises:
            ConfigError: a frame that is needed is not named, or channels are to be zeros that are
                none.

        """
        needs = task.frame_needs
        if needs.sweeps.several and not parameters["motion"]["fixed_frame"]:
            raise ConfigError(
                "parameter motion.fixed_frame is empty, but the bundle's model takes "
                f"{needs.sweeps.count} sweeps together: name a frame that stands still, such as "
                "odom"
            )
        points = _point_options(parameters["points"], len(needs.sweep_columns))
        fixed_frame, merge = parameters["motion"]["fixed_frame"], _merge_options(parameters)
        return LidarReader(points, needs.sweeps, fixed_frame, merge, warn)

    def make_outputs(
        self, advertise: Advertise, task: Task[Any, Any], parameters: Mapping[str, Any]
    ) -> LidarOutputs:
        """Advertise detections, labels, markers and counts."""
        return LidarOutputs(advertise, task)


def _point_options(section: Mapping[str, Any], channels: int) -> PointOptions:
    unit = section["time_unit"]
    return PointOptions(
        channels=channels,
        intensity=_named(section["intensity"]),
        time=_named(section["time"]),
        ring=_named(section["ring"]),
        time_unit=None if unit == "auto" else unit,
        clock=section["clock"],
        zeros=_named(section["zeros"]),
        time_keys="points.time_unit or points.clock",
    )


def _merge_options(parameters: Mapping[str, Any]) -> MergeOptions | None:
    section = parameters["merge"]
    lidars = _named(section["lidars"])
    if not lidars:
        return None
    if not section["frame"]:
        raise ConfigError(
            "parameter merge.lidars names LiDARs, but merge.frame is empty: name the frame that "
            "their clouds are brought into, such as base_link"
        )
    return MergeOptions(
        section["frame"],
        parameters["motion"]["fixed_frame"],
        section["max_apart_ms"] * NS_PER_MS / NS_PER_S,
    )


def _named(names: Sequence[str]) -> tuple[str, ...]:
    # ROS knows no empty list: an empty name stands for none.
    return tuple(name for name in names if name)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the node until it is told to stop."""
    return run_node(LidarDetectorRole(), argv)


if __name__ == "__main__":
    sys.exit(main())
