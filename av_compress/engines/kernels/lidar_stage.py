# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""A LiDAR detector's preprocess as a stage beside its model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from av_compress.engines.cuda import CudaContext, DeviceBuffer, Stream
from av_compress.engines.kernels.compilers import Compiler
from av_compress.engines.kernels.lidar import LidarVoxels, UnusedRows
from av_compress.engines.kernels.pillars import CellNumbers
from av_compress.tasks.base import PointCloud
from av_compress.tasks.lidar_detection import LidarDetection
from av_compress.tasks.lidar_detection.encoders.voxels import VoxelConfig
from av_compress.tasks.lidar_detection.features import channel_names
from av_compress.tasks.lidar_detection.task import CloudContext
from av_compress.tasks.lidar_detection.voxels import VoxelLimits

_UNUSED = {"zeros": UnusedRows.ZERO, "repeat_last": UnusedRows.LAST_VOXEL}


@dataclass(frozen=True)
class _Begun:
    """What is known of a cloud before the device has counted its voxels."""

    points: int
    in_ego_box: int
    unusable: int


def why_not(task: LidarDetection) -> str | None:
    """Return why a task's clouds cannot be prepared on the device; None where they can."""
    encoder = task.settings.input.encoder
    if not isinstance(encoder, VoxelConfig):
        return "maps of a cloud are not made on the device"
    if encoder.padding not in _UNUSED:
        return "the model's number of voxels is open: build it with a padding"
    names = encoder.tensors
    if encoder.dtype != "float32" or names.num_points is not None or names.num_voxels is not None:
        return "float16 features and numbers of points or voxels are not made on the device"
    if encoder.index_form == "batch_zyx" or (
        encoder.index_form == "zyx" and encoder.index_dtype != "int32"
    ):
        return f"{encoder.index_dtype} indices {encoder.index_form} are not made on the device"
    return None


class LidarStage:
    """Voxels, features and indices of a cloud; see `PreprocessStage`.

    Ego box, scale of intensities and unusable values stay with the host, which copies the points
    anyway.
    """

    def __init__(
        self, task: LidarDetection, cuda: CudaContext, compiler: Compiler | None = None
    ) -> None:
        """Load the kernels.

        Args:
            task: for which `why_not` is None.
            cuda: the engine's context.
            compiler: see `load_kernels`.

        Raises:
            NoCompilerError, EngineError, CudaError: see `load_kernels`.

        """
        wanted = task.settings.input
        encoder = wanted.encoder
        assert isinstance(encoder, VoxelConfig)
        limits = VoxelLimits(encoder.max_points, encoder.max_voxels)
        self._task, self._tensors = task, encoder.tensors
        self._voxels = LidarVoxels(
            cuda,
            wanted.grid,
            limits,
            channel_names(encoder.features),
            _UNUSED[encoder.padding],
            compiler,
        )
        self._numbers: CellNumbers | None = None
        if encoder.index_form == "linear":
            dtype = np.dtype(encoder.index_dtype)
            self._numbers = CellNumbers(cuda, wanted.grid, limits.voxels, dtype, compiler)
            self._cells = cuda.device_buffer(12 * limits.voxels)

    def takes(self, frame: Any) -> bool:
        """Tell whether a frame is a cloud."""
        return isinstance(frame, PointCloud)

    def launch(
        self, frame: PointCloud, inputs: Mapping[str, DeviceBuffer], place: int, stream: Stream
    ) -> _Begun:
        """Prepare a cloud; see `PreprocessStage.launch`.

        Raises:
            FrameError: see `LidarDetection.select`.

        """
        kept = self._task.select(frame)
        indices = inputs[self._tensors.indices]
        cells = indices if self._numbers is None else self._cells
        self._voxels.launch(kept.points, inputs[self._tensors.voxels], cells, stream)
        if self._numbers is not None:
            self._numbers.launch(cells, indices, stream)
        return _Begun(len(frame), kept.in_ego_box, kept.unusable)

    def finish(self, begun: _Begun) -> CloudContext:
        """Return what became of the points, now that the device has counted them."""
        return CloudContext(begun.points, begun.in_ego_box, begun.unusable, self._voxels.collect())
