# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""A detector's cells are chosen on the device, so that only those that may count come back."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from av_compress.engines.cuda import (
    DeviceBuffer,
    KernelModule,
    Stream,
    copy_out,
)
from av_compress.engines.kernels.launch import upload
from av_compress.engines.kernels.survivors_table import (
    INDEX_WORDS,
    PARTS,
    Source,
    make_table,
)
from av_compress.errors import EngineError
from av_compress.tasks.camera_detection import CameraDetection
from av_compress.tasks.camera_detection.heads import CellOutputs, Cells
from av_compress.tensors import TensorSpec

SOURCE = "survivors"

_THREADS = 256
_BLOCK = (_THREADS, 1, 1)
_WORD = np.dtype(np.uint32)


@dataclass(frozen=True)
class Room:
    """How many survivors of an image there is room for.

    Attributes:
        capacity: in all; with more, the outputs must be fetched as a whole.
        prefix: that come back at once; the others are asked for when their number is known.

    """

    capacity: int = 4096
    prefix: int = 256


@dataclass(frozen=True)
class Survived:
    """What survived of an image.

    Attributes:
        count: how many cells did.
        cells: they; None where there was no room for all, so that the outputs must be fetched as
            a whole.

    """

    count: int
    cells: Cells | None


def make_survivors(
    task: CameraDetection,
    outputs: Sequence[TensorSpec],
    module: KernelModule,
    images: int = 1,
    room: Room | None = None,
) -> Survivors | None:
    """Make room for what survives of the outputs of one run.

    Args:
        task: whose head and score threshold say what survives.
        outputs: of the engine; a first axis that is open is the batch.
        module: `load_kernels(cuda, SOURCE)`; may serve several.
        images: of the largest batch.
        room: for the survivors of each image.

    Returns:
        None where only the outputs as a whole tell what counts (see
        `CameraDetection.cell_outputs`), or the kernels do not read them: they read float32 and
        float16, and less than 2^31 elements of an image.

    Raises:
        ModelError: the outputs are not those of the task.
        CudaError: there is not enough memory.

    """
    found = task.cell_outputs(outputs)
    if found is None or not found.scoring.cells:
        return None
    specs = {spec.name: spec for spec in outputs}
    sources = {
        role: Source(name, math.prod(found.shapes[role]), specs[name].dtype)
        for role, name in found.tensors.items()
    }
    if not all(source.readable for source in sources.values()):
        return None
    table = make_table(found.scoring, sources, task.settings.score_threshold)
    return Survivors(found, sources, table, module, images, room or Room())


