# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Which cells of a head's outputs can hold a candidate, said so that a device can find them too.

A cell is what one row of candidates comes of: a place of a map, an anchor there, a row of boxes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from av_compress.tasks.camera_detection.heads.base import (
    Activation,
    Floats,
    Indices,
    activate,
    raw_threshold,
)
from av_compress.tensors import Array

Shapes: TypeAlias = Mapping[str, tuple[int, ...]]

# What a bound leaves for the rounding of float32 and for the last digits of exp and pow, in which
# no two libraries agree; far more than all of it, and next to nothing in cells.
_SLACK = 0.999
# Below it no relative slack holds, and raw thresholds are clamped.
_LEAST = 1e-6


@dataclass(frozen=True)
class Part:
    """Where a role's tensor has what belongs to a cell; distances are in elements.

    The value of a channel lies at first + group * group_step + cell * cell_step + channel *
    channel_step of an image's tensor.

    Attributes:
        role: whose tensor.
        channels: how many values a cell has.
        cell_step: from a cell to the next.
        channel_step: from a channel to the next.
        first: of the first cell's first channel.
        group_step: from a group to the next; 0 where all groups share the values.

    """

    role: str
    channels: int
    cell_step: int
    channel_step: int
    first: int = 0
    group_step: int = 0


@dataclass(frozen=True)
class Block:
    """Cells that lie alike, such as those of one scale: group after group.

    Attributes:
        cells: of a group.
        parts: their values, one behind the other, are a cell's row.
        groups: how many, such as anchors.

    """

    cells: int
    parts: tuple[Part, ...]
    groups: int = 1

    @property
    def total(self) -> int:
        """Cells of all groups."""
        return self.groups * self.cells

    def locate(self, channel: int) -> tuple[int, int]:
        """Return which part has a channel of the row, and which of its channels that is."""
        for place, part in enumerate(self.parts):
            if channel < part.channels:
                return place, channel
            channel -= part.channels
        raise IndexError(f"a row of {sum(part.channels for part in self.parts)} channels")


def rows_of(role: str, shape: tuple[int, ...]) -> Block:
    """Describe [1, ..., channels]: each cell's values lie together."""
    channels = shape[-1]
    return Block(_product(shape[:-1]), (Part(role, channels, channels, 1),))


def maps_of(role: str, shape: tuple[int, ...], groups: int = 1) -> Block:
    """Describe [1, groups * channels, ...]: each channel's values lie together."""
    channels, cells = shape[1] // groups, _product(shape[2:])
    part = Part(role, channels, 1, cells, group_step=channels * cells)
    return Block(cells, (part,), groups)


def _product(extents: tuple[int, ...]) -> int:
    return int(np.prod(extents, dtype=np.int64))


@dataclass(frozen=True)
class Scoring:
    """How a cell's score is found, and so which cells can have one that counts.

    score = objectness ** powers[0] * class ** powers[1], of activated values; without objectness
    that of the class alone. Powers other than 1 are of values that are not negative.

    Attributes:
        blocks: the cells, numbered block after block; rows of all blocks have the same channels.
        classes: first of the row's class channels, and the one behind the last; of one part.
        objectness: channel of the row; None where there is none.
        activation: what turns objectness and classes into probabilities.
        powers: of objectness and class.

    """

    blocks: tuple[Block, ...]
    classes: tuple[int, int]
    objectness: int | None = None
    activation: Activation = "none"
    powers: tuple[float, float] = (1.0, 1.0)

    @property
    def channels(self) -> int:
        """How many values a row has."""
        return sum(part.channels for part in self.blocks[0].parts)

    @property
    def cells(self) -> int:
        """How many cells an image has."""
        return sum(block.total for block in self.blocks)

    def raw_bound(self, threshold: float) -> float:
        """Return what raw objectness must reach, or the best raw class where there is none."""
        power = 1.0 if self.objectness is None else self.powers[0]
        least = threshold ** (1.0 / power) * _SLACK
        return -np.inf if least < _LEAST else raw_threshold(least, self.activation)

    def score_bound(self, threshold: float) -> float:
        """Return below which score no cell counts."""
        return threshold * _SLACK - 1e-30

    def find(self, outputs: Mapping[str, Array], threshold: float) -> tuple[Indices, Floats]:
        """Find the cells that can hold a candidate, and none that can is left out.

        Args:
            outputs: each role's tensor, float32, of one image.
            threshold: the lowest score that counts.

        Returns:
            the cells' indices [n], ascending, and their rows, float32 [n, channels].

        """
        arrays = {role: np.ascontiguousarray(array) for role, array in outputs.items()}
        indices, rows, begin = [], [], 0
        for block in self.blocks:
            views = [_view(arrays[part.role], part, block) for part in block.parts]
            near = self._near(block, views, self.raw_bound(threshold))
            places = np.divmod(near, block.cells)
            rows.append(np.concatenate([view[places] for view in views], axis=1))
            indices.append(begin + near)
            begin += block.total
        every, values = np.concatenate(indices), np.ascontiguousarray(np.concatenate(rows))
        if self.objectness is None:
            return every, values
        kept = self._over(values, self.score_bound(threshold))
        return every[kept], values[kept]

    def _near(self, block: Block, views: list[Floats], bound: float) -> Indices:
        """Return the block's cells whose objectness, or best class, reaches the bound."""
        if self.objectness is not None:
            place, channel = block.locate(self.objectness)
            values = views[place][..., channel]
        else:
            place, first = block.locate(self.classes[0])
            last = first + self.classes[1] - self.classes[0]
            values = _best(views[place][..., first:last])
        return np.flatnonzero(values >= bound)

    def _over(self, rows: Floats, bound: float) -> Indices:
        """Return the rows whose score is not below the bound; one that is no number is not."""
        objectness = activate(rows[:, self.objectness], self.activation)
        best = activate(_best(rows[:, slice(*self.classes)]), self.activation)
        scores = _raised(objectness, self.powers[0]) * _raised(best, self.powers[1])
        return np.flatnonzero(~(scores < bound))


def _view(tensor: Floats, part: Part, block: Block) -> Floats:
    """Return a part as [groups, cells, channels]; numpy checks that it lies in the tensor."""
    size = tensor.itemsize
    steps = (part.group_step * size, part.cell_step * size, part.channel_step * size)
    shape = (block.groups, block.cells, part.channels)
    view: Floats = np.ndarray(shape, tensor.dtype, tensor, part.first * size, steps)
    return view


def _best(classes: Floats) -> Floats:
    """Return the highest of the last axis; what is no number is passed over."""
    return np.asarray(np.fmax.reduce(classes, axis=-1, initial=-np.inf), np.float32)


def _raised(values: Floats, power: float) -> Floats:
    if power == 1.0:
        return values
    return np.asarray(np.maximum(values, np.float32(0.0)) ** np.float32(power), np.float32)


@dataclass(frozen=True)
class Cells:
    """Cells of one image, chosen by their scores.

    Attributes:
        form: the layout of the outputs that they come of.
        indices: intp [n], ascending, of all the image's cells.
        rows: float32 [n, channels], C-contiguous: their values as the model returned them.

    """

    form: str
    indices: npt.NDArray[np.intp]
    rows: Floats


@dataclass(frozen=True)
class CellOutputs:
    """Outputs of a model, of which cells can be chosen.

    Attributes:
        form: the layout.
        tensors: role -> name of the output that plays it.
        shapes: role -> its extents for one image.
        scoring: where the cells lie in them, and which can hold a candidate.

    """

    form: str
    tensors: Mapping[str, str]
    shapes: Shapes
    scoring: Scoring
