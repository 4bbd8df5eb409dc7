# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Where cells lie and which survive, as survivors.cu reads it: its structs, filled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from av_compress.tasks.camera_detection.heads import Scoring
from av_compress.tasks.camera_detection.heads.cells import Block, Part

# Most parts that a row has.
PARTS = 3
# A survivor begins with its cell's index.
INDEX_WORDS = 1

_READABLE = {np.dtype(np.float32), np.dtype(np.float16)}


def _fields(names: str, kind: type[np.generic]) -> list[tuple[str, type[np.generic]]]:
    return [(name, kind) for name in names.split()]


_PART = np.dtype(
    _fields("half channels first group_step cell_step channel_step image_step", np.int32)
)
_BLOCK = np.dtype(
    [
        *_fields("begin cells total parts width class_part class_first classes", np.int32),
        *_fields("objectness_part objectness_channel sigmoid", np.int32),
        *_fields("raw_bound score_bound objectness_power class_power", np.float32),
        ("part", _PART, (PARTS,)),
    ]
)


@dataclass(frozen=True)
class Source:
    """An output as the kernels read it.

    Attributes:
        name: of the tensor.
        elements: of one image.
        dtype: of an element.

    """

    name: str
    elements: int
    dtype: np.dtype[Any]

    @property
    def readable(self) -> bool:
        """Whether the kernels can: the type, and steps that 32 bits hold."""
        return self.dtype in _READABLE and self.elements < 2**31

    def nbytes(self, batch: int) -> int:
        """Return how long it is for `batch` images."""
        return batch * self.elements * self.dtype.itemsize


def make_table(
    scoring: Scoring, sources: Mapping[str, Source], threshold: float
) -> np.ndarray[Any, Any]:
    """Write the blocks down, one after the other.

    Args:
        scoring: the blocks, and how a score is found.
        sources: role -> output.
        threshold: the lowest score that counts.

    """
    rows, begin = [], 0
    for block in scoring.blocks:
        shape = begin, block.cells, block.total, len(block.parts), INDEX_WORDS + scoring.channels
        parts = [_part(part, sources[part.role]) for part in block.parts]
        parts += [(0,) * len(_PART.names or ())] * (PARTS - len(parts))
        rows.append((*shape, *_rule(scoring, block, threshold), parts))
        begin += block.total
    return np.array(rows, _BLOCK)


def _rule(scoring: Scoring, block: Block, threshold: float) -> tuple[float, ...]:
    """Return the fields from class_part to class_power."""
    first, last = scoring.classes
    objectness = scoring.objectness
    return (
        *block.locate(first),
        last - first,
        *((-1, -1) if objectness is None else block.locate(objectness)),
        scoring.activation == "sigmoid",
        scoring.raw_bound(threshold),
        scoring.score_bound(threshold),
        *scoring.powers,
    )


def _part(part: Part, source: Source) -> tuple[int, ...]:
    return (
        source.dtype == np.float16,
        part.channels,
        part.first,
        part.group_step,
        part.cell_step,
        part.channel_step,
        source.elements,
    )
