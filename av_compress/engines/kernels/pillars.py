# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""From voxels back to the grid: numbers of their cells, and pillars onto a canvas."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from av_compress.engines.cuda import CudaContext, DeviceBuffer, Stream, fill
from av_compress.engines.kernels.compile import load_kernels
from av_compress.engines.kernels.compilers import Compiler
from av_compress.engines.kernels.launch import check_room, grid_in_steps, grid_over
from av_compress.engines.kernels.lidar import SOURCE
from av_compress.errors import ConfigError
from av_compress.tasks.lidar_detection.grid import Grid

_BLOCK = 256


class CellNumbers:
    """Numbers cells as a flat array of the grid would: (z * rows + y) * columns + x."""

    def __init__(
        self,
        cuda: CudaContext,
        grid: Grid,
        voxels: int,
        dtype: npt.DTypeLike = np.int32,
        compiler: Compiler | None = None,
    ) -> None:
        """Load the kernel.

        Args:
            cuda: the context.
            grid: whose cells they are.
            voxels: how many rows there are, used or not.
            dtype: int32 or int64, of the numbers.
            compiler: see `load_kernels`.

        Raises:
            ConfigError: numbers cannot be of this type.
            EngineError: see `load_kernels`.

        """
        self._dtype = _one_of(dtype, ("int32", "int64"), "numbers of cells")
        cells = math.prod(grid.shape)
        if cells > 1 << (8 * self._dtype.itemsize - 1):
            raise ConfigError(f"the grid's {cells} cells cannot be numbered by {self._dtype}")
        self._grid, self._voxels = grid, voxels
        self._kernel = load_kernels(cuda, SOURCE, compiler).kernel(f"number_cells_{self._dtype}")

    def launch(self, cells: DeviceBuffer, out: DeviceBuffer, stream: Stream) -> None:
        """Put it on the stream.

        Args:
            cells: int32 [voxels, 3], z, y and x.
            out: for the numbers, [voxels].
            stream: where it runs.

        Raises:
            CudaError: a buffer is too small, or the driver refuses.

        """
        check_room(cells, 12 * self._voxels, f"cells [{self._voxels}, 3]")
        check_room(
            out, self._dtype.itemsize * self._voxels, f"{self._dtype} numbers [{self._voxels}]"
        )
        _, rows, columns = self._grid.shape
        self._kernel.launch(
            stream,
            grid_over(self._voxels, _BLOCK),
            (_BLOCK, 1, 1),
            *(cells, np.int32(self._voxels), np.int32(rows), np.int32(columns), out),
        )


class PillarScatter:
    """Writes a row of features for each pillar to its place on a canvas of zeros."""

    def __init__(
        self,
        cuda: CudaContext,
        grid: Grid,
        voxels: int,
        channels: int,
        dtype: npt.DTypeLike = np.float32,
        compiler: Compiler | None = None,
    ) -> None:
        """Load the kernel.

        Args:
            cuda: the context.
            grid: of pillars.
            voxels: how many rows there are, used or not.
            channels: features of a row.
            dtype: float32 or float16, of features and canvas.
            compiler: see `load_kernels`.

        Raises:
            ConfigError: the grid has more than one layer, or features cannot be of this type.
            EngineError: see `load_kernels`.

        """
        if not grid.is_flat:
            raise ConfigError(
                f"a canvas is made of pillars, and the grid has {grid.shape[0]} layers; make its "
                "cells as high as its range"
            )
        self._dtype = _one_of(dtype, ("float32", "float16"), "features of pillars")
        self._grid, self._voxels, self._channels = grid, voxels, channels
        self._kernel = load_kernels(cuda, SOURCE, compiler).kernel(f"scatter_{self._dtype}")

    def launch(
        self,
        features: DeviceBuffer,
        cells: DeviceBuffer,
        counters: DeviceBuffer,
        canvas: DeviceBuffer,
        stream: Stream,
    ) -> None:
        """Put it on the stream.

        Args:
            features: [voxels, channels]; rows beyond the last voxel are not read.
            cells: int32 [voxels, 3], z, y and x; no two alike.
            counters: int32, the first is how many voxels there are: `LidarVoxels.counters`.
            canvas: for the result, [channels, rows, columns].
            stream: where it runs.

        Raises:
            CudaError: a buffer is too small, or the driver refuses.

        """
        _, rows, columns = self._grid.shape
        voxels, channels, size = self._voxels, self._channels, self._dtype.itemsize
        whole = size * channels * rows * columns
        check_room(features, size * voxels * channels, f"{self._dtype} [{voxels}, {channels}]")
        check_room(cells, 12 * voxels, f"cells [{voxels}, 3]")
        check_room(counters, 4, "counters")
        check_room(canvas, whole, f"{self._dtype} [{channels}, {rows}, {columns}]")
        fill(stream, canvas, 0, whole)
        self._kernel.launch(
            stream,
            grid_in_steps(voxels * channels, _BLOCK),
            (_BLOCK, 1, 1),
            *(features, cells, counters),
            *(np.int32(channels), np.int32(rows), np.int32(columns), canvas),
        )


def _one_of(dtype: npt.DTypeLike, allowed: tuple[str, ...], what: str) -> np.dtype[Any]:
    found: np.dtype[Any] = np.dtype(dtype)
    if found.name not in allowed:
        raise ConfigError(f"{what} are {found.name}; allowed: {', '.join(allowed)}")
    return found
