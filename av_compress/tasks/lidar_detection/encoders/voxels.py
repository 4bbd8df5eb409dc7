# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Inputs of models that encode voxels, or pillars, themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np

from av_compress.errors import ConfigError
from av_compress.tasks.lidar_detection.encoders.base import Counts, check_room
from av_compress.tasks.lidar_detection.features import POINT_CHANNELS, channel_names, encode
from av_compress.tasks.lidar_detection.grid import Floats, Grid
from av_compress.tasks.lidar_detection.voxels import VoxelLimits, Voxels, voxelise
from av_compress.tensors import Array, Tensors, TensorSpec

_PLACE = 3
_WIDTHS = {"linear": None, "zyx": 3, "batch_zyx": 4}


@dataclass(frozen=True)
class VoxelTensors:
    """Names of the inputs.

    Attributes:
        voxels: the points' features.
        indices: the voxels' places in the grid.
        num_points: how many points each voxel has; None where the model does not ask.
        num_voxels: how many voxels there are; None where the model does not ask.

    """

    voxels: str = "voxels"
    indices: str = "indices"
    num_points: str | None = None
    num_voxels: str | None = None


@dataclass(frozen=True, kw_only=True)
class VoxelConfig:
    """Voxels and what is told of their points; see `voxels.voxelise` and `features.encode`.

    Attributes:
        max_points: points of a voxel.
        max_voxels: voxels of a cloud.
        features: a named set of channels, or their names.
        dtype: element type of the features.
        index_form: `linear` [v]: (z * rows + y) * columns + x; `zyx` [v, 3]; `batch_zyx` [v, 4],
            whose first is 0.
        index_dtype: element type of the indices and of numbers.
        padding: `none` for a model whose number of voxels is open; else it is `max_voxels`, and
            the rest are `zeros` (indices and numbers of points, too) or `repeat_last`.
        tensors: names of the inputs.

    """

    type: ClassVar[str] = "voxels"
    max_points: int = 32
    max_voxels: int = 40000
    features: str | tuple[str, ...] = "pointpillars"
    dtype: Literal["float32", "float16"] = "float32"
    index_form: Literal["linear", "zyx", "batch_zyx"] = "linear"
    index_dtype: Literal["int64", "int32"] = "int64"
    padding: Literal["none", "zeros", "repeat_last"] = "none"
    tensors: VoxelTensors = field(default_factory=VoxelTensors)

    @staticmethod
    def from_config(config: Mapping[str, Any]) -> VoxelConfig:
        """Make it of validated JSON values."""
        options: dict[str, Any] = {key: value for key, value in config.items() if key != "type"}
        features = options.get("features")
        if isinstance(features, list):
            options["features"] = tuple(features)
        options["tensors"] = VoxelTensors(**options.get("tensors", {}))
        return VoxelConfig(**options)

    def make(self, grid: Grid) -> VoxelEncoder:
        """Make the encoder; see `EncoderConfig.make`."""
        return VoxelEncoder(self, grid)

    def to_config(self) -> dict[str, Any]:
        """Return JSON values."""
        return {"type": self.type, **asdict(self)}


