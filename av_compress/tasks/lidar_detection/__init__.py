# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""LiDAR detectors: a point cloud in, boxes in its own frame out."""

from av_compress.tasks.lidar_detection.task import LidarDetection

__all__ = ["LidarDetection"]
