# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Several frames through one engine at once: each is prepared where the engine reads it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from av_compress.engines.base import Engine
from av_compress.engines.pipeline import Pipeline, Processed
from av_compress.errors import EngineError, FrameError, ModelError
from av_compress.tasks.base import Task
from av_compress.telemetry.spans import SpanRecorder
from av_compress.tensors import Array, Tensors


class BatchPipeline(Pipeline):
    """A task and an engine that takes several frames at once. Owned by one thread.

    Attributes:
        limit: most frames in one run of the engine; 1 where the model's batch is fixed.

    """

    def __init__(self, task: Task[Any, Any], engine: Engine, max_batch: int) -> None:
        """Join `task` and `engine`, and make room for a whole batch.

        Args:
            task: what the model means.
            engine: its first axes are open, or frames are run one by one; where the first axes of
                inputs count no frames (but a cloud's voxels), each is prepared as large as it is.
            max_batch: most frames that the model was proven with.

        Raises:
            ModelError: the engine's model does not fit the task, or its inputs have open extents
                beside the batch.

        """
        super().__init__(task, engine)
        specs = (*engine.inputs, *engine.outputs)
        # A plan may have been compiled for fewer than the model can take.
        most = min(max_batch, getattr(engine, "max_batch", max_batch))
        is_open = all(spec.shape[:1] == (None,) for spec in specs)
        self.limit = most if is_open else 1
        self._has_room = is_open or all(spec.shape[:1] == (1,) for spec in engine.inputs)
        self._room: Tensors = _room(engine, self.limit) if self._has_room else {}

    def process_all(self, frames: Sequence[Any]) -> list[Processed | FrameError]:
        """Take frames all the way, in as few runs as the limit allows.

        Args:
            frames: any number.

        Returns:
            for each frame what became of it, or why it cannot be used; the others do not suffer.
            The spans are those of all frames together: that is how long each one was on its way.

        Raises:
            EngineError: the model did not run.

        """
        results: list[Processed | FrameError | None] = [None] * len(frames)
        recorder = SpanRecorder()
        found: dict[int, tuple[Any, Any]] = {}
        left = list(range(len(frames)))
        while left:
            waiting: list[tuple[int, Any]] = []
            with recorder.span("preprocess"):
                while left and len(waiting) < self.limit:
                    index = left.pop(0)
                    try:
                        waiting.append((index, self._prepare(frames[index], len(waiting))))
                    except FrameError as error:
                        results[index] = error
            if waiting:
                found.update(self._run(waiting, recorder))
        for index, (result, context) in found.items():
            results[index] = Processed(result, recorder.spans(), context)
        return [result for result in results if result is not None]

    def _prepare(self, frame: Any, place: int) -> Any:
        """Write a frame's tensors into their place in the batch; return its context."""
        if not self._has_room:
            prepared = self.task.preprocess(frame)
            self._room = prepared.tensors
            return prepared.context
        room = {name: array[place : place + 1] for name, array in self._room.items()}
        prepared = self.task.preprocess(frame, room)
        for name, array in prepared.tensors.items():
            if array is not room[name]:
                room[name][...] = array
        return prepared.context

    def _run(
        self, waiting: Sequence[tuple[int, Any]], recorder: SpanRecorder
    ) -> dict[int, tuple[Any, Any]]:
        """Run what waits; return each one's result and context."""
        count = len(waiting)
        room = self._room
        if self._has_room:
            room = {name: array[:count] for name, array in room.items()}
        run = self.engine.run(room)
        self.record(recorder, run)
        with recorder.span("postprocess"):
            return {
                index: (
                    self.task.postprocess(self._part(run.outputs, place, count), context),
                    context,
                )
                for place, (index, context) in enumerate(waiting)
            }

    def _part(self, outputs: Tensors, place: int, count: int) -> Tensors:
        return slice_outputs(outputs, place, count) if self._has_room else outputs


def _room(engine: Engine, limit: int) -> dict[str, Array]:
    open_inputs = [spec for spec in engine.inputs if None in spec.shape[1:]]
    if open_inputs:
        raise ModelError(
            f"input {open_inputs[0]} has open extents beside the batch; build the bundle with "
            "optimize.static_shapes"
        )
    return {
        spec.name: np.empty((limit, *(extent or 1 for extent in spec.shape[1:])), spec.dtype)
        for spec in engine.inputs
    }


def slice_outputs(outputs: Tensors, place: int, count: int) -> dict[str, Array]:
    """Return a frame's part of a batch's outputs.

    Raises:
        EngineError: an output is not that of a batch of `count` frames.

    """
    short = [name for name, array in outputs.items() if array.shape[:1] != (count,)]
    if short:
        raise EngineError(
            f"output {short[0]} is {list(outputs[short[0]].shape)} for a batch of {count} frames"
        )
    return {name: array[place : place + 1] for name, array in outputs.items()}
