# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""A replay's detections as a bag."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from av_compress.data.bag_writer import BagWriter
from av_compress.data.base import RecordedSource
from av_compress.data.detection_messages import DetectionMessages
from av_compress.data.detections import detections_to_fields, label_info_fields
from av_compress.data.detections3d import detections3d_to_fields
from av_compress.tasks.base import Detections2D, Detections3D, Task


class DetectionBag:
    """Writes results as vision_msgs, a replay's sink.

    `<topic>/detections` holds a Detection2DArray per image, or a Detection3DArray per cloud, with
    the frame's stamp and frame_id, at the time the frame was recorded; `<topic>/label_info`,
    latched, says what the class ids mean.
    """

    def __init__(self, writer: BagWriter, source: RecordedSource, task: Task[Any, Any]) -> None:
        """Take an open `writer`; `source` is where the frames come from."""
        self._messages = DetectionMessages(writer)
        self._write = self._writers()[task.result_type]
        self._source = source
        self._labels = label_info_fields(task.class_names, task.config()["score_threshold"])
        self._labels_written = False
        base = source.topic.removesuffix("/compressed")
        self.detections_topic = f"{base}/detections"
        self.labels_topic = f"{base}/label_info"

    def __call__(self, index: int, frame: Any, result: Any) -> None:
        """Write the result of one frame."""
        time_ns = self._source.time_ns(index)
        if not self._labels_written:
            self._messages.write_label_info(self.labels_topic, self._labels, time_ns)
            self._labels_written = True
        self._write(frame, result, time_ns)

    def _writers(self) -> Mapping[type[Any], Callable[[Any, Any, int], None]]:
        return {Detections2D: self._write_2d, Detections3D: self._write_3d}

    def _write_2d(self, frame: Any, result: Detections2D, time_ns: int) -> None:
        fields = detections_to_fields(result, frame.stamp_ns, frame.frame_id)
        self._messages.write_2d(self.detections_topic, fields, time_ns)

    def _write_3d(self, frame: Any, result: Detections3D, time_ns: int) -> None:
        fields = detections3d_to_fields(result, frame.stamp_ns, frame.frame_id)
        self._messages.write_3d(self.detections_topic, fields, time_ns)
