# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Latest wins: one thread serves the newest item and owns whatever it needs for that."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

T = TypeVar("T")
ItemT = TypeVar("ItemT", contravariant=True)


class Session(Protocol[ItemT]):
    """What a worker's thread owns: opened, used and closed there and nowhere else."""

    def serve(self, item: ItemT) -> None:
        """Serve one item; must not raise."""

    def close(self) -> None:
        """Free everything."""


class LatestWinsWorker(Generic[T]):
    """A thread with room for one waiting item; a newer item takes the place of an older one.

    It takes items only between `resume` and `pause`. Its thread opens the session, so that an
    engine bound to a thread (a CUDA context) is made, used and freed by the same one.
    """

    def __init__(self, name: str, open_session: Callable[[], Session[T]]) -> None:
        """Prepare; `start` does the work.

        Args:
            name: name of the thread.
            open_session: makes the session, in the worker's thread.

        """
        self._open_session = open_session
        self._changed = threading.Condition()
        self._item: T | None = None
        self._accepting = False
        self._busy = False
        self._stopping = False
        self._ready = threading.Event()
        self._failure: Exception | None = None
        # A daemon, so that a model that never returns cannot keep the process from exiting.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Open the session and wait until it is open; raise what opening raised."""
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            self._thread.join()
            raise self._failure

    def offer(self, item: T) -> bool:
        """Hand over an item.

        Returns:
            False where an item was lost: an older one that was still waiting, or this one because
            the worker is paused.

        """
        with self._changed:
            if not self._accepting:
                return False
            displaced = self._item is not None
            self._item = item
            self._changed.notify_all()
            return not displaced

    def resume(self) -> None:
        """Take items from now on."""
        with self._changed:
            self._accepting = True

    def pause(self, timeout_s: float | None = None) -> bool:
        """Take no more items, forget the waiting one and wait for the one in work.

        Returns:
            False where the item in work was not done within `timeout_s`.

        """
        with self._changed:
            self._accepting = False
            self._item = None
            return self._changed.wait_for(lambda: not self._busy, timeout_s)

    def stop(self, timeout_s: float | None = None) -> bool:
        """Pause, close the session and end the thread; calling it again does nothing.

        Returns:
            False where the thread was still at work after `timeout_s`.

        """
        with self._changed:
            self._accepting = False
            self._item = None
            self._stopping = True
            self._changed.notify_all()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            session = self._open_session()
        except Exception as error:
            self._failure = error
            return
        finally:
            self._ready.set()
        try:
            while (item := self._take()) is not None:
                session.serve(item)
                del item
        finally:
            session.close()

    def _take(self) -> T | None:
        with self._changed:
            self._busy = False
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._stopping or self._item is not None)
            if self._stopping:
                return None
            item, self._item = self._item, None
            self._busy = True
            return item
