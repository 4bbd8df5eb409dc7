# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What launches of kernels have in common."""

from __future__ import annotations

from typing import Any

import numpy as np

from av_compress.engines.cuda import CudaContext, CudaError, DeviceBuffer, copy_in

Shape = tuple[int, int, int]

# Enough blocks for any device where each does its share of the work in steps.
MOST_BLOCKS = 2048


def grid_over(count: int, block: int) -> Shape:
    """Return the blocks of a kernel that has a thread for each of `count`; at least one."""
    return (max(1, -(-count // block)), 1, 1)


def grid_in_steps(count: int, block: int) -> Shape:
    """Return the blocks of a kernel whose threads go over all of `count` in steps."""
    return (min(grid_over(count, block)[0], MOST_BLOCKS), 1, 1)


def check_room(buffer: DeviceBuffer, nbytes: int, what: str) -> None:
    """Refuse a buffer that is too small: a kernel would write what is another's.

    Args:
        buffer: of the device.
        nbytes: how long it must be.
        what: name and shape of what is to lie there.

    Raises:
        CudaError: it is shorter.

    """
    if buffer.nbytes < nbytes:
        raise CudaError(
            "argument", f"{what} are {nbytes} bytes, and the device buffer has {buffer.nbytes}"
        )


def upload(cuda: CudaContext, array: np.ndarray[Any, Any]) -> DeviceBuffer:
    """Return a buffer that holds an array; waits until it does.

    Args:
        cuda: the context.
        array: contiguous, not empty.

    Raises:
        CudaError: there is not enough memory.

    """
    buffer, stream = cuda.device_buffer(array.nbytes), cuda.stream()
    copy_in(stream, buffer, array)
    stream.synchronize()
    stream.free()
    return buffer
