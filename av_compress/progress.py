# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Progress of work that may take over two seconds: bars, and interrupts that are never lost."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TextIO, TypeVar

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


class Elapsed:
    """A line that tells how long work lasts that does not tell how far it is.

    Shown on a terminal alone, as `track` does, once the work has lasted two seconds.
    """

    def __init__(
        self, label: str, stream: TextIO, delay_s: float = 2.0, period_s: float = 1.0
    ) -> None:
        """Start.

        Args:
            label: what is being done.
            stream: where the line is shown.
            delay_s: how long nothing is shown.
            period_s: how long the line stays as it is.

        """
        self._label, self._stream = label, stream
        self._delay_s, self._period_s = delay_s, period_s
        self._started = time.monotonic()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        if stream.isatty():
            self._thread = threading.Thread(target=self._show, name="elapsed", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Take the line away; calling it again does nothing."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _show(self) -> None:
        width, wait = 0, self._delay_s
        while not self._stop.wait(wait):
            text = f"{self._label}: {clock(time.monotonic() - self._started)}"
            width, wait = max(width, len(text)), self._period_s
            self._stream.write(f"\r{text}")
            self._stream.flush()
        if width:
            self._stream.write(f"\r{' ' * width}\r")
            self._stream.flush()


def clock(seconds: float) -> str:
    """Write a duration as `0:07`, `12:34` or `1:02:03`."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
