# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""A camera detector's preprocess on the device: the same bits as the task's own, on the host."""

from __future__ import annotations

import numpy as np

from av_compress.data.images import RawImage
from av_compress.engines.cuda import CudaContext, CudaError, DeviceBuffer, Stream
from av_compress.engines.kernels.compile import load_kernels
from av_compress.engines.kernels.compilers import Compiler
from av_compress.engines.kernels.encodings import READERS
from av_compress.engines.kernels.frames import FrameSlot
from av_compress.engines.kernels.launch import upload
from av_compress.engines.kernels.resizing import (
    Taps,
    linear_column_taps,
    linear_row_taps,
    nearest_taps,
)
from av_compress.tasks.camera_detection import CameraDetection
from av_compress.tasks.camera_detection.placement import Placement
from av_compress.tasks.camera_detection.preprocess import Preprocessor

# Bytes of an image; a larger one is no camera's.
_LARGEST = 1 << 28
_INTERPOLATIONS = frozenset({"linear", "nearest"})
_BLOCK = (32, 8, 1)


class CameraPreprocess:
    """Turns raw images into the network's input on the device, one launch each.

    For the thread that owns the context. All memory is allocated when an image comes that is
    larger than those before; from then on none is.

    Attributes:
        frame_bytes: of a frame's place in the network's input.

    """

    def __init__(
        self,
        task: CameraDetection,
        cuda: CudaContext,
        slots: int = 1,
        compiler: Compiler | None = None,
    ) -> None:
        """Compile or load the kernel, and put the table of normalised values on the device.

        Args:
            task: whose preprocess it is.
            cuda: where.
            slots: how many frames may be under way at once; with one more, the host waits.
            compiler: see `load_kernels`.

        Raises:
            NoCompilerError, EngineError, CudaError: see `load_kernels`.

        """
        self._target, self._resize = task.settings.input, task.settings.resize
        self._preprocessor = Preprocessor(self._target, self._resize)
        self._cuda = cuda
        width, height = self._target.width, self._target.height
        self.frame_bytes = 3 * width * height * np.dtype(self._target.dtype).itemsize
        self._grid = (-(-width // _BLOCK[0]), -(-height // _BLOCK[1]), 1)
        self._module = load_kernels(cuda, "camera_detection", compiler)
        self._kernel = self._module.kernel("prepare_camera")
        self._values = _values(cuda, self._preprocessor)
        self._slots = [FrameSlot(cuda, width, height) for _ in range(max(slots, 1))]
        self._next = 0

    @staticmethod
    def knows(task: CameraDetection) -> bool:
        """Tell whether there is an image that it can prepare for a task."""
        return task.settings.resize.interpolation in _INTERPOLATIONS

    def takes(self, raw: RawImage) -> bool:
        """Tell whether `launch` can prepare an image; what it cannot is for the task itself.

        It knows all encodings, and of the interpolations `linear` and `nearest`.
        """
        return (
            raw.encoding in READERS
            and raw.data.nbytes <= _LARGEST
            and self._resize.interpolation in _INTERPOLATIONS
        )

    def launch(self, raw: RawImage, target: DeviceBuffer, place: int, stream: Stream) -> Placement:
        """Prepare an image, when the stream comes to it.

        The image's bytes have been copied when this returns. Where all slots are under way, it
        waits until the oldest has left page-locked memory.

        Args:
            raw: the image, see `takes`.
            target: the network's input, for one frame or more.
            place: which frame of it.
            stream: on which.

        Returns:
            Where the image lies in the input, what the task's postprocess needs.

        Raises:
            CudaError: the image is not taken, `target` has no such place, or the driver refuses.

        """
        self._check(raw, target, place)
        placement = self._preprocessor.place(raw.width, raw.height)
        with self._cuda.active():
            for slot in self._slots:
                slot.reserve(raw.data.nbytes)
            slot = self._slots[self._next]
            self._next = (self._next + 1) % len(self._slots)
            slot.send(raw, placement, self._taps(placement), stream)
            try:
                self._kernel.launch(
                    stream,
                    self._grid,
                    _BLOCK,
                    slot.device,
                    self._values,
                    target,
                    *map(np.int32, self._numbers(raw, placement, place)),
                )
            finally:
                slot.done(stream)
        return placement

    def free(self) -> None:
        """Free what lies on the device; page-locked memory stays until the context is closed."""
        for slot in self._slots:
            slot.free()
        self._values.free()
        self._module.free()

    def _check(self, raw: RawImage, target: DeviceBuffer, place: int) -> None:
        if not self.takes(raw):
            raise CudaError(
                "argument",
                f"a {raw.encoding} image of {raw.width} x {raw.height} with interpolation "
                f"{self._resize.interpolation!r} is not prepared on the device; use the task's "
                "preprocess",
            )
        if place < 0 or (place + 1) * self.frame_bytes > target.nbytes:
            raise CudaError(
                "argument",
                f"place {place} of frames of {self.frame_bytes} bytes is asked for in a device "
                f"buffer of {target.nbytes}",
            )

    def _one_tap(self, placement: Placement) -> bool:
        """Tell whether each pixel of the input is one of the image."""
        image = placement.image_width, placement.image_height
        same = image == (placement.width, placement.height)
        return same or self._resize.interpolation == "nearest"

    def _taps(self, placement: Placement) -> tuple[Taps, Taps]:
        columns = placement.image_width, placement.width
        rows = placement.image_height, placement.height
        if self._one_tap(placement):
            return nearest_taps(*columns), nearest_taps(*rows)
        return linear_column_taps(*columns), linear_row_taps(*rows)

    def _numbers(self, raw: RawImage, placement: Placement, place: int) -> tuple[int, ...]:
        """Return the kernel's arguments behind the buffers, in its order."""
        wanted, reader = self._target, READERS[raw.encoding]
        return (
            place,
            wanted.width,
            wanted.height,
            np.dtype(wanted.dtype).itemsize,
            wanted.layout == "nhwc",
            wanted.color == "rgb",
            self._one_tap(placement),
            placement.left,
            placement.top,
            placement.width,
            placement.height,
            raw.height,
            raw.width,
            raw.step,
            reader.kind,
            *reader.places,
            reader.bytes,
        )


def _values(cuda: CudaContext, preprocessor: Preprocessor) -> DeviceBuffer:
    """Return the tensor's elements for each pixel value, then for the padding: [3, 257]."""
    rows = np.concatenate((preprocessor.values, preprocessor.padding[None]))
    return upload(cuda, np.ascontiguousarray(rows.T))
