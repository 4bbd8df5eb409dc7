# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Inputs of models that see a cloud as a picture from above; compiled by numba."""

# numba reads the functions' own text: annotations of arrays would say nothing to it.
# mypy: disable-error-code="no-untyped-def,untyped-decorator"
# ruff: noqa: ANN001, ANN202

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np

from av_compress.errors import ConfigError, MissingExtraError
from av_compress.tasks.lidar_detection.encoders.base import Counts, check_room
from av_compress.tasks.lidar_detection.grid import Floats, Grid
from av_compress.tasks.lidar_detection.points import INTENSITY
from av_compress.tensors import Array, Tensors, TensorSpec

try:
    from numba import njit
except ImportError as error:
    raise MissingExtraError("numba", "lidar", "mapping point clouds") from error

Channel: TypeAlias = Literal["intensity", "height", "density"]
CHANNELS: tuple[Channel, ...] = ("intensity", "height", "density")


@dataclass(frozen=True, kw_only=True)
class BevConfig:
    """Maps of the highest point of each cell, and of how many points there are.

    Source: Simon et al., Complex-YOLO (2018), section 3.1, as SFA3D's reference implementation
    computes it: height = (z - lower) / (upper - lower) and intensity, both of the highest point
    (of several the first); density = min(1, log(points + 1) / log(density_points)); 0 in cells
    without points.

    Attributes:
        name: of the input.
        dtype: its element type.
        channels: in order, out of `CHANNELS`.
        rows_along: the axis that rows follow; columns follow the other.
        density_points: how many points give a density of 1, less one.

    """

    type: ClassVar[str] = "bev"
    name: str = "input"
    dtype: Literal["float32", "float16"] = "float32"
    channels: tuple[Channel, ...] = CHANNELS
    rows_along: Literal["x", "y"] = "x"
    density_points: int = 64

    @staticmethod
    def from_config(config: Mapping[str, Any]) -> BevConfig:
        """Make it of validated JSON values."""
        options: dict[str, Any] = {key: value for key, value in config.items() if key != "type"}
        options["channels"] = tuple(options.get("channels", CHANNELS))
        return BevConfig(**options)

    def make(self, grid: Grid) -> BevEncoder:
        """Make the encoder; see `EncoderConfig.make`."""
        return BevEncoder(self, grid)

    def to_config(self) -> dict[str, Any]:
        """Return JSON values."""
        return {"type": self.type, **asdict(self)}


class BevEncoder:
    """Makes the maps; see `Encoder`."""

    def __init__(self, config: BevConfig, grid: Grid) -> None:
        """Prepare what does not depend on a cloud.

        Raises:
            ConfigError: the grid has several layers.

        """
        if not grid.is_flat:
            raise ConfigError(
                f"task.input.voxel_size: {grid.size[2]:g} m high cells make {grid.shape[0]} "
                f"layers; the encoder bev wants one: {grid.upper[2] - grid.lower[2]:g} m"
            )
        self._config, self._grid = config, grid
        self.rows_along: str = config.rows_along
        self.told: tuple[int, ...] = (INTENSITY,) if "intensity" in config.channels else ()
        self.columns = INTENSITY + 1 if self.told else INTENSITY
        self.largest = float(np.finfo(config.dtype).max)
        _, rows, columns = grid.shape
        plane = (rows, columns) if config.rows_along == "y" else (columns, rows)
        shape = (1, len(config.channels), *plane)
        self.specs: tuple[TensorSpec, ...] = (
            TensorSpec(config.name, shape, np.dtype(config.dtype)),
        )
        counts = np.arange(config.density_points)
        self._densities = np.minimum(
            1.0, np.log(counts + 1.0) / np.log(float(config.density_points))
        ).astype(np.float32)
        self._codes = np.array([CHANNELS.index(name) for name in config.channels], np.int32)

    def __call__(self, points: Floats, out: Tensors | None) -> tuple[dict[str, Array], Counts]:
        """Encode a cloud; see `Encoder`."""
        (spec,) = self.specs
        if out is not None:
            check_room(self.specs, 1, out)
        given = None if out is None else out[spec.name]
        fits = given is not None and given.dtype == np.float32
        maps = given if fits else np.empty(spec.static_shape or (), np.float32)
        assert maps is not None
        filled, outside = _map(
            points,
            *self._grid.arrays(),
            self._grid.shape[1:],
            self._config.rows_along == "x",
            self._densities,
            self._codes,
            maps[0],
        )
        if given is not None and not fits:
            given[...] = maps
        made = maps.astype(spec.dtype, copy=False) if given is None else given
        return {spec.name: made}, Counts(int(filled), int(outside))


@njit(cache=True, nogil=True, error_model="numpy")
def _map(points, lower, upper, size, shape, swapped, densities, codes, out):
    rows, columns = shape
    highest = np.full((rows, columns), -1, np.int32)
    counts = np.zeros((rows, columns), np.int32)
    outside = 0
    for number in range(points.shape[0]):
        x, y, z = points[number, 0], points[number, 1], points[number, 2]
        # Written so that NaN is outside, too.
        if not (
            lower[0] <= x < upper[0] and lower[1] <= y < upper[1] and lower[2] <= z < upper[2]
        ):
            outside += 1
            continue
        # Right below the upper bound float32 may round up to a cell that is none.
        column = min(int(np.floor((x - lower[0]) / size[0])), columns - 1)
        row = min(int(np.floor((y - lower[1]) / size[1])), rows - 1)
        counts[row, column] += 1
        top = highest[row, column]
        if top < 0 or z > points[top, 2]:
            highest[row, column] = number
    height = upper[2] - lower[2]
    out[:] = np.float32(0.0)
    filled = 0
    for row in range(rows):
        for column in range(columns):
            top = highest[row, column]
            if top < 0:
                continue
            filled += 1
            line, place = (column, row) if swapped else (row, column)
            for channel in range(codes.shape[0]):
                if codes[channel] == 0:
                    value = points[top, 3]
                elif codes[channel] == 1:
                    value = (points[top, 2] - lower[2]) / height
                else:
                    value = densities[min(counts[row, column], densities.shape[0] - 1)]
                out[channel, line, place] = value
    return filled, outside
