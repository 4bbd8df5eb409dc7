# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The model that a recipe names: one ONNX file, or an encoder of pillars and its backbone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import onnx

from av_compress.compress.join import join_pillar_model
from av_compress.compress.optimize.prepare import load_model
from av_compress.errors import ConfigError, ModelError
from av_compress.fileio import sha256_bytes, sha256_file
from av_compress.tasks.base import Task
from av_compress.tasks.lidar_detection.config import LidarDetectionConfig
from av_compress.tasks.lidar_detection.encoders.voxels import VoxelConfig
from av_compress.tasks.lidar_detection.task import LidarDetection


@dataclass(frozen=True)
class WholeModel:
    """A model in one file."""

    path: Path

    def __str__(self) -> str:
        """Return the file's path."""
        return str(self.path)

    @property
    def name(self) -> str:
        """Return the file's name."""
        return self.path.name

    @property
    def bytes(self) -> int:
        """Return the file's size."""
        return self.path.stat().st_size

    def sha256(self) -> str:
        """Return the file's hash."""
        return sha256_file(self.path)

    def load(self, task: Task[Any, Any]) -> onnx.ModelProto:
        """Load it.

        Raises:
            ModelError: see `prepare.load_model`.

        """
        return load_model(self.path)


@dataclass(frozen=True)
class SplitModel:
    """A model in two files, with nothing but a scatter between them; see `compress.join`."""

    encoder: Path
    backbone: Path

    def __str__(self) -> str:
        """Return both paths."""
        return f"{self.encoder} and {self.backbone}"

    @property
    def name(self) -> str:
        """Return both files' names."""
        return f"{self.encoder.name} + {self.backbone.name}"

    @property
    def bytes(self) -> int:
        """Return the size of both files."""
        return self.encoder.stat().st_size + self.backbone.stat().st_size

    def sha256(self) -> str:
        """Return a hash of both files' hashes, encoder first."""
        return sha256_bytes("\n".join(map(sha256_file, (self.encoder, self.backbone))).encode())

    def load(self, task: Task[Any, Any]) -> onnx.ModelProto:
        """Load and join the two.

        Raises:
            ConfigError: the task is none that such a model can have.
            ModelError: a file cannot be loaded, or the two do not fit together.

        """
        settings, encoder = _pillars(task)
        first, second = load_model(self.encoder), load_model(self.backbone)
        names = encoder.tensors
        grid = settings.input.grid
        try:
            return join_pillar_model(first, second, grid, names.indices, encoder.index_dtype)
        except ModelError as error:
            raise ModelError(f"{self}: {error}") from error


SourceModel: TypeAlias = WholeModel | SplitModel


def source_model(config: str | Mapping[str, str], folder: Path) -> SourceModel:
    """Make it of the recipe's validated `model` section.

    Args:
        config: a path, or those of `encoder` and `backbone`.
        folder: what they are relative to.

    """
    if isinstance(config, str):
        return WholeModel(folder / config)
    return SplitModel(folder / config["encoder"], folder / config["backbone"])


def _pillars(task: Task[Any, Any]) -> tuple[LidarDetectionConfig, VoxelConfig]:
    if isinstance(task, LidarDetection):
        encoder = task.settings.input.encoder
        if isinstance(encoder, VoxelConfig) and encoder.index_form == "linear":
            return task.settings, encoder
    raise ConfigError(
        "model: an encoder and a backbone are joined for a task of kind lidar_detection, whose "
        "task.input.encoder is of type voxels with index_form linear"
    )
