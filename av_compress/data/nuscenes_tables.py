# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The tables of a folder in nuScenes' layout: what one LiDAR saw, from where, and what was there.

Source: nuScenes' schema (docs/schema_nuscenes.md of nuscenes-devkit 1.2).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from av_compress.data.json_tables import Row, read_table
from av_compress.data.names import read_split
from av_compress.data.transforms import Transform
from av_compress.errors import DataError

_NS_PER_US = 1000


@dataclass(frozen=True)
class Sweep:
    """A record of sample_data: one sweep of the LiDAR.

    Attributes:
        sample: token of the sample that it is of, or the nearest to.
        previous: token of the sweep before; empty of a scene's first.
        file: of the points, relative to the data set's folder.
        frame_id: name of the sensor's frame, which is its channel.
        stamp_us: in microseconds since the epoch.
        is_key_frame: whether it is labelled.
        mounting: from the sensor to the vehicle.
        pose: from the vehicle to the world.

    """

    sample: str
    previous: str
    file: str
    frame_id: str
    stamp_us: int
    is_key_frame: bool
    mounting: Transform
    pose: Transform

    @property
    def stamp_ns(self) -> int:
        """In nanoseconds since the epoch."""
        return self.stamp_us * _NS_PER_US


@dataclass(frozen=True)
class Annotation:
    """A record of sample_annotation: an object in one sample, in the world.

    Attributes:
        where: file and record, for messages.
        sample: token of the sample.
        category: such as `vehicle.car`.
        place: of the object, whose x axis is its heading.
        size: width, length and height in metres.
        points: points of LiDARs and radars in it.
        previous: token of the same object's annotation before; empty where there is none.
        next: likewise.

    """

    where: str
    sample: str
    category: str
    place: Transform
    size: Sequence[float]
    points: int
    previous: str
    next: str


@dataclass(frozen=True)
class Tables:
    """What the tables tell of the scenes that are taken.

    Attributes:
        folder: of the tables.
        scenes: token of a sample -> name of its scene.
        stamps_us: token of a sample -> its time in microseconds since the epoch.
        sweeps: token -> sweep of the LiDAR.
        annotations: token -> annotation.

    """

    folder: Path
    scenes: Mapping[str, str]
    stamps_us: Mapping[str, int]
    sweeps: Mapping[str, Sweep]
    annotations: Mapping[str, Annotation]

    def key_frames(self) -> list[Sweep]:
        """Return the labelled sweeps, scene after scene by name, each in the order of time."""
        found = [sweep for sweep in self.sweeps.values() if sweep.is_key_frame]
        return sorted(found, key=lambda sweep: (self.scenes[sweep.sample], sweep.stamp_us))

    def before(self, sweep: Sweep) -> Iterator[Sweep]:
        """Yield the sweeps before one, the newest first, up to the scene's first.

        Raises:
            DataError: one is not in the table, or is not older.

        """
        while sweep.previous:
            earlier = self.sweeps.get(sweep.previous)
            if earlier is None or earlier.stamp_us >= sweep.stamp_us:
                fault = "is not in the table" if earlier is None else "is not older"
                raise DataError(
                    f"{self.folder / 'sample_data.json'}: the sweep before {sweep.file}, "
                    f"{sweep.previous!r}, {fault}"
                )
            yield earlier
            sweep = earlier


def read_tables(
    folder: Path, channel: str, categories: Collection[str], split: Path | None
) -> Tables:
    """Read the tables, of which only what is needed stays in memory.

    Args:
        folder: of the tables, such as `v1.0-mini`.
        channel: of the LiDAR.
        categories: whose annotations are taken.
        split: a text file with the names of the scenes to take; None: all.

    Raises:
        DataError: a table is missing or damaged, a record is, or one that it names is not there;
            file and record are named. Or `split` cannot be used, or no sensor has that channel.

    """
    scenes, stamps_us = _samples(folder, split)
    return Tables(
        folder,
        scenes,
        stamps_us,
        _sweeps(folder, channel, scenes, stamps_us),
        _annotations(folder, categories, scenes, stamps_us),
    )


def _samples(folder: Path, split: Path | None) -> tuple[dict[str, str], dict[str, int]]:
    """Return scenes of the samples that are taken, and times of all."""
    names = {row.text("token"): row.text("name") for row in read_table(folder, "scene")}
    known = names.values()
    taken = set(known if split is None else read_split(split, known, "scene", folder))
    scenes, stamps_us = {}, {}
    for row in read_table(folder, "sample"):
        token, scene = row.text("token"), row.of("scene_token", names, "scene")
        stamps_us[token] = row.whole("timestamp")
        if scene in taken:
            scenes[token] = scene
    return scenes, stamps_us


def _mountings(folder: Path, channel: str) -> dict[str, Transform | None]:
    """Return how the LiDAR was mounted, by the token of the calibration; None: another sensor."""
    channels = {row.text("token"): row.text("channel") for row in read_table(folder, "sensor")}
    if channel not in channels.values():
        raise DataError(
            f"{folder / 'sensor.json'} has no channel {channel!r}; "
            f"it has {', '.join(sorted(set(channels.values()))) or 'none'}"
        )
    return {
        row.text("token"): row.transform()
        if row.of("sensor_token", channels, "sensor") == channel
        else None
        for row in read_table(folder, "calibrated_sensor")
    }


def _sweeps(
    folder: Path, channel: str, scenes: Mapping[str, str], samples: Mapping[str, int]
) -> dict[str, Sweep]:
    mountings = _mountings(folder, channel)
    rows: list[tuple[Row, Transform]] = []
    for row in read_table(folder, "sample_data"):
        mounting = row.of("calibrated_sensor_token", mountings, "calibrated_sensor")
        if mounting is None:
            continue
        row.of("sample_token", samples, "sample")
        if row.text("sample_token") in scenes:
            rows.append((row, mounting))
    wanted = {row.text("ego_pose_token") for row, _ in rows}
    poses = {
        token: row.transform()
        for row in read_table(folder, "ego_pose")
        if (token := row.text("token")) in wanted
    }
    return {
        row.text("token"): Sweep(
            sample=row.text("sample_token"),
            previous=row.text("prev"),
            file=row.text("filename"),
            frame_id=channel,
            stamp_us=row.whole("timestamp"),
            is_key_frame=row.flag("is_key_frame"),
            mounting=mounting,
            pose=row.of("ego_pose_token", poses, "ego_pose"),
        )
        for row, mounting in rows
    }


def _annotations(
    folder: Path,
    categories: Collection[str],
    scenes: Mapping[str, str],
    samples: Mapping[str, int],
) -> dict[str, Annotation]:
    names = {row.text("token"): row.text("name") for row in read_table(folder, "category")}
    instances = {
        row.text("token"): row.of("category_token", names, "category")
        for row in read_table(folder, "instance")
    }
    found: dict[str, Annotation] = {}
    for row in read_table(folder, "sample_annotation"):
        row.of("sample_token", samples, "sample")
        category = row.of("instance_token", instances, "instance")
        if category in categories and row.text("sample_token") in scenes:
            found[row.text("token")] = _annotation(row, category)
    return found


def _annotation(row: Row, category: str) -> Annotation:
    size = row.numbers("size", 3)
    if min(size) <= 0:
        raise DataError(f"{row.where} has a size of {size}; metres over 0 are needed")
    return Annotation(
        where=row.where,
        sample=row.text("sample_token"),
        category=category,
        place=row.transform(),
        size=size,
        points=row.whole("num_lidar_pts") + row.whole("num_radar_pts"),
        previous=row.text("prev"),
        next=row.text("next"),
    )
