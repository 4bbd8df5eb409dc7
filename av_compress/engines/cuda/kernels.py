# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Loaded kernels and their launch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from av_compress.engines.cuda.errors import CudaError
from av_compress.engines.cuda.streams import DeviceBuffer, Made, Stream

if TYPE_CHECKING:
    from av_compress.engines.cuda.context import CudaContext

Argument = DeviceBuffer | np.number[Any]


class KernelModule(Made):
    """Kernels that were compiled together."""

    def __init__(self, context: CudaContext, key: int) -> None:
        """Remember where it is kept."""
        super().__init__(context, key)
        self._kernels: list[Kernel] = []

    def kernel(self, name: str) -> Kernel:
        """Return one of them.

        Raises:
            CudaError: there is none of that name.

        """
        with self.context.active():
            function = self.raw.get_function(name)
            self._kernels.append(Kernel(self.context, self.context._keep(function), name))
        return self._kernels[-1]

    def free(self) -> None:
        """End it and its kernels; PyCUDA's functions would keep it."""
        for kernel in self._kernels:
            kernel.free()
        super().free()


class Kernel(Made):
    """A function of the device; it ends with its module."""

    def __init__(self, context: CudaContext, key: int, name: str) -> None:
        """Remember where it is kept."""
        super().__init__(context, key)
        self.name = name

    def launch(
        self,
        stream: Stream,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        *arguments: Argument,
    ) -> None:
        """Run it over a grid, when the stream comes to it.

        Args:
            stream: on which.
            grid: blocks in x, y, z.
            block: threads of a block in x, y, z.
            arguments: buffers of the device, and numpy scalars of the types that the kernel has.

        Raises:
            CudaError: an argument has no fixed type, or the driver refuses.

        """
        values = [self._value(place, argument) for place, argument in enumerate(arguments)]
        with stream.context.active():
            self.raw(*values, grid=grid, block=block, stream=stream.raw)

    def _value(self, place: int, argument: Any) -> Any:
        if isinstance(argument, DeviceBuffer):
            _ = argument.raw
            return argument.argument
        if isinstance(argument, np.number):
            return argument
        raise CudaError(
            "argument",
            f"argument {place} of the kernel {self.name} is a {type(argument).__name__}; give a "
            "device buffer or a numpy scalar of the kernel's type",
        )
