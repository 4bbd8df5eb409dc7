# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Streams, events, device buffers, graphs, and copies: what a context makes."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

import numpy as np

from av_compress.engines.cuda.errors import CudaError

if TYPE_CHECKING:
    from av_compress.engines.cuda.context import CudaContext


class Made:
    """What a context has made, by the key under which the owner keeps it."""

    def __init__(self, context: CudaContext, key: int) -> None:
        """Remember where it is kept."""
        self.context = context
        self._key = key

    @property
    def raw(self) -> Any:
        """PyCUDA's object. Use it at once and do not keep it.

        Raises:
            CudaError: it was freed, the context is closed, or belongs to another thread.

        """
        return self.context._get(self._key, type(self).__name__)

    def free(self) -> None:
        """End it before the context ends. Twice is once."""
        self.context._drop(self._key)


class Stream(Made):
    """A queue of work for the device."""

    @property
    def handle(self) -> int:
        """The driver's handle, as TensorRT's `execute_async_v3` takes it."""
        return int(self.raw.handle)

    def synchronize(self) -> None:
        """Wait until all that lies in it is done.

        Raises:
            CudaError: something of it failed.

        """
        with self.context.active():
            self.raw.synchronize()

    def wait(self, event: Event) -> None:
        """Let what comes later in this stream wait for the event's latest record."""
        with self.context.active():
            self.raw.wait_for_event(event.raw)


class Event(Made):
    """A point in a stream, to wait for and to measure time from."""

    def record(self, stream: Stream) -> None:
        """Put the point behind what lies in `stream`."""
        with self.context.active():
            self.raw.record(stream.raw)

    def synchronize(self) -> None:
        """Wait until the stream has come to the point."""
        with self.context.active():
            self.raw.synchronize()

    def done(self) -> bool:
        """Tell whether the stream has come to the point, without waiting."""
        with self.context.active():
            return bool(self.raw.query())


class DeviceBuffer(Made):
    """Memory of the device.

    Attributes:
        address: where it begins, on the device.
        nbytes: how long it is.
        argument: the address as kernels take it.

    """

    def __init__(self, context: CudaContext, key: int, address: int, nbytes: int) -> None:
        """Remember what the driver gave."""
        super().__init__(context, key)
        self.address = address
        self.nbytes = nbytes
        self.argument = np.uintp(address)


class Graph(Made):
    """Recorded work, replayed with one call; see `CudaContext.capture`."""

    def launch(self, stream: Stream) -> None:
        """Put the whole of it on `stream`."""
        with self.context.active():
            driver = self.context._owner.driver
            driver.call("cuGraphLaunch", self.raw, ctypes.c_void_p(stream.handle))


def elapsed_ns(start: Event, end: Event) -> int:
    """Return the nanoseconds between two points that have been reached.

    Raises:
        CudaError: a point was not reached, never set, or made without timing.

    """
    with start.context.active():
        return round(float(end.raw.time_since(start.raw)) * 1e6)


def copy_in(
    stream: Stream, buffer: DeviceBuffer, array: np.ndarray[Any, Any], offset: int = 0
) -> None:
    """Copy an array to the device, when the stream comes to it.

    From page-locked memory (`CudaContext.pinned`) the call returns at once, and the array must
    stay as it is until the stream has passed; from other memory the driver copies it first.

    Args:
        stream: on which.
        buffer: to which.
        array: contiguous, of any shape and type.
        offset: bytes of the buffer to leave out before.

    Raises:
        CudaError: the array is not contiguous, or does not fit.

    """
    _check(buffer, array, offset, "to")
    if array.nbytes:
        with stream.context.active():
            _live(buffer)
            cuda = stream.context._owner.driver.cuda
            cuda.memcpy_htod_async(buffer.address + offset, array, stream.raw)


def copy_out(
    stream: Stream, array: np.ndarray[Any, Any], buffer: DeviceBuffer, offset: int = 0
) -> None:
    """Copy from the device into an array, when the stream comes to it.

    Into page-locked memory the call returns at once, and the array may be read after a wait;
    for other memory the driver itself waits.

    Args:
        stream: on which.
        array: contiguous and writable, of any shape and type.
        buffer: from which.
        offset: bytes of the buffer to leave out before.

    Raises:
        CudaError: the array is not contiguous or not writable, or longer than the buffer.

    """
    _check(buffer, array, offset, "from")
    if not array.flags.writeable:
        raise CudaError("argument", "an array that is copied into is read-only")
    if array.nbytes:
        with stream.context.active():
            _live(buffer)
            cuda = stream.context._owner.driver.cuda
            cuda.memcpy_dtoh_async(array, buffer.address + offset, stream.raw)


def fill(stream: Stream, buffer: DeviceBuffer, value: int, nbytes: int) -> None:
    """Set the first bytes of a buffer, when the stream comes to it.

    Args:
        stream: on which.
        buffer: of which.
        value: of each byte, 0 to 255.
        nbytes: how many.

    Raises:
        CudaError: the buffer is shorter.

    """
    if not 0 <= nbytes <= buffer.nbytes:
        raise CudaError(
            "argument", f"{nbytes} bytes are set of a device buffer of {buffer.nbytes}"
        )
    if nbytes:
        with stream.context.active():
            _live(buffer)
            cuda = stream.context._owner.driver.cuda
            cuda.memset_d8_async(buffer.address, value, nbytes, stream.raw)


def _live(buffer: DeviceBuffer) -> None:
    """Refuse a buffer that was freed; its address may be another's by now."""
    buffer.context._get(buffer._key, "DeviceBuffer")


def _check(buffer: DeviceBuffer, array: np.ndarray[Any, Any], offset: int, way: str) -> None:
    if not array.flags.c_contiguous:
        raise CudaError("argument", f"an array that is copied {way} the device is not contiguous")
    if offset < 0 or offset + array.nbytes > buffer.nbytes:
        raise CudaError(
            "argument",
            f"{array.nbytes} bytes are copied {way} a device buffer of {buffer.nbytes} "
            f"at {offset}",
        )
