# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Room for one raw image on its way to the device and there."""

from __future__ import annotations

import numpy as np

from av_compress.data.images import RawImage
from av_compress.engines.cuda import CudaContext, DeviceBuffer, Stream, copy_in
from av_compress.engines.kernels.resizing import Taps
from av_compress.tasks.camera_detection.placement import Placement

_TAP_BYTES = 16


class FrameSlot:
    """Page-locked memory and its like on the device, made once and used again.

    In both lie the taps of the input's columns, those of its rows, and the image's bytes, so that
    one copy brings all of it.

    Attributes:
        device: what the kernel reads.

    """

    def __init__(self, cuda: CudaContext, input_width: int, input_height: int) -> None:
        """Make room for an input's taps; for an image there is none yet."""
        self._cuda = cuda
        self._rows_at = input_width * _TAP_BYTES
        self._image_at = self._rows_at + input_height * _TAP_BYTES
        self._sent, self._read = cuda.event(timing=False), cuda.event(timing=False)
        self._placement: Placement | None = None
        self.device: DeviceBuffer = cuda.device_buffer(self._image_at)
        self._host = cuda.pinned((self._image_at,), np.uint8)

    def reserve(self, nbytes: int) -> None:
        """Make room for an image; nothing is done where there is enough.

        Page-locked memory that has become too small lives as long as the context. So it grows at
        least twofold: all that was left behind is then no more than what is in use.

        Raises:
            CudaError: `out_of_memory`; what there was stays.

        """
        room = self._host.nbytes - self._image_at
        if nbytes <= room:
            return
        whole = self._image_at + max(nbytes, 2 * room)
        device = self._cuda.device_buffer(whole)
        try:
            host = self._cuda.pinned((whole,), np.uint8)
        except BaseException:
            device.free()
            raise
        self._read.synchronize()
        self.device.free()
        self.device, self._host, self._placement = device, host, None

    def send(
        self, raw: RawImage, placement: Placement, taps: tuple[Taps, Taps], stream: Stream
    ) -> None:
        """Put an image on its way; it may be changed as soon as this returns.

        Args:
            raw: the image, for which there must be room.
            placement: its place in the input, which the taps depend on.
            taps: of the columns and of the rows that the image covers.
            stream: on which.

        """
        self._sent.synchronize()
        if placement != self._placement:
            for at, part in zip((0, self._rows_at), taps):
                self._host[at : at + part.nbytes] = part.view(np.uint8).ravel()
            self._placement = placement
        end = self._image_at + raw.data.nbytes
        self._host[self._image_at : end] = raw.data
        # The frame before may have been prepared on another stream.
        stream.wait(self._read)
        copy_in(stream, self.device, self._host[:end])
        self._sent.record(stream)

    def done(self, stream: Stream) -> None:
        """Say that what reads the image lies in the stream."""
        self._read.record(stream)

    def free(self) -> None:
        """Free what lies on the device, once it is no longer read."""
        for made in (self.device, self._sent, self._read):
            made.free()
