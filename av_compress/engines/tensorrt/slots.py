# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Room for one frame on the card: its tensors there and here, and the events between them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from av_compress.engines.base import RunResult, RunTiming
from av_compress.engines.cuda import (
    CudaContext,
    DeviceBuffer,
    Graph,
    Stream,
    copy_in,
    copy_out,
    elapsed_ns,
)
from av_compress.engines.tensorrt.tensors import Border
from av_compress.tensors import Array, TensorSpec


class Slot:
    """Buffers of one frame, made once and used again; its owner keeps the order.

    Copies go through page-locked memory: only from there do they run beside the host and beside
    another frame's execution.
    """

    def __init__(self, cuda: CudaContext, border: Border) -> None:
        """Allocate for the largest batch.

        Raises:
            CudaError: `out_of_memory`.

        """
        self._border = border
        self._host: dict[str, Array] = {}
        self.device: dict[str, DeviceBuffer] = {}
        for spec in (*border.inputs, *border.outputs):
            shape = border.largest[spec.name]
            self._host[spec.name] = cuda.pinned(shape, spec.dtype)
            self.device[spec.name] = cuda.device_buffer(max(1, self._host[spec.name].nbytes))
        self.begun, self.uploaded = cuda.event(), cuda.event()
        self.started, self.executed = cuda.event(), cuda.event()
        self.downloaded = cuda.event()
        self.graph: Graph | None = None
        self.shapes: dict[str, tuple[int, ...]] = {}

    def upload(self, tensors: Mapping[str, Array], stream: Stream) -> None:
        """Put a frame's inputs on their way; they may be changed as soon as this returns."""
        self.begun.record(stream)
        for spec in self._border.inputs:
            here = self._part(spec, tensors[spec.name].shape)
            np.copyto(here, tensors[spec.name])
            copy_in(stream, self.device[spec.name], here)
        self.uploaded.record(stream)

    def download(self, shapes: Mapping[str, tuple[int, ...]], stream: Stream) -> None:
        """Put its outputs on their way back, once it was executed."""
        self.shapes = dict(shapes)
        stream.wait(self.executed)
        for spec in self._border.outputs:
            here = self._part(spec, self.shapes[spec.name])
            copy_out(stream, here, self.device[spec.name])
        self.downloaded.record(stream)

    def result(self) -> RunResult:
        """Wait until the outputs are here."""
        self.downloaded.synchronize()
        outputs = {
            spec.name: self._part(spec, self.shapes[spec.name]) for spec in self._border.outputs
        }
        return RunResult(
            outputs,
            RunTiming(
                elapsed_ns(self.begun, self.uploaded),
                elapsed_ns(self.started, self.executed),
                elapsed_ns(self.executed, self.downloaded),
            ),
        )

    def _part(self, spec: TensorSpec, shape: tuple[int, ...]) -> Array:
        """Return what of a buffer a smaller batch fills."""
        whole = self._host[spec.name]
        return whole if whole.shape == shape else whole[: shape[0]]
