# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Who owns a device's primary context, what was made in it, and how all of it ends."""

from __future__ import annotations

import ctypes
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from av_compress.engines.cuda.devices import Device
from av_compress.engines.cuda.driver import Driver
from av_compress.engines.cuda.errors import CudaError

_POP = "cuCtxPopCurrent_v2"


class Owner:
    """One thread's hold on a primary context.

    PyCUDA's objects are kept here and nowhere else: they must end in the thread that made them,
    with their context current, or PyCUDA complains. Where they cannot, they are never ended; the
    driver frees them with the process.
    """

    def __init__(self, driver: Driver, device: Device) -> None:
        """Retain the primary context of `device` for the calling thread."""
        self.driver = driver
        self.device = device
        self.thread = threading.current_thread()
        self.closed = False
        self.lost = False
        self._depth = 0
        self._next = 0
        self._kept: dict[int, tuple[Any, Callable[[], None] | None]] = {}
        with self.watched():
            self.context: Any = driver.cuda.Device(device.index).retain_primary_context()

    @property
    def _name(self) -> str:
        return f"the CUDA context of GPU {self.device.index} ({self.device.name})"

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Turn PyCUDA's errors into ours, and remember when the context is lost."""
        try:
            with self.driver.checked():
                yield
        except CudaError as error:
            self.lost |= error.reason == "context_lost"
            raise

    def check(self) -> None:
        """Refuse what is not the owner's thread, or comes after the end."""
        if self.closed:
            raise CudaError("closed", f"{self._name} is closed")
        caller = threading.current_thread()
        if caller is not self.thread:
            raise CudaError(
                "wrong_thread",
                f"{self._name} belongs to the thread {_named(self.thread)} and was used in "
                f"{_named(caller)}; hand the work to the thread that opened it",
            )

    @contextmanager
    def active(self) -> Iterator[None]:
        """Make the context current; within another `active` it is so already."""
        self.check()
        if not self._depth:
            with self.watched():
                self.context.push()
        self._depth += 1
        try:
            with self.watched():
                yield
        finally:
            self._depth -= 1
            if not self._depth:
                with self.watched():
                    self.driver.cuda.Context.pop()

    def keep(self, raw: Any, end: Callable[[], None] | None = None) -> int:
        """Keep an object of PyCUDA's until `drop` or the end; return its key.

        Args:
            raw: the object; with its last reference it ends.
            end: what is done before.

        """
        self._next += 1
        self._kept[self._next] = raw, end
        return self._next

    def get(self, key: int, what: str) -> Any:
        """Return a kept object, in the owner's thread alone."""
        self.check()
        try:
            return self._kept[key][0]
        except KeyError:
            raise CudaError("closed", f"this {what} was freed and is used again") from None

    def drop(self, key: int) -> None:
        """End a kept object; nothing is done where it has ended."""
        if self.closed or key not in self._kept:
            return
        with self.active():
            _, end = self._kept.pop(key)
            if end is not None:
                end()

    def close(self) -> None:
        """End everything that was made, and let go of the context. Twice is once."""
        if self.closed:
            return
        self.check()
        if self._depth:
            raise CudaError("argument", f"{self._name} is closed while it is in use")
        if not self._settle():
            self.abandon()
            return
        with self.active():
            for key in reversed(self._kept):
                end = self._kept[key][1]
                if end is not None:
                    end()
                self._kept[key] = None, None
        self._kept.clear()
        self.closed = True
        # PyCUDA pushes what it releases, and releasing a primary context pops nothing.
        self.context.detach()
        self.driver.call(_POP, ctypes.byref(ctypes.c_void_p()))

    def _settle(self) -> bool:
        """Wait for the device; what it still reads and writes cannot be freed. False if lost."""
        if self.lost:
            return False
        try:
            with self.active():
                self.driver.cuda.Context.synchronize()
        except CudaError:
            return False
        return True

    def abandon(self) -> None:
        """Leave everything to the end of the process: it can no longer be freed, or not here."""
        for raw, _ in [*self._kept.values(), (self.context, None)]:
            # One reference too many: PyCUDA's destructors would call the driver and complain.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(raw))
        self._kept.clear()
        self.closed = True

    def end(self) -> None:
        """End what nobody closed, when it is collected or the interpreter ends."""
        if self.closed:
            return
        warnings.warn(f"{self._name} was not closed", ResourceWarning, stacklevel=2)
        if threading.current_thread() is self.thread:
            self.close()
        else:
            self.abandon()


def _named(thread: threading.Thread) -> str:
    return f"'{thread.name}' ({thread.native_id})"
