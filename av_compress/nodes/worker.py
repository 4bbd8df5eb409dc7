# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Latest wins: one thread serves the newest item and owns whatever it needs for that."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, Protocol, TypeVar

T = TypeVar("T")
ItemT = TypeVar("ItemT", contravariant=True)

# How many batches in a row a slot may miss before the others no longer wait for it.
_PATIENCE = 3


class Session(Protocol[ItemT]):
    """What a worker's thread owns: opened, used and closed there and nowhere else."""

    def serve(self, items: Mapping[str, ItemT]) -> None:
        """Serve what lay in the slots, at least one item; must not raise."""

    def close(self) -> None:
        """Free everything."""


class LatestWinsWorker(Generic[T]):
    """A thread with slots, each with room for one waiting item; a newer item replaces an older.

    With one slot it serves an item as soon as it is free. With several, the first item to arrive
    opens a window: what lies in the slots is served together once every slot has an item, or the
    window ends. A slot that missed some batches in a row is not waited for until it has an item
    again: one that is silent costs the others nothing.

    It takes items only between `resume` and `pause`. Its thread opens the session, so that an
    engine bound to a thread (a CUDA context) is made, used and freed by the same one.
    """

    def __init__(
        self,
        name: str,
        open_session: Callable[[], Session[T]],
        slots: Sequence[str] = ("",),
        window_s: float = 0.0,
    ) -> None:
        """Prepare; `start` does the work.

        Args:
            name: name of the thread.
            open_session: makes the session, in the worker's thread.
            slots: names of the slots, at least one.
            window_s: how long the first item waits for those of the other slots.

        """
        self._open_session = open_session
        self._window_s = window_s
        self._changed = threading.Condition()
        self._items: dict[str, T] = {}
        self._missed = dict.fromkeys(slots, 0)
        # When the window ends that the first of the waiting items opened.
        self._deadline = 0.0
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

    def offer(self, item: T, slot: str = "") -> bool:
        """Hand over an item.

        Args:
            item: what is to be served.
            slot: where it waits.

        Returns:
            False where an item was lost: an older one that was still waiting, or this one because
            the worker is paused.

        """
        with self._changed:
            if not self._accepting:
                return False
            if not self._items:
                self._deadline = time.monotonic() + self._window_s
            displaced = slot in self._items
            self._items[slot] = item
            self._changed.notify_all()
            return not displaced

    def resume(self) -> None:
        """Take items from now on."""
        with self._changed:
            self._accepting = True

    def pause(self, timeout_s: float | None = None) -> bool:
        """Take no more items, forget the waiting ones and wait for those in work.

        Returns:
            False where those in work were not done within `timeout_s`.

        """
        with self._changed:
            self._accepting = False
            self._items.clear()
            return self._changed.wait_for(lambda: not self._busy, timeout_s)

    def stop(self, timeout_s: float | None = None) -> bool:
        """Pause, close the session and end the thread; calling it again does nothing.

        Returns:
            False where the thread was still at work after `timeout_s`.

        """
        with self._changed:
            self._accepting = False
            self._items.clear()
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
            while (items := self._take()) is not None:
                session.serve(items)
                del items
        finally:
            session.close()

    def _take(self) -> dict[str, T] | None:
        with self._changed:
            self._busy = False
            self._changed.notify_all()
            while not (self._stopping or self._complete()):
                # Without an item there is nothing that time could complete.
                left = self._deadline - time.monotonic() if self._items else None
                self._changed.wait(left)
            if self._stopping:
                return None
            items = {slot: self._items[slot] for slot in self._missed if slot in self._items}
            self._items.clear()
            for slot in self._missed:
                self._missed[slot] = 0 if slot in items else self._missed[slot] + 1
            self._busy = True
            return items

    def _complete(self) -> bool:
        """Tell whether there is something to serve, and nothing left to wait for."""
        if not self._items:
            return False
        awaited = (slot for slot, missed in self._missed.items() if missed < _PATIENCE)
        return time.monotonic() >= self._deadline or all(slot in self._items for slot in awaited)
