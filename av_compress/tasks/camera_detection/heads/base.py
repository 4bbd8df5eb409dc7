# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What the families of heads share: their configuration, candidates, cells, class scores."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, ClassVar, Literal, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float32]
Indices: TypeAlias = npt.NDArray[np.intp]
Activation: TypeAlias = Literal["none", "sigmoid"]


@dataclass(frozen=True)
class Border:
    """What lies on both sides of a head: the input's size in pixels, and how many classes."""

    width: int
    height: int
    classes: int

    def cells(self, stride: int) -> tuple[int, int]:
        """Return (columns, rows) of the feature map of this stride."""
        return -(-self.width // stride), -(-self.height // stride)


@dataclass(frozen=True)
class Candidates:
    """Boxes over the score threshold, before suppression.

    Attributes:
        boxes: float32 [n, 4], x1 y1 x2 y2 in pixels of the network's input.
        scores: float32 [n].
        labels: int32 [n].

    """

    boxes: Floats
    scores: Floats
    labels: npt.NDArray[np.int32]

    def take(self, rows: Indices) -> Candidates:
        """Return these rows, in this order."""
        return Candidates(self.boxes[rows], self.scores[rows], self.labels[rows])


@dataclass(frozen=True, kw_only=True)
class HeadConfig:
    """What the configurations of all families have in common.

    Attributes:
        outputs: (role, tensor name or names) as configured; the rest is found by shape.

    """

    type: ClassVar[str]
    outputs: tuple[tuple[str, str | tuple[str, ...]], ...] = ()

    def output_names(self) -> dict[str, str]:
        """Return role -> tensor name, where the roles of a list are `role[0]`, `role[1]` ..."""
        names: dict[str, str] = {}
        for role, name in self.outputs:
            if isinstance(name, str):
                names[role] = name
            else:
                names |= {f"{role}[{index}]": item for index, item in enumerate(name)}
        return names

    @property
    def suppresses(self) -> bool:
        """Whether the model itself drops overlapping boxes."""
        return False

    def to_config(self) -> dict[str, Any]:
        """Return JSON values."""
        return {"type": self.type, **asdict(self), "outputs": dict(self.outputs)}


HeadT = TypeVar("HeadT", bound=HeadConfig)


@lru_cache(maxsize=32)
def cell_grid(border: Border, strides: tuple[int, ...]) -> tuple[Floats, Floats]:
    """Enumerate the cells of all scales: scale after scale, row by row.

    Returns:
        (column, row) of every cell [n, 2], and its stride [n]; both read-only.

    """
    grids, widths = [], []
    for stride in strides:
        columns, rows = border.cells(stride)
        ys, xs = np.mgrid[:rows, :columns]
        grids.append(np.stack([xs, ys], axis=-1).reshape(-1, 2))
        widths.append(np.full(columns * rows, stride))
    cells = np.concatenate(grids).astype(np.float32)
    sizes = np.concatenate(widths).astype(np.float32)
    cells.setflags(write=False)
    sizes.setflags(write=False)
    return cells, sizes


def sigmoid(values: Floats) -> Floats:
    """Compute the logistic function; where exp overflows, 0 is the right value."""
    return np.asarray(1.0 / (1.0 + np.exp(-values)), np.float32)


def activate(values: Floats, activation: Activation) -> Floats:
    """Turn raw scores into probabilities."""
    return sigmoid(values) if activation == "sigmoid" else values


def raw_threshold(score: float, activation: Activation) -> float:
    """Return a bound on raw scores that nothing at or over `score` falls below.

    It lets decoders discard most cells before computing anything.
    """
    if activation == "none":
        return score
    clamped = min(max(score, 1e-7), 1.0 - 1e-7)
    return float(np.log(clamped / (1.0 - clamped))) - 1e-3


def pick_classes(
    scores: Floats, threshold: float, multi_label: bool
) -> tuple[Indices, npt.NDArray[np.int32], Floats]:
    """Choose boxes and classes by score.

    Args:
        scores: [n, classes].
        threshold: the lowest score that counts.
        multi_label: a box yields a candidate for each class over the threshold, not just the best.

    Returns:
        rows of `scores`, labels, and scores of the candidates, in the order of the rows.

    """
    if multi_label:
        rows, labels = np.nonzero(scores >= threshold)
        return rows, labels.astype(np.int32), scores[rows, labels]
    labels = scores.argmax(axis=1)
    best = scores[np.arange(len(scores)), labels]
    rows = np.flatnonzero(best >= threshold)
    return rows, labels[rows].astype(np.int32), best[rows]


def corners(centers: Floats, sizes: Floats) -> Floats:
    """Turn centres and sizes, each [n, 2], into x1 y1 x2 y2 [n, 4]."""
    half = sizes * np.float32(0.5)
    return np.concatenate([centers - half, centers + half], axis=1)


def expected_bins(logits: Floats) -> Floats:
    """Reduce distributions over bins [..., bins] to their expectation in bins [...].

    Softmax, then the mean: the integral of Generalized Focal Loss and of YOLOv8's DFL.
    """
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    steps = np.arange(logits.shape[-1], dtype=np.float32)
    return np.asarray((weights @ steps) / weights.sum(axis=-1), np.float32)
