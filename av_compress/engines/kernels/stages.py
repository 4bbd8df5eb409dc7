# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Which of a task's steps run on the device, and how they join the engine."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from av_compress.data.images import RawImage
from av_compress.engines.cuda import DeviceBuffer, Stream
from av_compress.engines.device_pipeline import PreprocessStage, Stages, SurvivorsStage
from av_compress.engines.kernels.camera import CameraPreprocess
from av_compress.engines.kernels.compile import load_kernels
from av_compress.engines.kernels.compilers import Compiler
from av_compress.engines.kernels.survivors import SOURCE, Room, Survivors, make_survivors
from av_compress.engines.tensorrt.engine import TensorRTEngine
from av_compress.errors import EngineError
from av_compress.tasks.base import Detections2D, Task
from av_compress.tasks.camera_detection import CameraDetection
from av_compress.tasks.camera_detection.heads import Cells
from av_compress.tasks.camera_detection.placement import Placement
from av_compress.tensors import TensorSpec

# Outputs that are not this many times as large as what always comes back are fetched whole: two
# launches and the gathering would cost more than the copy.
_WORTH_IT = 4


class NoStagesError(EngineError):
    """A task has no steps that run on the device."""


def make_stages(
    task: Task[Any, Any], engine: TensorRTEngine, images: int, compiler: Compiler | None = None
) -> Stages:
    """Prepare a task's steps in an engine's context.

    Args:
        task: what the model means.
        engine: runs its plan.
        images: frames of the largest batch.
        compiler: see `load_kernels`.

    Raises:
        NoStagesError: there are none for this task.
        NoCompilerError: nothing compiles the kernels; says what to install.
        EngineError, CudaError: see `load_kernels`.

    """
    if task.kind == "lidar_detection":
        return Stages(_lidar(task, engine, compiler), None)
    if not isinstance(task, CameraDetection):
        raise NoStagesError(f"the task {task.kind} has no steps that run on the device")
    if not CameraPreprocess.knows(task):
        raise NoStagesError(
            f"interpolation {task.settings.resize.interpolation!r} is not done on the device"
        )
    preprocess = CameraPreprocess(task, engine.cuda, images, compiler)
    return Stages(
        CameraStage(preprocess, task.settings.input.name),
        _survivors(task, engine, images, compiler),
    )


def _lidar(
    task: Task[Any, Any], engine: TensorRTEngine, compiler: Compiler | None
) -> PreprocessStage:
    # Imported here: a camera's machine need not have what clouds are computed with.
    from av_compress.engines.kernels.lidar_stage import LidarStage, why_not
    from av_compress.tasks.lidar_detection import LidarDetection

    assert isinstance(task, LidarDetection)
    reason = why_not(task)
    if reason is not None:
        raise NoStagesError(reason)
    return LidarStage(task, engine.cuda, compiler)


def _survivors(
    task: CameraDetection, engine: TensorRTEngine, images: int, compiler: Compiler | None
) -> SurvivorsStage | None:
    room = Room()
    found = task.cell_outputs(engine.outputs)
    if found is None or _bytes(engine.outputs) < _WORTH_IT * 4 * room.prefix * (
        1 + found.scoring.channels
    ):
        return None
    module = load_kernels(engine.cuda, SOURCE, compiler)
    survivors = make_survivors(task, engine.outputs, module, images, room)
    return None if survivors is None else CellStage(task, survivors)


def _bytes(outputs: Sequence[TensorSpec]) -> int:
    """Return the bytes of one frame's outputs."""
    return sum(
        math.prod(extent or 1 for extent in spec.shape) * spec.dtype.itemsize for spec in outputs
    )


class CameraStage:
    """A camera's preprocess; see `PreprocessStage`."""

    def __init__(self, kernel: CameraPreprocess, tensor: str) -> None:
        """Prepare `tensor`, the model's input, by a kernel."""
        self._kernel = kernel
        self._tensor = tensor

    def takes(self, frame: Any) -> bool:
        """Tell whether a frame is a raw image of an encoding that the kernel knows."""
        return isinstance(frame, RawImage) and self._kernel.takes(frame)

    def launch(
        self, frame: RawImage, inputs: Mapping[str, DeviceBuffer], place: int, stream: Stream
    ) -> Placement:
        """Prepare an image; see `CameraPreprocess.launch`."""
        return self._kernel.launch(frame, inputs[self._tensor], place, stream)

    def finish(self, begun: Placement) -> Placement:
        """Return the image's place in the input, which was known at once."""
        return begun


class CellStage:
    """The choice of a detector's cells; see `SurvivorsStage`."""

    def __init__(self, task: CameraDetection, survivors: Survivors) -> None:
        """Choose by a kernel, decode by the task."""
        self._task = task
        self._survivors = survivors

    def launch(self, outputs: Mapping[str, DeviceBuffer], batch: int, stream: Stream) -> None:
        """Choose; see `Survivors.launch`."""
        self._survivors.launch(outputs, batch, stream)

    def collect(self) -> list[Cells | None]:
        """Return each image's cells."""
        return [survived.cells for survived in self._survivors.collect()]

    def postprocess(self, survivors: Cells, context: Placement) -> Detections2D:
        """Return the detections in cells."""
        return self._task.postprocess_cells(survivors, context)
