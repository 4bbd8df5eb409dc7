# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The path of a frame that stays on the device: raw message in, what was found out.

The task decides what is computed, here as everywhere; the stages compute the same bits beside the
model instead of on the host. A frame that they cannot take goes the usual way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from av_compress.engines.base import RunResult
from av_compress.engines.batch import BatchPipeline
from av_compress.engines.cuda import DeviceBuffer, Stream
from av_compress.engines.pipeline import Processed
from av_compress.engines.tensorrt.engine import TensorRTEngine
from av_compress.errors import FrameError
from av_compress.tasks.base import Task, decoded
from av_compress.telemetry.spans import SpanRecorder


class PreprocessStage(Protocol):
    """A task's preprocess on the device."""

    def takes(self, frame: Any) -> bool:
        """Tell whether it can prepare this frame."""
        ...

    def launch(
        self, frame: Any, inputs: Mapping[str, DeviceBuffer], place: int, stream: Stream
    ) -> Any:
        """Put on the stream what makes a frame's part of the model's inputs.

        Args:
            frame: one that it takes; may be changed as soon as this returns.
            inputs: input name -> buffer of the whole batch.
            place: of the frame in the batch.
            stream: where it runs.

        Returns:
            what `finish` needs.

        Raises:
            CudaError: there is no room, or the driver refuses.

        """
        ...

    def finish(self, begun: Any) -> Any:
        """Return the context that postprocess needs, once the frame has been run."""
        ...


class SurvivorsStage(Protocol):
    """The part of a task's postprocess that leaves only what can matter."""

    def launch(self, outputs: Mapping[str, DeviceBuffer], batch: int, stream: Stream) -> None:
        """Put on the stream what finds the survivors of each frame and fetches them."""
        ...

    def collect(self) -> Sequence[Any | None]:
        """Return the survivors of each frame; None where there was no room for all."""
        ...

    def postprocess(self, survivors: Any, context: Any) -> Any:
        """Return the task's result."""
        ...


@dataclass(frozen=True)
class Stages:
    """What of a task runs on the device.

    Attributes:
        preprocess: makes the model's inputs.
        survivors: leaves of its outputs what can matter; None: they are fetched whole.

    """

    preprocess: PreprocessStage
    survivors: SurvivorsStage | None


class DevicePipeline(BatchPipeline):
    """A task whose preprocess, and the start of whose postprocess, run beside the model.

    Takes frames as messages hold them (`tasks.base.RawFrame`), and decoded ones.
    """

    engine: TensorRTEngine

    def __init__(
        self, task: Task[Any, Any], engine: TensorRTEngine, stages: Stages, max_batch: int
    ) -> None:
        """Join the parts.

        Args:
            task: what the model means.
            engine: runs its plan.
            stages: made in the engine's context.
            max_batch: most frames that the model was proven with.

        Raises:
            ModelError: see `BatchPipeline`.

        """
        super().__init__(task, engine, max_batch)
        self._stages = stages
        part = "preprocess" if stages.survivors is None else "preprocess and choice of candidates"
        self.description = f"{engine.description}, {part} on the device"

    @property
    def takes_raw(self) -> bool:
        """Whether frames may come as messages hold them."""
        return True

    def process(self, frame: Any) -> Processed:
        """Take one frame all the way; see `Pipeline.process`."""
        (result,) = self.process_all([frame])
        if isinstance(result, FrameError):
            raise result
        return result

    def process_all(self, frames: Sequence[Any]) -> list[Processed | FrameError]:
        """Take frames all the way; on the device where it takes all of them.

        The span `preprocess` is then what the host does for it, and `h2d` holds the copies and
        the device's part.
        """
        if not all(map(self._stages.preprocess.takes, frames)):
            return super().process_all(frames)
        recorder = SpanRecorder()
        found: list[tuple[Any, Any]] = []
        for start in range(0, len(frames), self.limit):
            found += self._on_device(frames[start : start + self.limit], recorder)
        return [Processed(result, recorder.spans(), context) for result, context in found]

    def _prepare(self, frame: Any, place: int) -> Any:
        return super()._prepare(decoded(frame), place)

    def _on_device(self, frames: Sequence[Any], recorder: SpanRecorder) -> list[tuple[Any, Any]]:
        """Take one batch all the way; return each frame's result and context."""
        begun: list[Any] = []

        def fill(inputs: Mapping[str, DeviceBuffer], stream: Stream) -> None:
            with recorder.span("preprocess"):
                for place, frame in enumerate(frames):
                    begun.append(self._stages.preprocess.launch(frame, inputs, place, stream))

        survivors, batch = self._stages.survivors, len(frames)
        if survivors is None:
            self.engine.submit_on_device(fill, batch)
        else:
            launch = survivors.launch
            self.engine.submit_on_device(
                fill, batch, lambda outputs, stream: launch(outputs, batch, stream)
            )
        run = self.engine.collect()
        self.record(recorder, run)
        with recorder.span("postprocess"):
            contexts = list(map(self._stages.preprocess.finish, begun))
            return list(zip(self._results(run, contexts), contexts))

    def _results(self, run: RunResult, contexts: Sequence[Any]) -> list[Any]:
        stage, outputs, results = self._stages.survivors, run.outputs, []
        found = [None] * len(contexts) if stage is None else stage.collect()
        for place, (context, survivors) in enumerate(zip(contexts, found)):
            if stage is not None and survivors is not None:
                results.append(stage.postprocess(survivors, context))
                continue
            # None is lost where there are more of them than there is room for.
            outputs = outputs or self.engine.whole()
            results.append(
                self.task.postprocess(self._part(outputs, place, len(contexts)), context)
            )
        return results
