# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Engines with their inputs, ready to be timed: as arrays of the host, or where a card reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import cycle

import numpy as np

from av_compress.engines.base import Engine, RunTiming
from av_compress.engines.cuda import DeviceBuffer, Stream, copy_in
from av_compress.engines.tensorrt.engine import TensorRTEngine
from av_compress.tensors import Tensors
from av_compress.validate.benchmark.measure import Runs


class HostRuns:
    """An engine that takes arrays; one run at a time."""

    def __init__(self, engine: Engine, inputs: Sequence[Tensors]) -> None:
        """Take turns with `inputs`."""
        self._engine = engine
        self._inputs = cycle(inputs)

    def once(self) -> RunTiming:
        """See `Runs.once`."""
        return self._engine.run(next(self._inputs)).timing


class DeviceRuns:
    """A plan whose inputs wait in page-locked memory, as trtexec's do; several runs at a time.

    Attributes:
        in_flight: see `OverlappingRuns`.

    """

    def __init__(self, engine: TensorRTEngine, inputs: Sequence[Tensors], batch: int) -> None:
        """Copy `inputs` into page-locked memory.

        Raises:
            EngineError: one does not fit the plan.
            CudaError: there is not enough memory that can be locked.

        """
        self._engine = engine
        self._batch = batch
        self.in_flight = engine.slots
        engine.run(inputs[0])
        self._inputs = cycle([_pinned(engine, tensors) for tensors in inputs])

    def once(self) -> RunTiming:
        """See `Runs.once`."""
        self.begin()
        return self._engine.collect().timing

    def begin(self) -> None:
        """See `OverlappingRuns.begin`."""
        self._engine.submit_on_device(partial(_fill, next(self._inputs)), self._batch)

    def end(self) -> None:
        """See `OverlappingRuns.end`."""
        self._engine.collect()


def make_runs(engine: Engine, inputs: Sequence[Tensors], batch: int) -> Runs:
    """Join an engine and its inputs.

    Args:
        engine: made by this thread.
        inputs: batches, all alike.
        batch: frames in each.

    Raises:
        EngineError: the inputs do not fit.

    """
    if isinstance(engine, TensorRTEngine):
        return DeviceRuns(engine, inputs, batch)
    return HostRuns(engine, inputs)


def _pinned(engine: TensorRTEngine, tensors: Tensors) -> Tensors:
    kept = {}
    for name, array in tensors.items():
        kept[name] = engine.cuda.pinned(array.shape, array.dtype)
        np.copyto(kept[name], array)
    return kept


def _fill(tensors: Tensors, buffers: Mapping[str, DeviceBuffer], stream: Stream) -> None:
    for name, buffer in buffers.items():
        copy_in(stream, buffer, tensors[name])
