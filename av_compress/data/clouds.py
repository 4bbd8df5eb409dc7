# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Point clouds out of files of float32, as KITTI and nuScenes write them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from av_compress.data.folder import some_file_names
from av_compress.data.points import CHANNELS
from av_compress.errors import DataError, FrameError
from av_compress.tasks.base import PointCloud

Points = npt.NDArray[np.float32]

SUFFIXES = frozenset({".bin"})
# What the values of a point are where nothing else is said: as in KITTI's files.
COLUMNS = CHANNELS[:4]
# The name of values that are not read.
OTHER = "other"

_VALUE_BYTES = 4


class CloudFolder:
    """The `.bin` files below a folder, sorted by path: float32, little endian, point after point.

    Hidden files and folders are left out. Clouds have no stamp.
    """

    def __init__(
        self, path: Path, columns: Sequence[str] = COLUMNS, wanted: Sequence[str] = COLUMNS
    ) -> None:
        """List the clouds.

        Args:
            path: the folder.
            columns: what the values of a point are, in the files' order: some of x, y, z,
                intensity, time (in seconds before the sweep's end) and ring, and `other`.
            wanted: the columns of the clouds, the first ones of `points.CHANNELS`; the time is 0
                where the files have none.

        Raises:
            DataError: there is no such folder, or no cloud in it, or a column that is wanted is
                not in the files.

        """
        self._root = path
        self._names = some_file_names(path, SUFFIXES, "cloud")
        self._columns, self._wanted = tuple(columns), tuple(wanted)
        missing = [name for name in wanted if name not in columns and name != "time"]
        if missing:
            raise DataError(
                f"{path}: the task wants {', '.join(missing)}; the source's columns are "
                f"{', '.join(columns)}"
            )
        self.description = f"clouds in {path.name}"

    def __len__(self) -> int:
        """Count the clouds."""
        return len(self._names)

    def key(self, index: int) -> str:
        """Return the path of cloud `index` below the folder, with forward slashes."""
        return self._names[index]

    def read(self, index: int) -> PointCloud:
        """Read cloud `index`; see `FrameSource.read`."""
        name = self._names[index]
        held = read_cloud(self._root / name, self._columns)
        return PointCloud(arrange(held, self._columns, self._wanted), key=name)

    def close(self) -> None:
        """Do nothing: no file stays open."""


def arrange(held: Points, columns: Sequence[str], wanted: Sequence[str]) -> Points:
    """Pick columns of points; those that are not held are 0.

    Args:
        held: float32 [n, columns].
        columns: what their values are.
        wanted: what the values are to be.

    """
    points = np.zeros((len(held), len(wanted)), np.float32)
    for place, channel in enumerate(wanted):
        if channel in columns:
            points[:, place] = held[:, columns.index(channel)]
    return points


def read_cloud(path: Path, columns: Sequence[str]) -> Points:
    """Read a file of points, float32 [n, columns].

    Raises:
        DataError: the file cannot be read.
        FrameError: it is empty, or not of whole points.

    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    step = _VALUE_BYTES * len(columns)
    if not content or len(content) % step:
        raise FrameError(
            f"{path} is damaged: {len(content)} bytes are no whole number of points of "
            f"{step} bytes ({', '.join(columns)} as float32)"
        )
    return np.frombuffer(content, "<f4").reshape(-1, len(columns)).astype(np.float32)
