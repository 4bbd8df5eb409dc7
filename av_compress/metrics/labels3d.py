# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Labels in space, from a data set's classes to a task's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from av_compress.tasks.base import Labels3D, Visibility

# Class -> classes that look so alike that finding one is no mistake; names in lower case.
KITTI_NEIGHBOURS: Mapping[str, Sequence[str]] = {
    "car": ("van",),
    "pedestrian": ("person_sitting",),
}
_NONE: Mapping[str, Sequence[str]] = {}


def map_labels_3d(
    labels: Labels3D,
    source_names: Sequence[str],
    task_names: Sequence[str],
    neighbours: Mapping[str, Sequence[str]] = _NONE,
) -> Labels3D:
    """Translate labels from a data set's classes to a task's, by name, whatever the letters' case.

    Objects of classes that the task does not know are dropped. One of a neighbouring class becomes
    an ignored one of the class whose neighbour it is, besides what it is itself; the order stays.

    Args:
        labels: of one cloud.
        source_names: label index -> name, of the data set.
        task_names: label index -> name, of the task.
        neighbours: class -> its neighbours, such as `KITTI_NEIGHBOURS`.

    """
    places = {name.lower(): index for index, name in enumerate(task_names)}
    meanings = [_meanings(name.lower(), places, neighbours) for name in source_names]
    rows = [
        (row, place, neighbour)
        for row, label in enumerate(labels.labels.tolist())
        for place, neighbour in meanings[label]
    ]
    table = np.array(rows, np.int64).reshape(-1, 3)
    chosen, mapped, near = table[:, 0], table[:, 1].astype(np.int32), table[:, 2] > 0
    return only(labels, chosen, mapped, labels.ignored[chosen] | near)


def ignore_outside(labels: Labels3D, lower: Sequence[float], upper: Sequence[float]) -> Labels3D:
    """Ignore objects whose centre a task cannot tell: outside of its range.

    Args:
        labels: of one cloud.
        lower: smallest x and y in metres.
        upper: largest x and y in metres; they are outside.

    """
    places = labels.boxes[:, :2]
    inside = ((places >= lower[:2]) & (places < upper[:2])).all(axis=1)
    return replace(labels, ignored=labels.ignored | ~inside)


def only(
    labels: Labels3D,
    rows: npt.NDArray[np.intp],
    classes: npt.NDArray[np.int32],
    ignored: npt.NDArray[np.bool_],
) -> Labels3D:
    """Return some of the labels, with classes and marks of their own."""
    seen = labels.visibility
    if seen is not None:
        seen = Visibility(seen.occlusion[rows], seen.truncation[rows], seen.heights[rows])
    velocities = None if labels.velocities is None else labels.velocities[rows]
    return Labels3D(labels.boxes[rows], classes, ignored, velocities, seen)


def _meanings(
    name: str, places: Mapping[str, int], neighbours: Mapping[str, Sequence[str]]
) -> list[tuple[int, bool]]:
    """Return what a class is to the task: places, and whether as a neighbour."""
    own = [(places[name], False)] if name in places else []
    return own + [
        (place, True) for one, place in places.items() if name in neighbours.get(one, ())
    ]
