# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Camera detectors: an image in, boxes in its own pixels out."""

from av_compress.tasks.camera_detection.task import CameraDetection

__all__ = ["CameraDetection"]
