# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Room for one frame on the card: its tensors there and here, and the events between them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

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

# Work that is put on a stream, for the inputs' or the outputs' buffers.
OnDevice: TypeAlias = Callable[[Mapping[str, DeviceBuffer], Stream], None]


class Slot:
    """Buffers of one frame, made once and used again; its owner keeps the order.

    Copies go through page-locked memory: only from there do they run beside the host and beside
    another frame's execution.
    """

    def __init__(self, cuda: CudaContext, border: Border, context: Any) -> None:
        """Allocate for the largest batch.

        Args:
            cuda: where.
            border: of the plan.
            context: the plan's execution context of this slot alone.

        Raises:
            CudaError: `out_of_memory`.

        """
        self._border = border
        self.context = context
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
        self.batch = 1
        # Made once: they are handed out for every frame.
        self._inputs = {spec.name: self.device[spec.name] for spec in border.inputs}
        self._outputs = {spec.name: self.device[spec.name] for spec in border.outputs}
        self._whole = True

    def fill(self, fill: OnDevice, stream: Stream) -> None:
        """Put what fills a frame's inputs on a stream."""
        self.begun.record(stream)
        fill(self._inputs, stream)
        self.uploaded.record(stream)

    def upload(
        self, tensors: Mapping[str, Array], _: Mapping[str, DeviceBuffer], stream: Stream
    ) -> None:
        """Put inputs on their way; they may be changed as soon as this returns."""
        for spec in self._border.inputs:
            here = self._part(spec)
            np.copyto(here, tensors[spec.name])
            copy_in(stream, self.device[spec.name], here)

    def download(self, stream: Stream) -> None:
        """Put the outputs on their way back, whole, once they were computed."""
        self._whole = True
        stream.wait(self.executed)
        for spec in self._border.outputs:
            copy_out(stream, self._part(spec), self.device[spec.name])
        self.downloaded.record(stream)

    def take(self, take: OnDevice, stream: Stream) -> None:
        """Put on a stream what fetches the wanted part of the outputs."""
        self._whole = False
        stream.wait(self.executed)
        take(self._outputs, stream)
        self.downloaded.record(stream)

    def result(self) -> RunResult:
        """Wait until what was asked for is here."""
        self.wait()
        return RunResult(
            self.outputs() if self._whole else {},
            RunTiming(
                elapsed_ns(self.begun, self.uploaded),
                elapsed_ns(self.started, self.executed),
                elapsed_ns(self.executed, self.downloaded),
            ),
        )

    def wait(self) -> None:
        """Wait until what was put on its way last is here."""
        self.downloaded.synchronize()

    def outputs(self) -> dict[str, Array]:
        """Return the outputs that were downloaded whole."""
        return {spec.name: self._part(spec) for spec in self._border.outputs}

    def _part(self, spec: TensorSpec) -> Array:
        """Return what of a buffer this batch fills."""
        whole = self._host[spec.name]
        return whole[: self.batch] if None in spec.shape else whole
