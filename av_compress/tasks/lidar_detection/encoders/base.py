# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What encoders of clouds share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from av_compress.errors import ModelError
from av_compress.tasks.lidar_detection.grid import Floats, Grid
from av_compress.tensors import Array, Tensors, TensorSpec


@dataclass(frozen=True)
class Counts:
    """What became of a cloud's points.

    Attributes:
        voxels: cells that hold points.
        outside: points that lie outside the range, or nowhere; see `points.Selected`.
        surplus_points: points in voxels that were full already.
        surplus_voxel_points: points in voxels for which there was no room any more.

    """

    voxels: int
    outside: int
    surplus_points: int = 0
    surplus_voxel_points: int = 0


def check_room(specs: Sequence[TensorSpec], most: int, out: Tensors) -> None:
    """Refuse arrays that compiled code would write beyond.

    Args:
        specs: what is made; None where an extent depends on the cloud.
        most: how large that extent may become.
        out: input name -> array to write into.

    Raises:
        ModelError: an array is missing, or has another type or shape.

    """
    for spec in specs:
        array = out.get(spec.name)
        wanted = tuple(most if extent is None else extent for extent in spec.shape)
        fits = array is not None and array.dtype == spec.dtype and array.shape == wanted
        if not fits:
            found = "none" if array is None else f"{array.dtype} {list(array.shape)}"
            raise ModelError(
                f"room for input {spec} is {found}; {spec.dtype} {list(wanted)} is wanted: a "
                "model of voxels runs on one cloud at a time, and has room for max_voxels"
            )


class Encoder(Protocol):
    """Makes a model's inputs of points. Stateless and reentrant.

    Attributes:
        specs: the inputs; None where an extent depends on the cloud.
        columns: how many of the points' columns are read.
        told: those behind z whose values reach the model.
        largest: magnitude that its element type holds.
        rows_along: the axis that rows of the model's maps follow.

    """

    specs: tuple[TensorSpec, ...]
    columns: int
    told: tuple[int, ...]
    largest: float
    rows_along: str

    def __call__(self, points: Floats, out: Tensors | None) -> tuple[dict[str, Array], Counts]:
        """Encode a cloud.

        Args:
            points: float32 [n, columns], contiguous.
            out: input name -> array to write into, with room for the most where an extent is
                open; by default arrays are made.

        Returns:
            input name -> array, and what became of the points.

        Raises:
            ModelError: see `check_room`.

        """
        ...


class EncoderConfig(Protocol):
    """The configuration of an encoder: a frozen dataclass."""

    type: ClassVar[str]

    def make(self, grid: Grid) -> Encoder:
        """Make the encoder.

        Raises:
            ConfigError: it cannot work on this grid.

        """
        ...

    def to_config(self) -> dict[str, Any]:
        """Return JSON values."""
        ...
