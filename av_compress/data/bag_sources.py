# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What a task takes out of a bag: images, clouds, those of several LiDARs, of several sweeps."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from av_compress.data.bag_clouds import CloudSource, StampedClouds
from av_compress.data.bag_lidars import BagLidars
from av_compress.data.bag_motion import BagMotion, MotionOptions, read_motion
from av_compress.data.bag_sweeps import BagSweeps
from av_compress.data.bags import BagClouds, BagImages, SeveralTopicsError
from av_compress.data.base import RecordedSource
from av_compress.data.keys import Naming, in_recipe
from av_compress.data.merging import MergeOptions
from av_compress.data.points import PointOptions
from av_compress.errors import ConfigError, DataError, DataWarning
from av_compress.tasks.base import FrameNeeds, ImageFrame, PointCloud, Sweeps

_MOTION_KEYS = ("fixed_frame", "odometry")
_MERGE_KEYS = ("frame", "max_apart_s")


def open_bag(
    path: Path, config: Mapping[str, Any], needs: FrameNeeds, named: Naming = in_recipe
) -> RecordedSource:
    """Open what a task takes out of a bag.

    Args:
        path: bag folder, or a single .mcap or .db3 file.
        config: keys of a bag, held to `schema/source.schema.json`: `topic`, by default the bag's
            only one of that kind, or `topics`, and what goes with them.
        needs: what frames the task takes.
        named: what errors call the keys.

    Raises:
        ConfigError: keys that do not go with one another or with the task, or wrong values.
        DataError: see `bags.BagFrames`, `bag_motion.read_motion`, `bag_lidars.BagLidars` and
            `bag_sweeps.BagSweeps`.

    """
    topics = _topics(config, named)
    _check_keys(config, needs, named)
    try:
        if needs.type is ImageFrame:
            return BagImages(path, topics[0])
        return _open_clouds(path, topics, config, needs, named)
    except SeveralTopicsError as error:
        lidars = f", or those of several LiDARs ({named('topics')}, {named('frame')})"
        several = lidars * (needs.type is PointCloud)
        raise DataError(f"{error} ({named('topic')}){several}") from error


def _open_clouds(
    path: Path,
    topics: Sequence[str | None],
    config: Mapping[str, Any],
    needs: FrameNeeds,
    named: Naming,
) -> RecordedSource:
    points = PointOptions(
        channels=len(needs.sweep_columns),
        time_keys=f"{named('fields.time_unit')} or {named('fields.clock')}",
        **config.get("fields", {}),
    )
    motion = MotionOptions(**{key: config[key] for key in _MOTION_KEYS if key in config})
    with ExitStack() as stack:
        # A reader for each: they are read side by side, each from a place of its own.
        lidars = [stack.enter_context(closing(BagClouds(path, one, points))) for one in topics]
        source: RecordedSource = lidars[0]
        if len(topics) > 1 or needs.sweeps.several:
            merge = _merge_options(config, motion, named)
            source = bring_together(path, lidars, needs.sweeps, motion, merge, named)
        stack.pop_all()
    return source


def bring_together(
    path: Path,
    lidars: Sequence[BagClouds],
    sweeps: Sweeps,
    options: MotionOptions,
    merge: MergeOptions | None = None,
    named: Naming = in_recipe,
) -> CloudSource:
    """Merge clouds of several LiDARs, and bring the last sweeps to each, as the node does.

    The bag is read through once for that, for the motion and the clouds' stamps.

    Args:
        path: of the bag.
        lidars: clouds of the bag; of several the first leads.
        sweeps: which are brought together.
        options: what tells the vehicle's motion.
        merge: how clouds of several LiDARs become one; None where there is one LiDAR.
        named: what errors and warnings call the keys of a source.

    Raises:
        DataError: see `open_bag`.

    """
    motion = read_motion(path, [one.topic for one in lidars], options)
    _tell_faults(path, motion)
    stamped = [StampedClouds(one, motion.headers[one.topic]) for one in lidars]
    source: CloudSource = stamped[0]
    if merge is not None:
        source = BagLidars(stamped, replace(merge, ego_box=sweeps.ego_box), motion, named)
    if sweeps.several:
        source = BagSweeps(source, sweeps, motion, options, named)
    return source


def _topics(config: Mapping[str, Any], named: Naming) -> Sequence[str | None]:
    """Return the topics that are read; None: the only one that fits.

    Raises:
        ConfigError: they are not told clearly.

    """
    if "topics" not in config:
        return (config.get("topic"),)
    if "topic" in config:
        raise ConfigError(
            f"{named('topic')}: goes with one topic; {named('topics')} names several already"
        )
    topics: Sequence[str] = config["topics"]
    return topics


def _check_keys(config: Mapping[str, Any], needs: FrameNeeds, named: Naming) -> None:
    """Refuse what says nothing about what is read.

    Raises:
        ConfigError: see above.

    """
    clouds, several = needs.type is PointCloud, "topics" in config
    for key in ("topics", "fields", *_MERGE_KEYS):
        if key in config and not clouds:
            raise ConfigError(f"{named(key)}: goes with point clouds, the task takes images")
    for key in _MERGE_KEYS:
        if key in config and not several:
            raise ConfigError(
                f"{named(key)}: goes with the clouds of several LiDARs ({named('topics')})"
            )
    for key in _MOTION_KEYS:
        if key in config and not (several or needs.sweeps.several):
            raise ConfigError(
                f"{named(key)}: goes with clouds of several sweeps (task.input.sweeps.count) or "
                f"of several LiDARs ({named('topics')}), the task takes {needs.noun}s"
                + " of one"
                * clouds
            )
    if needs.sweeps.several and config.get("fixed_frame") == "":
        raise ConfigError(
            f"{named('fixed_frame')}: is empty, but the task brings {needs.sweeps.count} sweeps "
            "together (task.input.sweeps.count): name a frame that stands still, such as odom"
        )


def _merge_options(
    config: Mapping[str, Any], motion: MotionOptions, named: Naming
) -> MergeOptions | None:
    """Return how clouds of several LiDARs become one; None where there is one LiDAR.

    Raises:
        ConfigError: the frame is not named.

    """
    if "topics" not in config:
        return None
    if "frame" not in config:
        raise ConfigError(
            f"{named('frame')}: is missing: clouds of several topics are brought into one frame, "
            "name it, such as base_link"
        )
    given = {"max_apart_s": config["max_apart_s"]} if "max_apart_s" in config else {}
    return MergeOptions(config["frame"], motion.fixed_frame, **given)


def _tell_faults(path: Path, motion: BagMotion) -> None:
    """Tell what of the motion was left out, and where it begins anew."""
    broken, ignored, breaks = motion.broken, motion.ignored, motion.stretches.breaks
    texts = []
    if broken:
        texts.append(f"{len(broken)} transforms are left out, the first since {broken[0]}")
    if ignored:
        texts.append(_first_of(ignored))
    if breaks:
        texts.append(
            f"time begins anew in it where {_first_of(breaks)}; what was recorded before and "
            "after is not brought together"
        )
    for text in texts:
        warnings.warn(f"bag {path.name}: {text}", DataWarning, stacklevel=4)


def _first_of(texts: Sequence[str]) -> str:
    more = len(texts) - 1
    return f"{texts[0]} (and {more} more of the kind)" if more else texts[0]