class VoxelEncoder:
    """Makes features and indices; see `Encoder`.

    A cloud without a point in the range gives one voxel, in cell 0, of features that are 0. ONNX
    Runtime would run on none, but TensorRT's profiles begin at one, and the tensors must not
    depend on who runs the model. A model that asks for the number of points is told of one, as it
    divides by it; one that asks for the number of voxels is told of none.
    """

    def __init__(self, config: VoxelConfig, grid: Grid) -> None:
        """Prepare what does not depend on a cloud.

        Raises:
            ConfigError: a channel is not known, two tensors have one name, or the indices do not
                fit their type.

        """
        try:
            self._channels = channel_names(config.features)
        except ConfigError as error:
            raise ConfigError(f"task.input.encoder.{error}") from error
        self._config, self._grid = config, grid
        self._limits = VoxelLimits(config.max_points, config.max_voxels)
        self._padded = config.padding != "none"
        self.rows_along: str = "y"
        read = [POINT_CHANNELS.index(c) for c in self._channels if c in POINT_CHANNELS]
        self.columns = max([_PLACE, *(index + 1 for index in read)])
        self.told = tuple(sorted({index for index in read if index >= _PLACE}))
        self.largest = float(np.finfo(config.dtype).max)
        self.specs = self._specs()
        names = [spec.name for spec in self.specs]
        if len(set(names)) < len(names):
            raise ConfigError(
                f"task.input.encoder.tensors: {', '.join(names)} must differ from one another"
            )
        cells = float(np.prod([float(extent) for extent in grid.shape]))
        if config.index_form == "linear" and cells > np.iinfo(config.index_dtype).max:
            raise ConfigError(
                f"task.input.encoder.index_dtype: {config.index_dtype} cannot number the "
                f"{cells:.0f} cells of the grid; allowed: int64"
            )

    def __call__(self, points: Floats, out: Tensors | None) -> tuple[dict[str, Array], Counts]:
        """Encode a cloud; see `Encoder`."""
        if out is not None:
            check_room(self.specs, self._config.max_voxels, out)
        voxels = voxelise(points, self._grid, self._limits)
        count, names = len(voxels), self._config.tensors
        total = self._config.max_voxels if self._padded else max(1, count)
        tensors = {
            spec.name: self._room(spec, total) if out is None else out[spec.name][:total]
            for spec in self.specs
        }
        self._write_features(points, voxels, tensors[names.voxels])
        tensors[names.indices][:count] = self._indices(voxels)
        if names.num_points is not None:
            tensors[names.num_points][:count] = voxels.counts
        for name, array in tensors.items():
            if name != names.num_voxels:
                self._pad(array, count, zeroed=self._padded and out is None)
        if names.num_points is not None and not count:
            tensors[names.num_points][0] = 1
        if names.num_voxels is not None:
            tensors[names.num_voxels][...] = count
        return tensors, Counts(
            count, voxels.outside, voxels.surplus_points, voxels.surplus_voxel_points
        )

    def _specs(self) -> tuple[TensorSpec, ...]:
        config, names = self._config, self._config.tensors
        total = config.max_voxels if self._padded else None
        width = _WIDTHS[config.index_form]
        whole = np.dtype(config.index_dtype)
        found = [
            TensorSpec(
                names.voxels,
                (total, config.max_points, len(self._channels)),
                np.dtype(config.dtype),
            ),
            TensorSpec(names.indices, (total,) if width is None else (total, width), whole),
        ]
        if names.num_points is not None:
            found.append(TensorSpec(names.num_points, (total,), whole))
        if names.num_voxels is not None:
            found.append(TensorSpec(names.num_voxels, (1,), whole))
        return tuple(found)

    def _room(self, spec: TensorSpec, total: int) -> Array:
        """Return room for `total` voxels: zeros where some are left, whose pages cost nothing."""
        shape = [total if extent is None else extent for extent in spec.shape]
        return np.zeros(shape, spec.dtype) if self._padded else np.empty(shape, spec.dtype)

    def _write_features(self, points: Floats, voxels: Voxels, features: Array) -> None:
        if features.dtype == np.float32:
            encode(points, voxels, self._grid, self._channels, features)
            return
        # Rounding to half precision is slow, and most of it is zeros.
        exact = encode(points, voxels, self._grid, self._channels)
        filled = np.arange(features.shape[1]) < voxels.counts[:, None]
        features[: len(voxels)] = 0
        features[: len(voxels)][filled] = exact[filled]

    def _indices(self, voxels: Voxels) -> Array:
        form = self._config.index_form
        if form == "zyx":
            return voxels.cells
        if form == "batch_zyx":
            return np.pad(voxels.cells, ((0, 0), (1, 0)))
        _, rows, columns = self._grid.shape
        z, y, x = voxels.cells.astype(np.int64).T
        return np.asarray((z * rows + y) * columns + x)

    def _pad(self, array: Array, count: int, zeroed: bool) -> None:
        """Fill what is left behind `count` voxels."""
        if self._config.padding == "repeat_last" and count:
            array[count:] = array[count - 1]
        elif not zeroed:
            array[count:] = 0
