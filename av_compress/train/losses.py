# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Which cells answer for which object, and what their answers cost."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

# Longest side in pixels of the network's input up to which an object belongs to each stride.
LEVEL_SIDES = ((8.0, 0.0, 32.0), (16.0, 32.0, 80.0), (32.0, 80.0, 1e9))
# Cells within this many strides of an object's centre answer for it.
CENTER_RADIUS = 1.5


def assign(boxes: Tensor, grid: Tensor) -> tuple[Tensor, Tensor]:
    """Assign cells to the objects of one image by size and centre.

    Source: centre sampling of Tian et al., FCOS, 2019, section 3.2.

    Args:
        boxes: [objects, 4], x1 y1 x2 y2 in pixels of the network's input.
        grid: [cells, 3], column, row and stride.

    Returns:
        indices of the cells that answer, and of the object each answers for; where several want
        a cell, the smallest gets it.

    """
    stride = grid[:, 2]
    center = (grid[:, :2] + 0.5) * stride[:, None]
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    size = boxes[:, 2:] - boxes[:, :2]
    near = (center[:, None] - middle[None]).abs().amax(2) < CENTER_RADIUS * stride[:, None]
    side = size.amax(1)
    level = torch.zeros(len(grid), len(boxes), dtype=torch.bool)
    for wanted, low, high in LEVEL_SIDES:
        level |= (stride == wanted)[:, None] & ((side > low) & (side <= high))[None]
    inside = near & level
    area = torch.where(inside, size.prod(1)[None], torch.inf)
    best, owner = area.min(1)
    cells = torch.nonzero(best < torch.inf).flatten()
    return cells, owner[cells]


def decode(rows: Tensor, grid: Tensor) -> Tensor:
    """Return boxes [n, 4] of rows [n, >= 4] at cells `grid` [n, 3]."""
    stride = grid[:, 2:]
    middle = (rows[:, :2] + grid[:, :2]) * stride
    half = rows[:, 2:4].clamp(max=6).exp() * stride / 2
    return torch.cat([middle - half, middle + half], 1)


def overlap(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Return IoU and generalised IoU of paired boxes (Rezatofighi et al., 2019)."""
    low, high = torch.max(first[:, :2], second[:, :2]), torch.min(first[:, 2:], second[:, 2:])
    both = (high - low).clamp(min=0).prod(1)
    areas = [(box[:, 2:] - box[:, :2]).clamp(min=0).prod(1) for box in (first, second)]
    union = areas[0] + areas[1] - both
    hull = (torch.max(first[:, 2:], second[:, 2:]) - torch.min(first[:, :2], second[:, :2])).prod(
        1
    )
    iou = both / union.clamp(min=1e-6)
    return iou, iou - (hull - union) / hull.clamp(min=1e-6)


def detection_loss(
    rows: Tensor, boxes: list[Tensor], labels: list[Tensor], grid: Tensor
) -> Tensor:
    """Return the loss of a batch: boxes by generalised IoU, objectness and classes by BCE.

    Args:
        rows: [n, cells, 5 + classes], scores as logits.
        boxes: per image, [objects, 4].
        labels: per image, [objects].
        grid: see `assign`.

    """
    objectness = torch.zeros(rows.shape[:2])
    box_loss, class_loss, count = rows.sum() * 0.0, rows.sum() * 0.0, 0
    for image, (truth, classes) in enumerate(zip(boxes, labels)):
        if len(truth) == 0:
            continue
        cells, owner = assign(truth, grid)
        if len(cells) == 0:
            continue
        answers = rows[image, cells]
        iou, giou = overlap(decode(answers, grid[cells]), truth[owner])
        wanted = functional.one_hot(classes[owner], answers.shape[1] - 5).float()
        box_loss = box_loss + (1 - giou).sum()
        class_loss = class_loss + functional.binary_cross_entropy_with_logits(
            answers[:, 5:], wanted, reduction="sum"
        )
        # The score of a box tells how well it fits.
        objectness[image, cells] = iou.detach().clamp(min=0)
        count += len(cells)
    found = functional.binary_cross_entropy_with_logits(rows[..., 4], objectness, reduction="sum")
    return (5.0 * box_loss + class_loss + found) / max(count, 1)
