# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Progress of work that may take over two seconds: bars, and interrupts that are never lost."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")


class InterruptHandler:
    """Raises KeyboardInterrupt at SIGINT, and remembers that it was asked to.

    Python drops an exception that is raised while a finaliser or a weak reference's callback runs,
    and some libraries catch everything: work that asks `check` between its steps still ends.
    """

    def __init__(self) -> None:
        """Start with nothing asked."""
        self._asked = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle the signal."""
        self._asked = True
        raise KeyboardInterrupt

    def check(self) -> None:
        """Raise KeyboardInterrupt where the signal came."""
        if self._asked:
            raise KeyboardInterrupt


@contextmanager
def interruptible() -> Iterator[None]:
    """Let no SIGINT be lost, as far as the work inside goes through `track`."""
    standard = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    # Signals are the main thread's; a handler that somebody else chose stays.
    if not standard or threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = InterruptHandler()
    signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def check_interrupt() -> None:
    """Raise KeyboardInterrupt where a SIGINT came since `interruptible` began."""
    handler = signal.getsignal(signal.SIGINT)
    if isinstance(handler, InterruptHandler):
        handler.check()


def track(items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
    """Iterate with a bar on stderr, shown on a terminal once the work has lasted two seconds.

    Args:
        items: what to iterate over.
        label: what is being done, e.g. `calibrate`.
        total: number of items where `items` has no length.

    """
    bar = tqdm(
        items, desc=label, total=total, delay=2.0, file=sys.stderr, disable=None, leave=False
    )
    for item in bar:
        check_interrupt()
        yield item
    check_interrupt()
