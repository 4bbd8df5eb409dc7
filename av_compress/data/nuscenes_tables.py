# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The tables of a folder in nuScenes' layout: what one LiDAR saw, from where, and what was there.

Source: nuScenes' schema (docs/schema_nuscenes.md of nuscenes-devkit 1.2).
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from av_compress.data.json_tables import Row, read_table
from av_compress.data.names import read_split
from av_compress.data.nuscenes_records import AnnotationTable, Places, SweepTable
from av_compress.data.transforms import Transform
from av_compress.errors import DataError


@dataclass(frozen=True)
class Tables:
    """What the tables tell of the scenes that are taken.

    Attributes:
        scenes: token of a sample -> name of its scene.
        stamps_us: token of a sample -> its time in microseconds since the epoch.
        sweeps: of the LiDAR.
        annotations: of the categories that are taken.

    """

    scenes: Mapping[str, str]
    stamps_us: Mapping[str, int]
    sweeps: SweepTable
    annotations: AnnotationTable

    def key_frames(self) -> list[int]:
        """Return the numbers of labelled sweeps, scene after scene by name, in order of time."""
        return self.sweeps.key_frames(self.scenes)


def read_tables(
    folder: Path,
    channel: str,
    categories: Sequence[str],
    split: Path | None,
    wanted: Callable[[Row], bool],
) -> Tables:
    """Read the tables, of which only what is needed stays in memory.

    Args:
        folder: of the tables, such as `v1.0-mini`.
        channel: of the LiDAR.
        categories: whose annotations are taken.
        split: a text file with the names of the scenes to take; None: all.
        wanted: tells of a record of the LiDAR's sample_data whether it is taken.

    Raises:
        DataError: a table is missing or damaged, a record is, or one that it names is not there;
            file and record are named. Or `split` cannot be used, or no sensor has that channel.

    """
    scenes, stamps_us = _samples(folder, split)
    numbers = {token: number for number, token in enumerate(stamps_us)}
    sweeps = SweepTable(folder / "sample_data.json", channel, numbers)
    annotations = AnnotationTable(folder / "sample_annotation.json", categories, numbers)
    _read_sweeps(folder, channel, scenes, stamps_us, wanted, sweeps)
    _read_annotations(folder, categories, scenes, stamps_us, annotations)
    return Tables(scenes, stamps_us, sweeps, annotations)


def any_sweep(row: Row) -> bool:
    """Take every sweep."""
    row.flag("is_key_frame")
    return True


def key_frame(row: Row) -> bool:
    """Take labelled sweeps alone."""
    return row.flag("is_key_frame")


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


def _read_sweeps(
    folder: Path,
    channel: str,
    scenes: Mapping[str, str],
    samples: Mapping[str, int],
    wanted: Callable[[Row], bool],
    sweeps: SweepTable,
) -> None:
    """Fill `sweeps`."""
    mountings = _mountings(folder, channel)
    ours = {token: one for token, one in mountings.items() if one is not None}
    numbers = {token: number for number, token in enumerate(ours)}
    poses: dict[str, int] = {}
    for row in read_table(folder, "sample_data"):
        if row.of("calibrated_sensor_token", mountings, "calibrated_sensor") is None:
            continue
        row.of("sample_token", samples, "sample")
        if row.text("sample_token") in scenes and wanted(row):
            pose = poses.setdefault(row.text("ego_pose_token"), len(poses))
            sweeps.add(row, numbers[row.text("calibrated_sensor_token")], pose)
    sweeps.seal(tuple(ours.values()), _poses(folder, poses))


def _poses(folder: Path, wanted: Mapping[str, int]) -> Places:
    """Return the vehicle's poses by the numbers of their tokens."""
    places, order = Places(), array("i", [-1]) * len(wanted)
    for row in read_table(folder, "ego_pose"):
        number = wanted.get(row.text("token"))
        if number is not None:
            order[number] = len(places)
            places.append(row.transform())
    missing = {token: None for token, number in wanted.items() if order[number] < 0}
    if missing:
        # Read once more for the record that names it: to keep them all would cost more.
        known = {token: None for token in wanted if token not in missing}
        for row in read_table(folder, "sample_data"):
            if row.content.get("ego_pose_token") in missing:
                row.of("ego_pose_token", known, "ego_pose")
    return places.arranged(order)


def _read_annotations(
    folder: Path,
    categories: Collection[str],
    scenes: Mapping[str, str],
    samples: Mapping[str, int],
    annotations: AnnotationTable,
) -> None:
    """Fill `annotations`."""
    names = {row.text("token"): row.text("name") for row in read_table(folder, "category")}
    instances = {
        row.text("token"): row.of("category_token", names, "category")
        for row in read_table(folder, "instance")
    }
    for row in read_table(folder, "sample_annotation"):
        row.of("sample_token", samples, "sample")
        category = row.of("instance_token", instances, "instance")
        if category in categories and row.text("sample_token") in scenes:
            annotations.add(row, category)
    annotations.seal()
