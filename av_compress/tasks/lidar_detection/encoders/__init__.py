# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What a model is told of a cloud, one way per module, chosen by configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from av_compress.tasks.lidar_detection.encoders.base import Counts, Encoder, EncoderConfig
from av_compress.tasks.lidar_detection.encoders.bev import BevConfig
from av_compress.tasks.lidar_detection.encoders.voxels import VoxelConfig

ENCODERS: Mapping[str, type[VoxelConfig] | type[BevConfig]] = {
    config.type: config for config in (VoxelConfig, BevConfig)
}


def parse_encoder(config: Mapping[str, Any]) -> VoxelConfig | BevConfig:
    """Make the configuration of the encoder that `config["type"]` names, from validated JSON."""
    return ENCODERS[config["type"]].from_config(config)


__all__ = ["ENCODERS", "Counts", "Encoder", "EncoderConfig", "parse_encoder"]
