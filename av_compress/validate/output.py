# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""A replay's detections as a bag."""

from __future__ import annotations

from typing import Any

from av_compress.data.bag_writer import BagWriter
from av_compress.data.bags import BagImages
from av_compress.data.detections import detections_to_fields, label_info_fields
from av_compress.tasks.base import Detections2D, ImageFrame, Task


class DetectionBag:
    """Writes results as vision_msgs, a replay's sink.

    `<image topic>/detections` holds a Detection2DArray per frame with the image's stamp and
    frame_id, at the time the image was recorded; `<image topic>/label_info`, latched, says what
    the class ids mean.
    """

    def __init__(self, writer: BagWriter, source: BagImages, task: Task[Any, Any]) -> None:
        """Take an open `writer`; `source` is where the frames come from."""
        self._writer = writer
        self._source = source
        self._labels = label_info_fields(task.class_names, task.config()["score_threshold"])
        self._labels_written = False
        base = source.topic.removesuffix("/compressed")
        self.detections_topic = f"{base}/detections"
        self.labels_topic = f"{base}/label_info"

    def __call__(self, index: int, frame: ImageFrame, result: Detections2D) -> None:
        """Write the result of one frame."""
        time_ns = self._source.time_ns(index)
        if not self._labels_written:
            self._writer.write_label_info(self.labels_topic, self._labels, time_ns)
            self._labels_written = True
        fields = detections_to_fields(result, frame.stamp_ns, frame.frame_id)
        self._writer.write_detections(self.detections_topic, fields, time_ns)
