# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Labelled point clouds out of a folder in nuScenes' layout.

Sources: Caesar et al., nuScenes: a multimodal dataset for autonomous driving, 2020; where it
leaves something open, nuscenes-devkit 1.2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from av_compress.data.clouds import COLUMNS, arrange, read_cloud
from av_compress.data.json_tables import Row
from av_compress.data.names import first_names
from av_compress.data.nuscenes_records import Annotation, Sweep
from av_compress.data.nuscenes_tables import key_frame, read_tables
from av_compress.data.transforms import Transform
from av_compress.errors import DataError
from av_compress.tasks.base import Labels3D, PointCloud
from av_compress.tasks.scope import Scope

Doubles = npt.NDArray[np.float64]

CHANNEL = "LIDAR_TOP"
# What the values of a point are in the files; intensities are 0..255.
FILE_COLUMNS = ("x", "y", "z", "intensity", "ring")

# Category -> class of the detection task; the others are no class.
CATEGORIES: Mapping[str, str] = {
    "vehicle.car": "car",
    "vehicle.truck": "truck",
    "vehicle.bus.bendy": "bus",
    "vehicle.bus.rigid": "bus",
    "vehicle.trailer": "trailer",
    "vehicle.construction": "construction_vehicle",
    "human.pedestrian.adult": "pedestrian",
    "human.pedestrian.child": "pedestrian",
    "human.pedestrian.construction_worker": "pedestrian",
    "human.pedestrian.police_officer": "pedestrian",
    "vehicle.motorcycle": "motorcycle",
    "vehicle.bicycle": "bicycle",
    "movable_object.trafficcone": "traffic_cone",
    "movable_object.barrier": "barrier",
}
CLASS_NAMES = tuple(dict.fromkeys(CATEGORIES.values()))
# In racks bicycles were not labelled one by one.
_RACK = "static_object.bicycle_rack"
_RACKED = [CLASS_NAMES.index(name) for name in ("bicycle", "motorcycle")]

# Over a longer time, what lies between two places tells no velocity.
_MOST_APART_S = 1.5
_US_PER_S = 1_000_000


