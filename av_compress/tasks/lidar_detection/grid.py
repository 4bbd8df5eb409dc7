# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The grid that a cloud is divided by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from av_compress.errors import ConfigError

Floats = npt.NDArray[np.float32]

_AXES = "xyz"
# Cells are numbered by 64-bit integers, and their coordinates are 32-bit ones.
_MOST_CELLS = 1 << 40
_MOST_ALONG = (1 << 31) - 1
# How far from a whole number of cells an extent may be, in cells.
_WHOLE = 1e-3


@dataclass(frozen=True)
class Grid:
    """Boxes of one size that fill a range, in the frame of the points.

    A point belongs to the cell floor((p - lower) / size), computed in float32 on every machine;
    the range holds its lower bounds and not its upper ones.

    Attributes:
        lower: smallest x, y, z in metres.
        upper: largest x, y, z in metres.
        size: extent of a cell in x, y, z in metres; pillars are as high as the range.

    """

    lower: tuple[float, float, float]
    upper: tuple[float, float, float]
    size: tuple[float, float, float]

    def __post_init__(self) -> None:
        """Refuse what is no grid.

        Raises:
            ConfigError: a bound is not finite, a range is empty, or is no whole number of cells,
                or of too many.

        """
        for axis, low, high, size in zip(_AXES, self.lower, self.upper, self.size):
            if not all(map(np.isfinite, (low, high, size))) or size <= 0 or high <= low:
                raise ConfigError(
                    f"grid along {axis}: {low:g} to {high:g} in cells of {size:g}; wanted are "
                    "finite bounds, the upper over the lower, and a positive size"
                )
            cells = (high - low) / size
            if abs(cells - round(cells)) > _WHOLE * max(1.0, cells * 1e-3) or round(cells) < 1:
                raise ConfigError(
                    f"grid along {axis}: {low:g} to {high:g} are {cells:g} cells of {size:g}; a "
                    "whole number is wanted"
                )
        most = np.prod([float(count) for count in self.shape])
        if most > _MOST_CELLS or max(self.shape) > _MOST_ALONG:
            raise ConfigError(
                f"the grid has {self.shape} cells (z, y, x), more than 2^40 in all or than "
                "2^31 - 1 along an axis"
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        """How many cells there are along z, y and x."""
        columns, rows, layers = (
            round((high - low) / size)
            for low, high, size in zip(self.lower, self.upper, self.size)
        )
        return layers, rows, columns

    @property
    def is_flat(self) -> bool:
        """Whether its cells are pillars: one layer."""
        return self.shape[0] == 1

    def arrays(self) -> tuple[Floats, Floats, Floats]:
        """Return lower, upper and size as float32 [3], as kernels take them."""
        return _floats(self.lower), _floats(self.upper), _floats(self.size)


def _floats(values: Sequence[float]) -> Floats:
    return np.array(values, np.float32)
