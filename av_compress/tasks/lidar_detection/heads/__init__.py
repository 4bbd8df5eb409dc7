# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What a detector's outputs mean, one family of heads per module, chosen by configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from av_compress.tasks.lidar_detection.heads import anchors, center, keypoints
from av_compress.tasks.lidar_detection.heads.base import Candidates, Family, LidarHead, Plane

FAMILIES: Mapping[str, Family[Any]] = {
    family.config.type: family for family in (center.FAMILY, anchors.FAMILY, keypoints.FAMILY)
}


def parse_head(config: Mapping[str, Any]) -> LidarHead:
    """Make the configuration of the head that `config["type"]` names, from validated JSON.

    Raises:
        ConfigError: values do not go together.

    """
    head: LidarHead = FAMILIES[config["type"]].config.from_config(config)
    return head


__all__ = ["FAMILIES", "Candidates", "Family", "LidarHead", "Plane", "parse_head"]
