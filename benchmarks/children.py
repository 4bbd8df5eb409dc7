# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Works that run at once, each in a process of its own; none of them can hang the benchmark."""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

# How often it is looked whether a process still lives.
LOOK_S = 0.2
# How long it has to leave.
LEAVE_S = 5.0

Work = Callable[[Callable[[], object]], Any]


def run_at_once(works: Mapping[str, Work], limit_s: float) -> list[Any]:
    """Run works at once, each in a new process.

    Args:
        works: name -> what is done; can be pickled, as its result. Is given a function that
            returns once all works have called it, and raises where one never will.
        limit_s: seconds that all of it may take.

    Returns:
        The results, in order.

    Raises:
        SystemExit: a work failed, its process ended without a result, or time ran out; says which.

    """
    context = multiprocessing.get_context("spawn")
    start, results = context.Barrier(len(works)), context.Queue()
    processes = [
        context.Process(target=_report, args=(results, index, work, start, limit_s))
        for index, work in enumerate(works.values())
    ]
    for process in processes:
        process.start()
    patience_s = 0.0
    try:
        found = _collect(list(works), processes, results, time.monotonic() + limit_s)
        patience_s = LEAVE_S
    finally:
        for process in processes:
            _end(process, patience_s)
    return [found[index] for index in range(len(works))]


def _collect(
    names: Sequence[str], processes: Sequence[Any], results: Any, end: float
) -> dict[int, Any]:
    """Return results by number; the first fault is raised."""
    found: dict[int, Any] = {}
    while len(found) < len(names):
        # Before the queue is looked at: all that a process told is in there once it has ended.
        codes = {i: one.exitcode for i, one in enumerate(processes) if one.exitcode is not None}
        try:
            index, value, fault = results.get(timeout=LOOK_S)
        except queue.Empty:
            for i in sorted(codes.keys() - found.keys()):
                raise SystemExit(f"{names[i]}: {_ending(codes[i])}") from None
            if time.monotonic() > end:
                late = ", ".join(name for i, name in enumerate(names) if i not in found)
                raise SystemExit(f"{late}: no result in the time that was given") from None
            continue
        if fault is not None:
            raise SystemExit(f"{names[index]}: {fault}")
        found[index] = value
    return found


def _ending(code: int) -> str:
    how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    return f"its process ended with {how} and reported nothing"


def _report(results: Any, index: int, work: Work, start: Any, limit_s: float) -> None:
    # What it starts belongs to its group, and can be ended with it.
    os.setsid()
    try:
        results.put((index, work(partial(start.wait, limit_s)), None))
    except threading.BrokenBarrierError:
        results.put((index, None, None))  # Another one's fault, which that one tells of.
    except Exception as error:
        results.put((index, None, repr(error)))
        start.abort()


def _end(process: Any, patience_s: float) -> None:
    """End a process, and what it left running."""
    process.join(patience_s)
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sign)
        except ProcessLookupError:
            process.kill()  # It has ended, or has no group yet, and has started nothing.
        process.join(LEAVE_S)
        if process.exitcode is not None:
            return
