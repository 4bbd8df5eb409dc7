# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Points into voxels: which cell each belongs to, and the first few of every cell.

The order is that of the cloud: a voxel's number is that of its first point, and its points follow
one another as they came. It is the order of the usual CPU implementations (spconv's
point-to-voxel, mmdetection3d), and does not depend on the machine.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from av_compress.errors import ConfigError
from av_compress.tasks.lidar_detection import compiled
from av_compress.tasks.lidar_detection.grid import Floats, Grid

_MOST = (1 << 31) - 1


@dataclass(frozen=True)
class Voxels:
    """The voxels of a cloud that hold points: which they hold, not their values.

    Attributes:
        rows: int32 [v, p], each one's first p points by their rows in the cloud; anything beyond
            its count.
        counts: int32 [v], how many of them there are.
        cells: int32 [v, 3], the place in the grid: z, y, x.
        outside: points that lie outside the range, or are not finite.
        surplus_points: points in voxels that were full already.
        surplus_voxel_points: points in voxels for which there was no room any more.

    """

    rows: npt.NDArray[np.int32]
    counts: npt.NDArray[np.int32]
    cells: npt.NDArray[np.int32]
    outside: int
    surplus_points: int
    surplus_voxel_points: int

    def __len__(self) -> int:
        """Count the voxels."""
        return len(self.counts)


@dataclass(frozen=True)
class VoxelLimits:
    """How much room there is.

    Attributes:
        points: points of a voxel, at least 1.
        voxels: voxels of a cloud, at least 1.

    """

    points: int
    voxels: int

    def __post_init__(self) -> None:
        """Refuse what leaves no room.

        Raises:
            ConfigError: a limit is below 1, or is no number of 32 bits.

        """
        for name, limit in (("points", self.points), ("voxels", self.voxels)):
            if not 1 <= limit <= _MOST:
                raise ConfigError(f"the limit of {name} is {limit}; 1 to 2^31 - 1 are allowed")


def voxelise(points: Floats, grid: Grid, limits: VoxelLimits) -> Voxels:
    """Divide a cloud into voxels; no point is copied.

    Args:
        points: float32 [n, c], x, y and z first; what is not finite lies in no cell.
        grid: the range and its cells.
        limits: how many voxels and points of each are kept: the first ones.

    """
    cloud = np.ascontiguousarray(points, np.float32)
    rows, counts, cells, lost = compiled.voxelise(
        cloud, *grid.arrays(), grid.shape, limits.points, limits.voxels
    )
    return Voxels(rows, counts, cells, *map(int, lost))
