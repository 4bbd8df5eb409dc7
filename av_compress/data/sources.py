# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Frame sources out of configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from av_compress.data.bag_sources import open_bag
from av_compress.data.base import FrameSource
from av_compress.data.clouds import COLUMNS, CloudFolder
from av_compress.data.coco import CocoSource
from av_compress.data.folder import ImageFolder
from av_compress.data.kitti import KittiFolder
from av_compress.data.nuscenes import CHANNEL, NuscenesFolder, versions
from av_compress.data.nuscenes_sweeps import NuscenesSweeps
from av_compress.errors import ConfigError
from av_compress.tasks.base import FRAME_NOUNS, FrameNeeds, ImageFrame, PointCloud
from av_compress.validation import validate


def open_source(config: Mapping[str, Any], base: Path, needs: FrameNeeds) -> FrameSource:
    """Open a frame source.

    Args:
        config: as `schema/source.schema.json` describes it: `type`, `path`, and what the type
            needs besides.
        base: the folder that relative paths are relative to.
        needs: what frames the task takes.

    Raises:
        ConfigError: a key breaks the schema; key, value and what is allowed are named. Or the
            source has frames of another kind.
        DataError: what the configuration names is not there or cannot be used.

    """
    validate(dict(config), "source", "source")
    kind = config["type"]
    openers = _OPENERS[kind]
    if needs.type not in openers:
        held = " or ".join(f"{FRAME_NOUNS[one]}s" for one in openers)
        fitting = ", ".join(name for name, entry in _OPENERS.items() if needs.type in entry)
        raise ConfigError(
            f"source.type: {kind!r} has {held}, the task takes {needs.noun}s; allowed: {fitting}"
        )
    return openers[needs.type](config, base, needs)


def labelled_type(folder: Path) -> str | None:
    """Tell which type of source of labelled clouds a folder is; None: neither that is known."""
    if (folder / "velodyne").is_dir():
        return "kitti"
    return "nuscenes" if versions(folder) else None


_Opener = Callable[[Mapping[str, Any], Path, FrameNeeds], FrameSource]


def _images(config: Mapping[str, Any], base: Path, needs: FrameNeeds) -> FrameSource:
    return ImageFolder(base / config["path"])


def _coco(config: Mapping[str, Any], base: Path, needs: FrameNeeds) -> FrameSource:
    return CocoSource(base / config["annotations"], base / config["path"])


def _bag(config: Mapping[str, Any], base: Path, needs: FrameNeeds) -> FrameSource:
    return open_bag(base / config["path"], config, needs)


def _kitti(config: Mapping[str, Any], base: Path, needs: FrameNeeds) -> FrameSource:
    _check_single(config, needs)
    split = config.get("split")
    return KittiFolder(
        base / config["path"],
        config.get("view", "whole"),
        None if split is None else base / split,
    )


def _nuscenes(config: Mapping[str, Any], base: Path, needs: FrameNeeds) -> FrameSource:
    split = config.get("split")
    where = (
        base / config["path"],
        config.get("version"),
        None if split is None else base / split,
        config.get("channel", CHANNEL),
    )
    if needs.sweeps.several:
        return NuscenesSweeps(*where, needs.sweeps)
    return NuscenesFolder(*where, needs.columns)


def _clouds(config: Mapping[str, Any], base: Path, needs: FrameNeeds) -> FrameSource:
    _check_single(config, needs)
    return CloudFolder(base / config["path"], config.get("columns", COLUMNS), needs.columns)


def _check_single(config: Mapping[str, Any], needs: FrameNeeds) -> None:
    """Refuse clouds that do not follow one another for a task that wants several sweeps."""
    if needs.sweeps.several:
        raise ConfigError(
            f"source.type: {config['type']!r} holds single sweeps, without stamps and the "
            f"vehicle's motion; the task brings {needs.sweeps.count} together "
            "(task.input.sweeps.count), as the model is served: take a bag (type: bag) that holds "
            "/tf or odometry beside the clouds, or a folder in nuScenes' layout (type: nuscenes)"
        )


# What each type of source can give, and how it is opened for that.
_OPENERS: Mapping[str, Mapping[type[Any], _Opener]] = {
    "images": {ImageFrame: _images},
    "coco": {ImageFrame: _coco},
    "bag": {ImageFrame: _bag, PointCloud: _bag},
    "kitti": {PointCloud: _kitti},
    "nuscenes": {PointCloud: _nuscenes},
    "clouds": {PointCloud: _clouds},
}
