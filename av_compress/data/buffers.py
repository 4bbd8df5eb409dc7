# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The bytes of messages, whoever holds them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from av_compress.errors import FrameError


def bytes_of(data: Any, what: str) -> npt.NDArray[np.uint8]:
    """Return a view of a message's data.

    Args:
        data: anything with the buffer protocol: bytes, array.array, memoryview, numpy.
        what: whose data it is, for messages.

    Raises:
        FrameError: it is not a contiguous buffer.

    """
    try:
        return np.frombuffer(data, np.uint8)
    except (TypeError, ValueError, BufferError) as error:
        if hasattr(data, "__len__") and len(data) == 0:
            return np.zeros(0, np.uint8)  # What is empty has no type worth a complaint.
        raise FrameError(
            f"{what} data of type {type(data).__name__} is not a contiguous buffer of bytes; "
            "use bytes, array.array('B') or a numpy array"
        ) from error