class NuscenesFolder:
    """The labelled clouds of a nuScenes folder, with their boxes in the LiDAR's frame.

    Clouds come scene after scene, with their stamps. Their intensities are 0..255; the time, where
    it is wanted, is 0. The frame is the sensor's own: nuScenes' LiDAR looks along y.

    Objects without a point of any LiDAR or radar are left out, as in nuScenes' evaluation, and so
    are those of categories that are no class of its detection task. Bicycles and motorcycles in
    racks are ignored.

    Attributes:
        version: name of the folder of the tables.

    """

    class_names: Sequence[str] = CLASS_NAMES

    def __init__(
        self,
        root: Path,
        version: str | None = None,
        split: Path | None = None,
        channel: str = CHANNEL,
        wanted: Sequence[str] = COLUMNS,
        sweeps: Callable[[Row], bool] = key_frame,
    ) -> None:
        """Read the tables, and list the clouds.

        Args:
            root: the folder that holds `samples` and a folder of tables.
            version: name of the folder of tables, such as `v1.0-mini`; by default the only one.
            split: a text file with the names of the scenes to take; None: all.
            channel: of the LiDAR.
            wanted: the columns of the clouds, the first ones of `points.CHANNELS`.
            sweeps: which of the sweeps are kept in memory; see `nuscenes_tables.read_tables`.

        Raises:
            DataError: there is no such folder, or several, or no labelled cloud; or a file of one
                is missing. Also see `nuscenes_tables.read_tables`.

        """
        self.version = find_version(root) if version is None else version
        folder = root / self.version
        tables = read_tables(folder, channel, (*CATEGORIES, _RACK), split, sweeps)
        self._root, self._wanted = root, tuple(wanted)
        self._tables, self._key_frames = tables, tables.key_frames()
        if not self._key_frames:
            raise DataError(f"{folder} has no key frame of the channel {channel}")
        self._check_files(map(self.key, range(len(self))), "clouds")
        self.description = f"nuscenes {root.name}/{self.version}"

    def __len__(self) -> int:
        """Count the clouds."""
        return len(self._key_frames)

    def key(self, index: int) -> str:
        """Return the path of cloud `index` below the folder, with forward slashes."""
        return self._sweep(index).file

    def read(self, index: int) -> PointCloud:
        """Read cloud `index`; see `FrameSource.read`."""
        return self._cloud(self._sweep(index))

    def labels(self, index: int) -> Labels3D:
        """Return the labels of cloud `index`.

        Raises:
            DataError: an annotation before or after one of them is not there, or not before or
                after it.

        """
        sweep = self._sweep(index)
        seen = [
            one
            for one in self._tables.annotations.of_sample(sweep.sample)
            if one.category in CATEGORIES and one.seen
        ]
        here = _to_sensor(sweep)
        boxes = _boxes(seen, here)
        labels = np.array([CLASS_NAMES.index(CATEGORIES[one.category]) for one in seen], np.int32)
        speeds = np.array([self._velocity(one) for one in seen]).reshape(-1, 3) @ here.matrix.T
        return Labels3D(
            boxes=boxes.astype(np.float32),
            labels=labels,
            ignored=np.isin(labels, _RACKED) & self.scope(index).in_racks(boxes),
            velocities=speeds[:, :2].astype(np.float32),
        )

    def scope(self, index: int) -> Scope:
        """Return what of cloud `index` counts; see `ScopedSource`."""
        sweep = self._sweep(index)
        there = self._tables.annotations.of_sample(sweep.sample)
        racks = [one for one in there if one.category == _RACK]
        return Scope(sweep.mounting.inverse().translation[:2], _boxes(racks, _to_sensor(sweep)))

    def close(self) -> None:
        """Do nothing: no file stays open."""

    def _sweep(self, index: int) -> Sweep:
        """Return the sweep of cloud `index`."""
        return self._tables.sweeps[self._key_frames[index]]

    def _cloud(self, sweep: Sweep) -> PointCloud:
        """Read a single sweep; see `FrameSource.read`."""
        held = read_cloud(self._root / sweep.file, FILE_COLUMNS)
        return PointCloud(
            arrange(held, FILE_COLUMNS, self._wanted),
            stamp_ns=sweep.stamp_ns,
            frame_id=sweep.frame_id,
            key=sweep.file,
        )

    def _check_files(self, names: Iterable[str], noun: str) -> None:
        """Refuse a folder in which files are missing; `noun` says what they are.

        Raises:
            DataError: see above; the first files are named.

        """
        there = {name: (self._root / name).is_file() for name in names}
        missing = [name for name, is_there in there.items() if not is_there]
        if missing:
            raise DataError(
                f"{self._root}: {len(missing)} of {len(there)} {noun} are not there: "
                f"{first_names(missing)}; a split can name the scenes that are"
            )

    def _velocity(self, annotation: Annotation) -> Doubles:
        """Return metres a second in the world, float64 [3], NaN where nothing tells them."""
        before, after = self._tables.annotations.neighbours(annotation)
        first, last = before or annotation, after or annotation
        times = [self._tables.stamps_us[one.sample] for one in (first, annotation, last)]
        neighbours = (before is not None) + (after is not None)
        if len(set(times)) <= neighbours or sorted(times) != times:
            raise DataError(
                f"{annotation.where} does not lie between those before and after it in time"
            )
        apart_s = (times[2] - times[0]) / _US_PER_S
        if not neighbours or apart_s > neighbours * _MOST_APART_S:
            return np.full(3, np.nan)
        return (last.place.translation - first.place.translation) / apart_s


def find_version(root: Path) -> str:
    """Return the name of the only folder of tables in `root`.

    Raises:
        DataError: there is none, or several.

    """
    names = versions(root)
    if not names:
        raise DataError(
            f"{root} is not a nuScenes folder: no folder in it holds a sample.json, as v1.0-mini "
            "would"
        )
    if len(names) > 1:
        raise DataError(
            f"{root} holds several versions: {', '.join(names)}; name one (`version` of a source, "
            "--tables of evaluate)"
        )
    return names[0]


def versions(root: Path) -> list[str]:
    """Return the names of the folders in `root` that hold nuScenes' tables."""
    return sorted(path.parent.name for path in root.glob("*/sample.json"))


def _to_sensor(sweep: Sweep) -> Transform:
    """Return the transform from the world to the sensor."""
    return (sweep.pose @ sweep.mounting).inverse()


def _boxes(annotations: Sequence[Annotation], here: Transform) -> Doubles:
    """Return boxes as in `Detections3D`, float64 [n, 7]; objects head along their x axis.

    Args:
        annotations: of the objects.
        here: from the world to the boxes' frame.

    """
    rows = []
    for one in annotations:
        place, (width, length, height) = here @ one.place, one.size
        ahead = place.matrix[:, 0]
        yaw = np.arctan2(ahead[1], ahead[0])
        rows.append((*place.translation, length, width, height, yaw))
    return np.array(rows, np.float64).reshape(-1, 7)
