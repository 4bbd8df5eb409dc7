# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The one path of every frame: preprocess, run, postprocess."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from av_compress.engines.base import Engine, RunResult
from av_compress.errors import FrameError
from av_compress.tasks.base import Task
from av_compress.telemetry.spans import SpanRecorder

# Where frames are prepared for the model.
Where: TypeAlias = Literal["auto", "device", "host"]


@dataclass(frozen=True)
class Processed:
    """What became of one frame.

    Attributes:
        result: the task's result.
        spans: span name -> nanoseconds, for preprocess, h2d, execute, d2h and postprocess.
        context: the task's, see `Prepared`.

    """

    result: Any
    spans: dict[str, int]
    context: Any = None


class Pipeline:
    """A task and the engine that runs its model. Owned by one thread.

    Attributes:
        task: what the model means.
        engine: runs it.
        description: what runs where, in a few words, for logs and diagnostics.

    """

    def __init__(self, task: Task[Any, Any], engine: Engine) -> None:
        """Join `task` and `engine`.

        Raises:
            ModelError: the engine's model does not fit the task.

        """
        task.check_model(engine.inputs, engine.outputs)
        self.task = task
        self.engine = engine
        self.description = engine.description

    def process(self, frame: Any) -> Processed:
        """Take one frame all the way.

        Raises:
            FrameError: the frame cannot be used.
            EngineError: the model did not run.

        """
        recorder = SpanRecorder()
        with recorder.span("preprocess"):
            prepared = self.task.preprocess(frame)
        run = self.engine.run(prepared.tensors)
        self.record(recorder, run)
        with recorder.span("postprocess"):
            result = self.task.postprocess(run.outputs, prepared.context)
        return Processed(result, recorder.spans(), prepared.context)

    def process_all(self, frames: Sequence[Any]) -> list[Processed | FrameError]:
        """Take frames all the way, one after the other.

        Returns:
            for each frame what became of it, or why it cannot be used.

        Raises:
            EngineError: the model did not run.

        """
        results: list[Processed | FrameError] = []
        for frame in frames:
            try:
                results.append(self.process(frame))
            except FrameError as error:
                results.append(error)
        return results

    @property
    def takes_raw(self) -> bool:
        """Whether frames may come as messages hold them, see `tasks.base.RawFrame`."""
        return False

    @staticmethod
    def record(recorder: SpanRecorder, run: RunResult) -> None:
        """Add a run's times to a frame's."""
        recorder.add("h2d", run.timing.h2d_ns)
        recorder.add("execute", run.timing.execute_ns)
        recorder.add("d2h", run.timing.d2h_ns)

    def close(self) -> None:
        """Free the engine."""
        self.engine.close()
