# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The loops over points and voxels, compiled by numba and cached beside this file.

All arithmetic is float32, without fused or reordered operations: the device's kernels give the
same bits.
"""

# numba reads the functions' own text: annotations of arrays would say nothing to it.
# mypy: disable-error-code="no-untyped-def,untyped-decorator"
# ruff: noqa: ANN001, ANN202

from __future__ import annotations

from typing import Any

import numpy as np

from av_compress.errors import MissingExtraError

try:
    from numba import njit
except ImportError as error:
    raise MissingExtraError("numba", "lidar", "dividing point clouds") from error

# Knuth's multiplicative hash: 2^32 divided by the golden ratio.
_SPREAD = np.int64(2654435761)


def voxelise(
    points: Any, lower: Any, upper: Any, size: Any, shape: Any, depth: int, room: int
) -> tuple[Any, Any, Any, tuple[int, int, int]]:
    """See `voxels.voxelise`; the last are points outside, surplus in voxels, and without one."""
    rows, counts, cells, lost = _voxelise(points, lower, upper, size, shape, depth, room)
    return rows, counts, cells, lost


def encode(
    points: Any, rows: Any, counts: Any, cells: Any, lower: Any, size: Any, codes: Any, out: Any
) -> None:
    """See `features.encode`."""
    _encode(points, rows, counts, cells, lower, size, codes, out)


@njit(cache=True, nogil=True, error_model="numpy")
def _voxelise(points, lower, upper, size, shape, depth, room):
    layers, lines, columns = shape
    bits = 4
    while (1 << bits) < 2 * room:
        bits += 1
    mask = (1 << bits) - 1
    # Open addressing; it holds at most `room` of twice as many places.
    keys = np.full(1 << bits, -1, np.int64)
    numbers = np.empty(1 << bits, np.int32)
    rows = np.empty((room, depth), np.int32)
    counts = np.zeros(room, np.int32)
    cells = np.empty((room, 3), np.int32)
    found = outside = surplus = homeless = 0
    for row in range(points.shape[0]):
        x, y, z = points[row, 0], points[row, 1], points[row, 2]
        # Written so that NaN is outside, too.
        if not (
            lower[0] <= x < upper[0] and lower[1] <= y < upper[1] and lower[2] <= z < upper[2]
        ):
            outside += 1
            continue
        column = int(np.floor((x - lower[0]) / size[0]))
        line = int(np.floor((y - lower[1]) / size[1]))
        layer = int(np.floor((z - lower[2]) / size[2]))
        # Right below the upper bound float32 may round up to a cell that is none.
        column, line, layer = (
            min(column, columns - 1),
            min(line, lines - 1),
            min(layer, layers - 1),
        )
        cell = (np.int64(layer) * lines + line) * columns + column
        place = ((cell * _SPREAD) >> 13) & mask
        while keys[place] != cell and keys[place] != -1:
            place = (place + 1) & mask
        if keys[place] == cell:
            number = numbers[place]
        elif found == room:
            homeless += 1
            continue
        else:
            number = found
            found += 1
            keys[place], numbers[place] = cell, number
            cells[number, 0], cells[number, 1], cells[number, 2] = layer, line, column
        count = counts[number]
        if count == depth:
            surplus += 1
            continue
        rows[number, count] = row
        counts[number] = count + 1
    return rows[:found], counts[:found], cells[:found], (outside, surplus, homeless)


@njit(cache=True, nogil=True, error_model="numpy")
def _encode(points, rows, counts, cells, lower, size, codes, out):
    origins = np.empty((2, 3), np.float32)
    values = np.empty((rows.shape[1], points.shape[1]), np.float32)
    for number in range(rows.shape[0]):
        for point in range(counts[number]):
            for channel in range(points.shape[1]):
                values[point, channel] = points[rows[number, point], channel]
        _locate(values, counts[number], cells[number], lower, size, origins)
        _write(values, counts[number], origins, codes, out, number)


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _locate(values, count, cell, lower, size, origins):
    """Write a voxel's mean and its cell's centre."""
    half = np.float32(0.5)
    for axis in range(3):
        total = np.float32(0.0)
        for point in range(count):
            total += values[point, axis]
        origins[0, axis] = total / np.float32(count)
        origins[1, axis] = (np.float32(cell[2 - axis]) + half) * size[axis] + lower[axis]


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _write(values, count, origins, codes, out, number):
    """Write the channels of a voxel's points, one after the other, and 0 behind them."""
    for channel in range(codes.shape[0]):
        code = codes[channel]
        if code < 6:
            for point in range(count):
                out[number, point, channel] = values[point, code]
        elif code < 12:
            axis = code % 3
            origin = origins[(code - 6) // 3, axis]
            for point in range(count):
                out[number, point, channel] = values[point, axis] - origin
        else:
            _distances(values, count, out, number, channel)
    out[number, count:] = np.float32(0.0)


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _distances(values, count, out, number, channel):
    for point in range(count):
        x, y, z = values[point, 0], values[point, 1], values[point, 2]
        out[number, point, channel] = np.sqrt(x * x + y * y + z * z)
