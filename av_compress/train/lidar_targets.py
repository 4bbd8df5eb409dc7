# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What a centre head should answer, and what its answers cost.

Source: Yin et al., Center-based 3D Object Detection and Tracking, 2021, section 4; the heatmap's
loss is that of Zhou et al., Objects as Points, 2019, section 3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from av_compress.tasks.base import Labels3D
from av_compress.tasks.lidar_detection.grid import Grid
from av_compress.train.lidar_network import BOX_MAPS

Floats = npt.NDArray[np.float32]

# The bump around a centre reaches so many cells; CenterPoint's smallest, of (2 r + 1) / 6.
RADIUS = 2
_SIGMA = (2 * RADIUS + 1) / 6
# Loss of the box maps beside that of the heatmap.
_BOX_WEIGHT = 1.0


@dataclass(frozen=True)
class Targets:
    """What the maps of one cloud should be.

    Attributes:
        heatmap: float32 [classes, h, w], 1 at centres, with a bump around.
        counts: bool [classes, h, w], false around ignored objects: nothing is learnt there.
        cells: int64 [objects, 2], row and column of each centre.
        boxes: float32 [objects, 8], the channels of `BOX_MAPS` in order.

    """

    heatmap: Floats
    counts: npt.NDArray[np.bool_]
    cells: npt.NDArray[np.int64]
    boxes: Floats


def make_targets(labels: Labels3D, grid: Grid, stride: int, classes: int) -> Targets:
    """Make the targets of a cloud.

    Args:
        labels: in the task's classes; objects whose centre lies outside of the range are left out.
        grid: of the input.
        stride: of the maps, in its cells.
        classes: how many.

    """
    _, rows, columns = (-(-extent // stride) for extent in grid.shape)
    size = np.array(grid.size[:2]) * stride
    places = (labels.boxes[:, :2].astype(np.float64) - grid.lower[:2]) / size
    cells = np.floor(places).astype(np.int64)
    inside = ((cells >= 0) & (cells < (columns, rows))).all(axis=1)
    heatmap = np.zeros((classes, rows, columns), np.float32)
    counts = np.ones((classes, rows, columns), np.bool_)
    for row in np.flatnonzero(inside):
        column, line = cells[row].tolist()
        window, bump = _bump(line, column, (rows, columns))
        label = labels.labels[row]
        if labels.ignored[row]:
            counts[label][window] = False
        else:
            heatmap[label][window] = np.maximum(heatmap[label][window], bump)
    found = inside & ~labels.ignored
    boxes = labels.boxes[found]
    yaw = boxes[:, 6:]
    parts = [places[found] - cells[found], boxes[:, 2:3], np.log(boxes[:, 3:6])]
    wanted = np.hstack([*parts, np.sin(yaw), np.cos(yaw)]).astype(np.float32)
    # What is ignored hides no centre of another object.
    return Targets(heatmap, counts | (heatmap == 1), cells[found][:, ::-1].copy(), wanted)


def _bump(row: int, column: int, shape: tuple[int, int]) -> tuple[tuple[slice, slice], Floats]:
    """Return the window around a cell that lies in the map, and a Gaussian in it."""
    window = (
        slice(max(row - RADIUS, 0), min(row + RADIUS + 1, shape[0])),
        slice(max(column - RADIUS, 0), min(column + RADIUS + 1, shape[1])),
    )
    y, x = np.ogrid[window]
    squares = (y - row) ** 2 + (x - column) ** 2
    return window, np.exp(-squares / (2 * _SIGMA**2)).astype(np.float32)


def center_loss(maps: Mapping[str, Tensor], targets: Sequence[Targets]) -> Tensor:
    """Return the loss of a batch: focal loss of the heatmap, absolute errors of the boxes.

    Args:
        maps: heatmap logits and the maps of `BOX_MAPS`, each [clouds, channels, h, w].
        targets: of each cloud.

    """
    truth = torch.from_numpy(np.stack([one.heatmap for one in targets]))
    counts = torch.from_numpy(np.stack([one.counts for one in targets]))
    objects = max(1, sum(len(one.cells) for one in targets))
    answers = torch.cat([maps[name] for name in BOX_MAPS], 1)
    box_loss = answers.sum() * 0.0
    for number, one in enumerate(targets):
        row, column = torch.from_numpy(one.cells).T
        told = answers[number][:, row, column].T
        box_loss = box_loss + (told - torch.from_numpy(one.boxes)).abs().sum()
    heat = (_focal(maps["heatmap"], truth) * counts).sum()
    return (heat + _BOX_WEIGHT * box_loss) / objects


def _focal(logits: Tensor, truth: Tensor) -> Tensor:
    """Return the penalty-reduced focal loss of every cell, alpha 2 and beta 4."""
    score = logits.sigmoid()
    right = (1 - score) ** 2 * functional.softplus(-logits)
    wrong = (1 - truth) ** 4 * score**2 * functional.softplus(logits)
    return torch.where(truth == 1, right, wrong)
