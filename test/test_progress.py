# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Interrupts reach the work even where Python or a library drops them."""

import contextlib
import io
import os
import signal
import sys
import threading
import time

import pytest

from av_compress.cli.compile import _Bars
from av_compress.progress import Elapsed, clock, interruptible, track


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


class Terminal(io.StringIO):
    """What a terminal is written."""

    def isatty(self) -> bool:
        return True

    def shown(self) -> str:
        return self.getvalue().rsplit("\r", 1)[-1]


def wait_for(condition) -> None:
    for _ in range(2000):
        if condition():
            return
        time.sleep(0.005)
    pytest.fail("it never came")


def test_work_that_does_not_tell_is_shown_by_how_long_it_lasts():
    terminal = Terminal()
    line = Elapsed("compile (1:01 the last time)", terminal, 0.0, 0.01)
    wait_for(lambda: terminal.getvalue().count("\r") > 2)
    assert terminal.shown() == "compile (1:01 the last time): 0:00"
    line.close()
    line.close()
    # The line is gone, and nothing comes after.
    assert terminal.getvalue().endswith("\r" + " " * 34 + "\r")
    written = terminal.getvalue()
    assert "elapsed" not in {thread.name for thread in threading.enumerate()}
    assert terminal.getvalue() == written


def test_what_is_over_at_once_and_what_nobody_reads_shows_nothing():
    for stream in (Terminal(), io.StringIO()):
        Elapsed("work", stream, 60.0).close()
        assert stream.getvalue() == ""
    Elapsed("work", pipe := io.StringIO(), 0.0, 0.001).close()
    assert pipe.getvalue() == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (7.9, "0:07"), (60, "1:00"), (754, "12:34"), (3723, "1:02:03")],
)
def test_durations_are_written_as_on_a_clock(seconds, text):
    assert clock(seconds) == text


def test_a_compiler_that_tells_gets_a_bar_and_one_that_does_not_a_clock(monkeypatch):
    def clocks() -> int:
        return sum(thread.name == "elapsed" for thread in threading.enumerate())

    monkeypatch.setattr(sys, "stderr", Terminal())
    with _Bars() as bars:
        step = bars.watching("compile")
        assert clocks() == 1
        assert step("Timing", 1, 10)
        assert clocks() == 0
        bars.watching("compare")
        assert clocks() == 1
    assert clocks() == 0