class Survivors:
    """What survives of the outputs of one run; made once and used again.

    `launch` puts the choice behind the run, `collect` waits for what came back. Nothing is
    allocated on the device or page-locked in between.

    Attributes:
        capacity: survivors of an image that there is room for.

    """

    def __init__(
        self,
        outputs: CellOutputs,
        sources: Mapping[str, Source],
        table: np.ndarray[Any, Any],
        module: KernelModule,
        images: int,
        room: Room,
    ) -> None:
        """Allocate; use `make_survivors`."""
        cuda, scoring = module.context, outputs.scoring
        self._form, self._scoring, self._sources = outputs.form, scoring, sources
        self._cuda, self._images = cuda, images
        self.capacity = min(room.capacity, scoring.cells)
        self._prefix = min(room.prefix, self.capacity)
        self._width = INDEX_WORDS + scoring.channels
        words = images * (1 + self.capacity * self._width)
        # Of the same layout here and there, see find_survivors.
        self._found = cuda.device_buffer(words * _WORD.itemsize)
        self._here = cuda.pinned((words,), _WORD)
        self._blocks = upload(cuda, table)
        self._forget = module.kernel("forget_survivors")
        self._find = module.kernel("find_survivors")
        self._arrived = cuda.event(timing=False)
        self._waiting: tuple[int, Stream] | None = None

    def launch(self, outputs: Mapping[str, DeviceBuffer], batch: int, stream: Stream) -> None:
        """Choose from the outputs of a run, and put the chosen on their way back.

        Args:
            outputs: output name -> where it lies; must stay as it is until `collect`.
            batch: how many images.
            stream: on which; must have waited for the run.

        Raises:
            EngineError: an output is missing or short, the batch is too large, or what was
                launched before was not collected.

        """
        self._check(outputs, batch)
        with self._cuda.active():
            self._choose(outputs, batch, stream)
            early = self._images + batch * self._prefix * self._width
            copy_out(stream, self._here[:early], self._found)
            self._arrived.record(stream)
        self._waiting = batch, stream

    def collect(self) -> list[Survived]:
        """Wait for the survivors of each image of the batch; what is returned stays as it is.

        Raises:
            EngineError: nothing was launched, or the device failed.

        """
        if self._waiting is None:
            raise EngineError("no choice of survivors was launched")
        (batch, stream), self._waiting = self._waiting, None
        with self._cuda.active():
            self._arrived.synchronize()
            counts = [int(count) for count in self._here[:batch]]
            self._fetch_late(counts, stream)
        return [self._survived(image, count) for image, count in enumerate(counts)]

    def _choose(self, outputs: Mapping[str, DeviceBuffer], batch: int, stream: Stream) -> None:
        grid = (-(-self._images // _THREADS), 1, 1)
        self._forget.launch(stream, grid, _BLOCK, self._found, np.int32(self._images))
        layout = [np.int32(n) for n in (self._images, self._prefix, self.capacity)]
        for place, block in enumerate(self._scoring.blocks):
            if not block.total:
                continue
            tensors = [outputs[self._sources[part.role].name] for part in block.parts]
            # The kernel has places for three; those that are left over it does not read.
            tensors += [self._found] * (PARTS - len(tensors))
            grid = (-(-block.total // _THREADS), batch, 1)
            arguments = (*tensors, self._blocks, np.int32(place), self._found, *layout)
            self._find.launch(stream, grid, _BLOCK, *arguments)

    def _fetch_late(self, counts: Sequence[int], stream: Stream) -> None:
        """Fetch the survivors behind the prefix, where there are any."""
        late = [image for image, count in enumerate(counts) if self._late(count)]
        for image in late:
            first, last = self._late_words(image, counts[image])
            copy_out(stream, self._here[first:last], self._found, first * _WORD.itemsize)
        if late:
            self._arrived.record(stream)
            self._arrived.synchronize()

    def _late(self, count: int) -> int:
        """Return how many survivors lie behind the prefix; none where they will not be read."""
        return max(0, count - self._prefix) if count <= self.capacity else 0

    def _late_words(self, image: int, count: int) -> tuple[int, int]:
        rows = self._images * self._prefix + image * (self.capacity - self._prefix)
        first = self._images + rows * self._width
        return first, first + self._late(count) * self._width

    def _survived(self, image: int, count: int) -> Survived:
        if count > self.capacity:
            return Survived(count, None)
        first = self._images + image * self._prefix * self._width
        early = self._here[first : first + min(count, self._prefix) * self._width]
        late = self._here[slice(*self._late_words(image, count))]
        words = np.concatenate([early, late]).reshape(count, self._width)
        # They came in no order.
        words = words[np.argsort(words[:, 0])]
        rows = np.ascontiguousarray(words[:, INDEX_WORDS:]).view(np.float32)
        return Survived(count, Cells(self._form, words[:, 0].astype(np.intp), rows))

    def _check(self, outputs: Mapping[str, DeviceBuffer], batch: int) -> None:
        if self._waiting is not None:
            raise EngineError("the survivors of an earlier run were not collected")
        if not 1 <= batch <= self._images:
            raise EngineError(
                f"survivors of {batch} images are asked for; there is room for 1 to {self._images}"
            )
        for source in self._sources.values():
            buffer = outputs.get(source.name)
            if buffer is None:
                raise EngineError(
                    f"output {source.name!r} is missing; given: {', '.join(sorted(outputs))}"
                )
            if buffer.nbytes < source.nbytes(batch):
                raise EngineError(
                    f"output {source.name!r} has {buffer.nbytes} bytes; {batch} images need "
                    f"{source.nbytes(batch)}"
                )
