# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Clouds into voxels and their features on the device.

The bits are those of `tasks.lidar_detection` on the host: the same voxels in the same order, the
same points of each in the same order, the same arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from av_compress.engines.cuda import (
    CudaContext,
    CudaError,
    DeviceBuffer,
    Stream,
    copy_in,
    copy_out,
)
from av_compress.engines.cuda.kernels import Argument
from av_compress.engines.kernels.compile import load_kernels
from av_compress.engines.kernels.compilers import Compiler
from av_compress.engines.kernels.launch import Shape, check_room, grid_in_steps, grid_over, upload
from av_compress.errors import ConfigError, FrameError
from av_compress.tasks.lidar_detection.encoders import Counts
from av_compress.tasks.lidar_detection.features import channel_codes, check_columns
from av_compress.tasks.lidar_detection.grid import Floats, Grid
from av_compress.tasks.lidar_detection.voxels import VoxelLimits

SOURCE = "lidar_detection"

# Threads of a block; the source has the first as well.
_BLOCK = 256
_ROW_BLOCK = 128
_KERNELS = (
    "clear_table",
    "assign_cells",
    "count_firsts",
    "count_blocks",
    "fill_buckets",
    "order_points",
    "encode_voxels",
)

_FEWEST_POINTS = 1 << 10
# Twice as many places of the table must be numbers of 32 bits.
_MOST_POINTS = 1 << 29
_MOST_IN_ROW = 1 << 30
# 2^64 divided by the golden ratio: the upper bits of a product with it are spread evenly (Knuth,
# The Art of Computer Programming, vol. 3, section 6.4).
_SPREAD = 0x9E3779B97F4A7C15


class UnusedRows(Enum):
    """What stands in the rows beyond the last voxel; the values are kernels.

    Attributes:
        ZERO: features and cells of 0.
        LAST_VOXEL: the last voxel again, which a model that writes its rows to their cells may
            write as often as it will; rows are as with ZERO where a cloud has no voxel.

    """

    ZERO = "zero_rows"
    LAST_VOXEL = "repeat_last"


@dataclass(frozen=True)
class _Table:
    """Where cells are found: open addressing, or a place for each where there are few.

    Attributes:
        places: how many, a power of two.
        factor: of a cell's number.
        shift: of the product's bits; those that are left are the place.

    """

    places: int
    factor: int
    shift: int

    @staticmethod
    def of(cells: int, points: int) -> _Table:
        """Return one for so many points, of which each may have a cell of its own."""
        bits = (2 * points - 1).bit_length()
        if cells <= 1 << bits:
            return _Table(1 << (cells - 1).bit_length(), 1, 0)
        return _Table(1 << bits, _SPREAD, 64 - bits)


@dataclass(frozen=True)
class _Scratch:
    """Room for a cloud, used again for the next one.

    Attributes:
        points: how many there is room for.
        columns: how many values of each.
        table: of cells.
        staged: float32 [points * columns], page-locked.
        cloud: the same on the device.
        keys: int64 [places], firsts and counts: int32 [places].
        places: int32 [points], like arrivals and bucket.
        before: int64 [points].
        blocks: int64, one for each block of points.

    """

    points: int
    columns: int
    table: _Table
    staged: Floats
    cloud: DeviceBuffer
    keys: DeviceBuffer
    firsts: DeviceBuffer
    counts: DeviceBuffer
    places: DeviceBuffer
    arrivals: DeviceBuffer
    bucket: DeviceBuffer
    before: DeviceBuffer
    blocks: DeviceBuffer

    @staticmethod
    def make(cuda: CudaContext, points: int, columns: int, cells: int) -> _Scratch:
        """Allocate."""
        table, room = _Table.of(cells, points), cuda.device_buffer
        return _Scratch(
            points,
            columns,
            table,
            staged=cuda.pinned((points * columns,), np.float32),
            cloud=room(4 * points * columns),
            keys=room(8 * table.places),
            firsts=room(4 * table.places),
            counts=room(4 * table.places),
            places=room(4 * points),
            arrivals=room(4 * points),
            bucket=room(4 * points),
            before=room(8 * points),
            blocks=room(8 * grid_over(points, _BLOCK)[0]),
        )

    def free(self) -> None:
        """Free what lies on the device; page-locked memory lives as long as the context."""
        for part in vars(self).values():
            if isinstance(part, DeviceBuffer):
                part.free()


