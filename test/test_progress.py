# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Interrupts reach the work even where Python or a library drops them."""

import contextlib
import os
import signal
import threading

import pytest

from av_compress.progress import interruptible, track


@pytest.fixture(autouse=True)
def python_s_own_handler():
    """Start as a fresh process does: an earlier test may have left ROS's handler behind."""
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    # None: installed outside Python, and not to be had back.
    if before is not None:
        signal.signal(signal.SIGINT, before)


class Finalised:
    """Sends itself SIGINT while Python ignores exceptions."""

    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        # The handler runs between two of these.
        for _ in range(1000):
            pass


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_that_python_drops_ends_the_work():
    seen = []
    with pytest.raises(KeyboardInterrupt), interruptible():
        for item in track(range(5), "work"):
            seen.append(item)
            if item == 1:
                victim = Finalised()
                del victim
    assert seen == [0, 1]


def test_an_interrupt_that_a_library_catches_ends_the_work():
    with pytest.raises(KeyboardInterrupt), interruptible():
        with contextlib.suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        list(track([1], "work"))


def test_the_handler_is_put_back_and_forgets():
    before = signal.getsignal(signal.SIGINT)
    with interruptible(), contextlib.suppress(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
    assert list(track([1, 2], "work")) == [1, 2]


def test_other_threads_leave_the_handler_alone():
    handlers = []

    def work() -> None:
        with interruptible():
            handlers.append(signal.getsignal(signal.SIGINT))

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert handlers == [before]
