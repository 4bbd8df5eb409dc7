# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Labelled point clouds out of a folder in KITTI's layout (object detection, 2017).

Source: readme of the KITTI object development kit. Of the folder, `velodyne/NAME.bin`,
`calib/NAME.txt` and `label_2/NAME.txt` are read, and of `image_2/NAME.png` the size alone.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from av_compress.data.clouds import COLUMNS, read_cloud
from av_compress.data.kitti_calibration import Calibration, read_calibration
from av_compress.data.names import first_names, read_split
from av_compress.errors import ConfigError, DataError, FrameError
from av_compress.tasks.base import Labels3D, PointCloud, Visibility

CLASS_NAMES = ("Car", "Van", "Truck", "Pedestrian", "Person_sitting", "Cyclist", "Tram", "Misc")
# Regions of an image in which objects were not labelled: they have no place in space.
_REGION = "DontCare"

_LABEL_COLUMNS = 15

_PNG_START = b"\x89PNG\r\n\x1a\n"
_PNG_SIZE = struct.Struct(">8x8xII")


class KittiFolder:
    """The clouds of a KITTI folder by name, with their boxes in the LiDAR's frame.

    Clouds have x, y, z in metres and intensity in 0..1, and no stamp. Regions in which nothing was
    labelled (DontCare) have no box in space and are left out.
    """

    class_names: Sequence[str] = CLASS_NAMES

    def __init__(
        self,
        root: Path,
        view: Literal["whole", "camera"] = "whole",
        split: Path | None = None,
    ) -> None:
        """List the clouds.

        Args:
            root: the folder, such as `training`.
            view: which points are kept: all, or those that the camera sees, as objects are
                labelled nowhere else.
            split: a text file with the names of the clouds to take, one a line; None: all.

        Raises:
            DataError: there is no cloud, or one has no calibration, no labels or (where the
                camera's view is asked for) no image; all by name. Or `split` cannot be read, or
                names clouds that are not there.
            ConfigError: another `view`.

        """
        if view not in ("whole", "camera"):
            raise ConfigError(f"view is {view!r}; allowed: whole, camera")
        self._root = root
        self._view = view
        names = _cloud_names(root)
        if split is not None:
            names = read_split(split, names, "cloud", root)
        _check_files(root, names, ["image_2/{}.png"] if view == "camera" else [])
        self._names = names
        self.description = f"kitti {root.name}"

    def __len__(self) -> int:
        """Count the clouds."""
        return len(self._names)

    def key(self, index: int) -> str:
        """Return the name of cloud `index`, such as `000010`."""
        return self._names[index]

    def read(self, index: int) -> PointCloud:
        """Read cloud `index`; see `FrameSource.read`."""
        points = read_cloud(self._path(index, "velodyne", "bin"), COLUMNS)
        if self._view == "camera":
            size = self.image_size(index)
            points = points[self.calibration(index).in_view(points[:, :3], size)]
        return PointCloud(points, frame_id="velodyne", key=self._names[index])

    def labels(self, index: int) -> Labels3D:
        """Return the labels of cloud `index`.

        Raises:
            DataError: a file cannot be read, or a line of it is no label; the line is named.

        """
        rows = _read_labels(self._path(index, "label_2", "txt"))
        table = np.array([row.values for row in rows], np.float64).reshape(-1, _LABEL_COLUMNS - 1)
        boxes = self.calibration(index).boxes_to_lidar(
            table[:, 10:13], table[:, 7:10], table[:, 13]
        )
        return Labels3D(
            boxes=boxes.astype(np.float32),
            labels=np.array([row.label for row in rows], np.int32),
            ignored=np.zeros(len(rows), np.bool_),
            visibility=Visibility(
                occlusion=table[:, 1].astype(np.int32),
                truncation=table[:, 0].astype(np.float32),
                heights=(table[:, 6] - table[:, 4]).astype(np.float32),
            ),
        )

    def calibration(self, index: int) -> Calibration:
        """Return the calibration of cloud `index`.

        Raises:
            DataError: it cannot be read.

        """
        return read_calibration(self._path(index, "calib", "txt"))

    def image_size(self, index: int) -> tuple[int, int]:
        """Return width and height in pixels of the image beside cloud `index`.

        Raises:
            DataError: there is no such file.
            FrameError: it is no PNG.

        """
        path = self._path(index, "image_2", "png")
        try:
            with path.open("rb") as file:
                start = file.read(_PNG_SIZE.size)
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}") from error
        if not start.startswith(_PNG_START) or len(start) < _PNG_SIZE.size:
            raise FrameError(f"{path} is no PNG, from which the camera's view is known")
        width, height = _PNG_SIZE.unpack(start)
        return width, height

    def heights(self, index: int, boxes: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """Return how high boxes stand in the image beside cloud `index`; see `GradedSource`."""
        return self.calibration(index).heights(boxes, self.image_size(index))

    def close(self) -> None:
        """Do nothing: no file stays open."""

    def _path(self, index: int, folder: str, suffix: str) -> Path:
        return self._root / folder / f"{self._names[index]}.{suffix}"


@dataclass(frozen=True)
class _Label:
    """A line: its class, and all numbers behind the class's name."""

    label: int
    values: tuple[float, ...]


def _cloud_names(root: Path) -> tuple[str, ...]:
    folder = root / "velodyne"
    if not folder.is_dir():
        raise DataError(f"{root} is not a KITTI folder: it has no folder velodyne")
    names = sorted(path.stem for path in folder.glob("*.bin"))
    if not names:
        raise DataError(f"{folder} holds no cloud; looked for *.bin")
    return tuple(names)


def _check_files(root: Path, names: Sequence[str], more: Sequence[str]) -> None:
    for pattern in ("calib/{}.txt", "label_2/{}.txt", *more):
        missing = [name for name in names if not (root / pattern.format(name)).is_file()]
        if missing:
            some = first_names([pattern.format(name) for name in missing])
            raise DataError(f"{root}: {len(missing)} of {len(names)} clouds lack a file: {some}")


def _read_labels(path: Path) -> list[_Label]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"labels {path} cannot be read: {reason}") from error
    found = []
    for number, line in enumerate(lines, 1):
        words = line.split()
        if words and words[0] != _REGION:
            found.append(_label(words, f"{path}:{number}"))
    return found


def _label(words: Sequence[str], where: str) -> _Label:
    if words[0] not in CLASS_NAMES:
        raise DataError(
            f"{where} has class {words[0]!r}; known: {', '.join(CLASS_NAMES)}, {_REGION}"
        )
    try:
        # Behind the columns of a label, results have a score.
        values = tuple(float(word) for word in words[1:_LABEL_COLUMNS])
    except ValueError as error:
        raise DataError(f"{where} is no label: {error}") from error
    if len(values) != _LABEL_COLUMNS - 1 or not np.isfinite(values).all():
        raise DataError(
            f"{where} is no label: {_LABEL_COLUMNS - 1} finite numbers are needed behind the "
            f"class, there are {len(words) - 1}"
        )
    if min(values[7:10]) <= 0:
        raise DataError(f"{where} has a box of {values[7]} x {values[8]} x {values[9]} m")
    return _Label(CLASS_NAMES.index(words[0]), values)
