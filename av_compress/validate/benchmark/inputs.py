# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What models are fed while they are timed: recorded frames, or random numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from av_compress.data.base import FrameSource
from av_compress.errors import DataError, FrameError, UsageError
from av_compress.tasks.base import Task
from av_compress.tensors import Array, Tensors, TensorSpec

# Batches that take turns: what lies in the caches is not always the same frame.
BATCHES = 4


def random_inputs(specs: Sequence[TensorSpec], batch: int) -> list[Tensors]:
    """Make batches of random tensors, as trtexec does: floats in -1..1, integers in 0..127.

    Args:
        specs: a model's inputs.
        batch: extent of each first axis that is open.

    Raises:
        UsageError: an extent other than the first is open.

    """
    random = np.random.default_rng(0)
    return [{spec.name: _random(random, spec, batch) for spec in specs} for _ in range(BATCHES)]


def _random(random: np.random.Generator, spec: TensorSpec, batch: int) -> Array:
    if None in spec.shape[1:]:
        raise UsageError(
            f"input {spec} has open extents beside the batch; give recorded frames with --data"
        )
    shape = [batch if extent is None else extent for extent in spec.shape]
    if spec.dtype.kind == "f":
        return random.uniform(-1, 1, shape).astype(spec.dtype)
    return random.integers(0, 2 if spec.dtype.kind == "b" else 128, shape).astype(spec.dtype)


def recorded_inputs(source: FrameSource, task: Task[Any, Any], batch: int) -> list[Tensors]:
    """Take frames of a source through a task's preprocess, and stack them to batches.

    Args:
        source: the frames; those that cannot be used are left out, and where there are too few
            they are used again.
        task: the bundle's.
        batch: frames in each.

    Raises:
        DataError: no frame can be used.

    """
    found: list[Tensors] = []
    for index in range(len(source)):
        if len(found) == batch * BATCHES:
            break
        try:
            prepared = task.preprocess(source.read(index))
        except FrameError:
            continue
        found.append({name: np.array(array) for name, array in prepared.tensors.items()})
    if not found:
        raise DataError(f"none of the {len(source)} frames of {source.description} can be used")
    return [
        _stacked([found[(start + place) % len(found)] for place in range(batch)])
        for start in range(0, max(len(found), 1), batch)
    ]


def _stacked(frames: Sequence[Tensors]) -> Tensors:
    return {name: np.concatenate([frame[name] for frame in frames]) for name in frames[0]}
