# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""A device's primary context, owned by one thread, and what is made in it.

The owning thread may be any, also a worker beside a ROS executor; no other thread can use the
context by mistake. After each operation the context is off the thread's stack again, so that what
else uses CUDA in that thread finds it as it left it.
"""

from __future__ import annotations

import ctypes
import math
import mmap
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from av_compress.engines.cuda.devices import Device, devices_of, select
from av_compress.engines.cuda.driver import load_driver
from av_compress.engines.cuda.errors import CudaError
from av_compress.engines.cuda.kernels import KernelModule
from av_compress.engines.cuda.owner import Owner
from av_compress.engines.cuda.streams import DeviceBuffer, Event, Graph, Stream

_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING: what others do without a stream does not wait for it.
_DISABLE_TIMING = 2  # CU_EVENT_DISABLE_TIMING
_THREAD_LOCAL = 1  # CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: other threads may allocate meanwhile.


class CudaContext:
    """The primary context of a device, for the thread that opened it.

    Everything made through it lives until its `free()`, or until `close()`.
    """

    def __init__(self, owner: Owner) -> None:
        """Take an owner; use `open`."""
        self._owner = owner
        self._finalizer = weakref.finalize(self, owner.end)

    @classmethod
    def open(cls, selector: int | str = 0) -> CudaContext:
        """Retain a device's primary context for the calling thread.

        Args:
            selector: which device, see `find_device`.

        Raises:
            UsageError: there is no such device.
            MissingExtraError: PyCUDA is not installed.
            CudaError: there is no driver, it is too old, or there is no device.

        """
        driver = load_driver()
        return cls(Owner(driver, select(devices_of(driver), selector)))

    @property
    def device(self) -> Device:
        """The device."""
        return self._owner.device

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._owner.closed

    @property
    def lost(self) -> bool:
        """Whether a fault on the device has made it useless; only a new process helps."""
        return self._owner.lost

    def check_thread(self) -> None:
        """Make sure that the caller is the owner.

        Raises:
            CudaError: `wrong_thread`, or `closed`.

        """
        self._owner.check()

    def active(self) -> AbstractContextManager[None]:
        """Make the context current for a block, and let go of it after.

        Each operation does so itself; around several, and around what TensorRT does, it is done
        once. May be nested.

        Raises:
            CudaError: another thread's, or closed; or PyCUDA refuses within.

        """
        return self._owner.active()

    def free_bytes(self) -> int:
        """Return how much of the device's memory is free."""
        with self.active():
            return int(self._owner.driver.cuda.mem_get_info()[0])

    def synchronize(self) -> None:
        """Wait for all that the device has to do. Not for use in every frame."""
        with self.active():
            self._owner.driver.cuda.Context.synchronize()

    def close(self) -> None:
        """Wait for the device, free what was made, release the context. Twice is once.

        Page-locked arrays stay readable: they become ordinary ones.

        Raises:
            CudaError: called in another thread, or within `active`.

        """
        self._owner.close()
        self._finalizer.detach()

    def __enter__(self) -> CudaContext:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def stream(self) -> Stream:
        """Make a stream; it does not wait for work that others do without a stream."""
        with self.active():
            return Stream(self, self._keep(self._owner.driver.cuda.Stream(_NON_BLOCKING)))

    def event(self, timing: bool = True) -> Event:
        """Make an event; without `timing` it is only waited for, and cheaper."""
        with self.active():
            flags = 0 if timing else _DISABLE_TIMING
            return Event(self, self._keep(self._owner.driver.cuda.Event(flags)))

    def device_buffer(self, nbytes: int) -> DeviceBuffer:
        """Allocate on the device; what lies in it is not known.

        Raises:
            CudaError: there is not enough memory, or `nbytes` is not positive.

        """
        if nbytes <= 0:
            raise CudaError("argument", f"a device buffer of {nbytes} bytes is asked for")
        with self.active():
            raw = self._allocate(nbytes, partial(self._owner.driver.cuda.mem_alloc, nbytes))
            return DeviceBuffer(self, self._keep(raw, raw.free), int(raw), nbytes)

    def pinned(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> np.ndarray[Any, Any]:
        """Return an array in page-locked memory: the device copies from and to it by itself.

        Args:
            shape: of the array.
            dtype: of the array.

        Raises:
            CudaError: there is not enough memory that can be locked.

        """
        kind = np.dtype(dtype)
        count = math.prod(shape)
        nbytes = max(count * kind.itemsize, 1)
        # Whole pages of its own: a page cannot be locked twice, and the memory outlives `close`.
        pages = mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        address = ctypes.c_void_p(np.frombuffer(pages, np.uint8).ctypes.data)
        driver = self._owner.driver
        # Not by PyCUDA, whose register_host_memory (2026.1) crashes with numpy 2.
        lock = partial(driver.call, "cuMemHostRegister_v2", address, ctypes.c_size_t(nbytes), 0)
        with self.active():
            self._allocate(nbytes, lock, of="memory that can be page-locked")
            self._keep(pages, partial(driver.call, "cuMemHostUnregister", address))
        return np.frombuffer(pages, kind, count).reshape(shape)

    def capture(self, stream: Stream, action: Callable[[], None]) -> Graph:
        """Record what `action` puts on `stream`, instead of doing it, for replay as one graph.

        Other streams take part where they wait for an event of `stream`'s; `stream` must wait
        for them in turn. Shapes and addresses are those of the recording.

        Args:
            stream: where the recording starts and ends.
            action: must neither wait nor allocate.

        Raises:
            CudaError: the driver has no graphs, or `action` did what cannot be recorded.

        """
        driver = self._owner.driver
        with self.active():
            handle = ctypes.c_void_p(stream.handle)
            graph, executable = ctypes.c_void_p(), ctypes.c_void_p()
            driver.call("cuStreamBeginCapture_v2", handle, _THREAD_LOCAL)
            try:
                action()
            except BaseException:
                # Ends the recording whatever became of it; the stream must be usable again.
                driver.library.cuStreamEndCapture(handle, ctypes.byref(graph))
                if graph:
                    driver.call("cuGraphDestroy", graph)
                raise
            driver.call("cuStreamEndCapture", handle, ctypes.byref(graph))
            try:
                driver.call(
                    "cuGraphInstantiateWithFlags",
                    ctypes.byref(executable),
                    graph,
                    ctypes.c_ulonglong(0),
                )
            finally:
                driver.call("cuGraphDestroy", graph)
            end = partial(driver.call, "cuGraphExecDestroy", executable)
            return Graph(self, self._keep(executable, end))

    def load(self, image: bytes) -> KernelModule:
        """Load compiled kernels (a cubin, or PTX that the driver compiles).

        Raises:
            CudaError: the image is not for this device.

        """
        with self.active():
            try:
                raw = self._owner.driver.cuda.module_from_buffer(image)
            except self._owner.driver.cuda.Error as error:
                failure = self._owner.driver.explain(error)
                device = self.device
                raise CudaError(
                    failure.reason,
                    f"kernels do not load on GPU {device.index} ({device.name}, compute "
                    f"capability {device.capability}): {error}",
                    failure.code,
                ) from error
            return KernelModule(self, self._keep(raw))

    def _keep(self, raw: Any, end: Callable[[], None] | None = None) -> int:
        return self._owner.keep(raw, end)

    def _get(self, key: int, what: str) -> Any:
        return self._owner.get(key, what)

    def _drop(self, key: int) -> None:
        self._owner.drop(key)

    def _allocate(self, nbytes: int, allocate: Callable[[], Any], of: str = "memory") -> Any:
        """Allocate; where that fails, say how much was asked for and how much there is."""
        driver = self._owner.driver
        try:
            with driver.checked():
                return allocate()
        except CudaError as error:
            if error.reason != "out_of_memory":
                raise
            free, total = driver.cuda.mem_get_info()
            device = self.device
            raise CudaError(
                "out_of_memory",
                f"GPU {device.index} ({device.name}) has not enough {of}: {nbytes} bytes are "
                f"asked for, and {free} of the device's {total} are free",
                error.code,
            ) from error
