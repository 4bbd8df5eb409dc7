# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Objects as cells of a heatmap: which cells, and what other maps say there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from av_compress.tasks.camera_detection.heads.base import Activation, activate, raw_threshold
from av_compress.tasks.camera_detection.heads.centernet import is_peak
from av_compress.tasks.lidar_detection.grid import Floats
from av_compress.tasks.lidar_detection.heads.base import (
    Candidates,
    Doubles,
    Indices,
    Plane,
    YawForm,
    ZForm,
    make_boxes,
)
from av_compress.tensors import Array


@dataclass(frozen=True)
class Peaks:
    """Cells of a heatmap that hold an object.

    Attributes:
        classes: [n], indices of the heatmap's classes.
        rows: [n].
        columns: [n].
        scores: float32 [n].

    """

    classes: Indices
    rows: Indices
    columns: Indices
    scores: Floats

    def read(self, maps: Array) -> Doubles:
        """Return what maps [1, c, h, w] hold there, as float64 [c, n]."""
        return np.asarray(maps[0][:, self.rows, self.columns], np.float64)


def find_peaks(heatmap: Floats, threshold: float, activation: Activation, local: bool) -> Peaks:
    """Find the cells of at least a score.

    Args:
        heatmap: float32 [classes, h, w].
        threshold: the lowest score that counts.
        activation: what turns the heatmap into scores.
        local: for each class the cells that none of the 8 around exceeds (Zhou et al., Objects as
            Points, 2019, section 4); else every cell with the best of its classes, as in
            CenterPoint's reference implementation.

    """
    found: tuple[npt.NDArray[np.intp], ...]
    found = np.nonzero(heatmap >= raw_threshold(threshold, activation))
    classes, rows, columns = found
    kept = (
        is_peak(heatmap, classes, rows, columns)
        if local
        else heatmap[:, rows, columns].argmax(axis=0) == classes
    )
    scores = activate(heatmap[classes, rows, columns], activation)
    kept = kept & (scores >= threshold)
    return Peaks(classes[kept], rows[kept], columns[kept], scores[kept])


def boxes_of(
    peaks: Peaks,
    values: Mapping[str, Doubles],
    plane: Plane,
    stride: int,
    forms: tuple[ZForm, YawForm],
    labels: npt.NDArray[np.int32],
) -> Candidates:
    """Make candidates of what the maps say at the peaks.

    Args:
        peaks: cells that hold an object.
        values: `dx` and `dy`, the centre's place in the cell along columns and rows, in cells;
            `z`, `length`, `width` and `height` in metres; `sin` and `cos` of the yaw (their length
            does not matter); and, perhaps, `vx` and `vy` in metres a second. Each float64 [n].
        plane: of the maps.
        stride: of the maps.
        forms: of z and of the yaw, see `make_boxes`.
        labels: of the heatmap's classes.

    """
    x, y = plane.metres(peaks.rows + values["dy"], peaks.columns + values["dx"], stride)
    yaw = np.arctan2(values["sin"], values["cos"])
    boxes = make_boxes({**values, "x": x, "y": y, "yaw": yaw}, *forms)
    speeds = (
        np.stack([values["vx"], values["vy"]], axis=1).astype(np.float32)
        if "vx" in values
        else None
    )
    return Candidates(boxes, peaks.scores, labels[peaks.classes], speeds)