class LidarVoxels:
    """Makes the voxels of one cloud at a time. Owned by the context's thread."""

    def __init__(
        self,
        cuda: CudaContext,
        grid: Grid,
        limits: VoxelLimits,
        channels: Sequence[str],
        unused: UnusedRows = UnusedRows.ZERO,
        compiler: Compiler | None = None,
    ) -> None:
        """Load the kernels and allocate what does not depend on the cloud.

        Args:
            cuda: the context; what is allocated lives as long as it.
            grid: the range and its cells.
            limits: how many voxels and points of each are kept: the first ones.
            channels: names out of `features.CHANNELS`.
            unused: what stands in the rows beyond the last voxel.
            compiler: see `load_kernels`.

        Raises:
            ConfigError: a voxel's features are too many.
            EngineError: see `load_kernels`.
            CudaError: there is not enough memory.

        """
        self._length = limits.points * len(channels)
        if self._length > _MOST_IN_ROW:
            raise ConfigError(
                f"a voxel of {limits.points} points has {self._length} features; at most 2^30 are "
                "allowed"
            )
        self._cuda, self._grid, self._limits = cuda, grid, limits
        self._channels = tuple(channels)
        module = load_kernels(cuda, SOURCE, compiler)
        self._kernels = {name: module.kernel(name) for name in (*_KERNELS, unused.value)}
        self._unused = unused.value
        self._scratch: _Scratch | None = None
        self._order = cuda.device_buffer(4 * limits.voxels * limits.points)
        self._kept = cuda.device_buffer(4 * limits.voxels)
        self._fetched = cuda.pinned((4,), np.int32)
        self._done = cuda.event(timing=False)
        self.counters = cuda.device_buffer(self._fetched.nbytes)
        self._codes = upload(cuda, channel_codes(channels))

    def launch(
        self, points: Floats, out: DeviceBuffer, cells_out: DeviceBuffer, stream: Stream
    ) -> None:
        """Put on the stream what makes a cloud's voxels; returns without waiting.

        With the limits' v and p, and c channels, `out` is then float32 [v, p, c], `cells_out`
        int32 [v, 3] with z, y and x, and `counters` int32 [4] in the order of `Counts`.
        Memory is allocated only where a cloud is larger than all before; that waits for the
        device.

        Args:
            points: float32 [n, c], x, y and z first, the first of `features.POINT_CHANNELS`; may
                be changed as soon as this returns.
            out: for the features.
            cells_out: for the voxels' places in the grid.
            stream: where it runs.

        Raises:
            FrameError: the points are no such array, or too many.
            ConfigError: a channel's column is not in the cloud.
            CudaError: a buffer is too small, the device is not done with the cloud before, or the
                driver refuses.

        """
        self._check(points, out, cells_out)
        with self._cuda.active():
            self._check_done("the next one is launched")
            scratch = self._reserve(*points.shape)
            staged = scratch.staged[: points.size]
            np.copyto(staged.reshape(points.shape), points)
            copy_in(stream, scratch.cloud, staged)
            self._find_cells(scratch, points.shape, stream)
            self._order_points(scratch, len(points), cells_out, stream)
            self._encode(scratch, points.shape[1], out, cells_out, stream)
            copy_out(stream, self._fetched, self.counters)
            self._done.record(stream)

    def collect(self) -> Counts:
        """Return what became of the cloud, once the stream is done with it.

        Raises:
            CudaError: it is not: something behind the launch must be waited for first.

        """
        self._check_done("its counts are asked for")
        return Counts(*map(int, self._fetched))

    def _check(self, points: Floats, out: DeviceBuffer, cells_out: DeviceBuffer) -> None:
        if points.ndim != 2 or points.shape[1] < 3:
            raise FrameError(f"a cloud's points are [n, 3 or more]; these are {points.shape}")
        if len(points) > _MOST_POINTS:
            raise FrameError(f"a cloud has {len(points)} points, more than {_MOST_POINTS}")
        check_columns(self._channels, points.shape[1])
        voxels, shape = self._limits.voxels, (self._limits.points, len(self._channels))
        check_room(out, 4 * voxels * self._length, f"features [{voxels}, {shape[0]}, {shape[1]}]")
        check_room(cells_out, 12 * voxels, f"cells [{voxels}, 3]")

    def _check_done(self, what: str) -> None:
        if not self._done.done():
            raise CudaError(
                "argument",
                f"the device is not done with a cloud when {what}; wait for the stream before",
            )

    def _reserve(self, points: int, columns: int) -> _Scratch:
        have = self._scratch
        if have is not None and have.points >= points and have.columns >= columns:
            return have
        if have is not None:
            points, columns = max(points, have.points), max(columns, have.columns)
            self._scratch = None
            have.free()
        # Twice as many each time: page-locked memory that is left behind is never more than what
        # is in use.
        room = max(_FEWEST_POINTS, 1 << (points - 1).bit_length())
        layers, rows, lines = self._grid.shape
        self._scratch = _Scratch.make(self._cuda, room, columns, layers * rows * lines)
        return self._scratch

    def _find_cells(self, scratch: _Scratch, shape: tuple[int, ...], stream: Stream) -> None:
        table, count = scratch.table, np.int32(shape[0])
        cells = (scratch.keys, scratch.firsts, scratch.counts)
        over_points = grid_over(shape[0], _BLOCK)
        self._run(
            "clear_table", stream, grid_over(table.places, _BLOCK), *cells, np.int32(table.places)
        )
        self._run(
            "assign_cells",
            stream,
            over_points,
            *(scratch.cloud, count, np.int32(shape[1])),
            *(value for part in self._grid.arrays() for value in part),
            *(np.int32(extent) for extent in self._grid.shape),
            *(np.uint64(table.factor), np.int32(table.shift), np.int32(table.places)),
            *(*cells, scratch.places, scratch.arrivals),
        )
        self._run(
            "count_firsts",
            stream,
            over_points,
            *(scratch.places, scratch.firsts, scratch.counts, count),
            *(scratch.before, scratch.blocks),
        )
        self._run(
            "count_blocks",
            stream,
            (1, 1, 1),
            *(scratch.blocks, np.int32(over_points[0]), count, np.int32(self._limits.voxels)),
            self.counters,
        )

    def _order_points(
        self, scratch: _Scratch, points: int, cells_out: DeviceBuffer, stream: Stream
    ) -> None:
        over_points, count = grid_over(points, _BLOCK), np.int32(points)
        room = (np.int32(self._limits.points), np.int32(self._limits.voxels))
        _, rows, columns = self._grid.shape
        self._run(
            "fill_buckets",
            stream,
            over_points,
            *(scratch.places, scratch.arrivals, scratch.keys, scratch.firsts, scratch.counts),
            *(scratch.before, scratch.blocks, count, *room, np.int32(rows), np.int32(columns)),
            *(scratch.bucket, self._kept, cells_out, self.counters),
        )
        self._run(
            "order_points",
            stream,
            over_points,
            *(scratch.places, scratch.firsts, scratch.counts, scratch.before, scratch.blocks),
            *(scratch.bucket, count, *room, self._order),
        )

    def _encode(
        self,
        scratch: _Scratch,
        columns: int,
        out: DeviceBuffer,
        cells_out: DeviceBuffer,
        stream: Stream,
    ) -> None:
        voxels, length = self._limits.voxels, self._length
        lower, _, size = self._grid.arrays()
        self._kernels["encode_voxels"].launch(
            stream,
            grid_in_steps(voxels, 1),
            (_ROW_BLOCK, 1, 1),
            *(scratch.cloud, np.int32(columns), self._order, self._kept, cells_out, self.counters),
            *(self._codes, np.int32(len(self._channels)), np.int32(self._limits.points)),
            *(*lower, *size, out),
        )
        self._run(
            self._unused,
            stream,
            grid_in_steps(voxels * length, _BLOCK),
            *(self.counters, np.int32(voxels), np.int32(length), cells_out, out),
        )

    def _run(self, name: str, stream: Stream, grid: Shape, *arguments: Argument) -> None:
        self._kernels[name].launch(stream, grid, (_BLOCK, 1, 1), *arguments)
