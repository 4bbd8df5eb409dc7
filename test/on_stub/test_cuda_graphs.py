# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Recorded work is not done, and is done again at each replay."""

import numpy as np
import pytest

from av_compress.engines.cuda import CudaError, copy_in, copy_out


class Work:
    """Bytes in and out again, the way back on a second stream when `fork` is set."""

    def __init__(self, context, fork: bool = False, join: bool = True) -> None:
        self.stream, self.other = context.stream(), context.stream()
        self.buffer = context.device_buffer(4)
        self.source = context.pinned((4,), np.uint8)
        self.result = context.pinned((4,), np.uint8)
        self.here, self.there = context.event(), context.event()
        self.fork, self.join = fork, join

    def __call__(self) -> None:
        copy_in(self.stream, self.buffer, self.source)
        if not self.fork:
            copy_out(self.stream, self.result, self.buffer)
            return
        self.here.record(self.stream)
        self.other.wait(self.here)
        copy_out(self.other, self.result, self.buffer)
        self.there.record(self.other)
        if self.join:
            self.stream.wait(self.there)


@pytest.mark.parametrize("fork", [False, True])
def test_a_graph_replays_what_was_recorded(stub, context, fork):
    work = Work(context, fork)
    work.source[:], work.result[:] = 1, 0
    graph = context.capture(work.stream, work)
    work.stream.synchronize()
    assert work.result.tolist() == [0] * 4
    for value in (3, 4):
        work.source[:] = value
        stub.clear()
        graph.launch(work.stream)
        work.stream.synchronize()
        assert work.result.tolist() == [value] * 4
        assert stub.count("cuGraphLaunch") == 1
        assert not any(name.startswith("cuMem") for name in stub.called())
    graph.free()
    assert stub.live("graphs") == 0
    with pytest.raises(CudaError, match="this Graph was freed"):
        graph.launch(work.stream)


def test_a_graph_keeps_its_place_among_other_work(context):
    work = Work(context)
    before, after = context.pinned((4,), np.uint8), context.pinned((4,), np.uint8)
    before[:], work.source[:], work.result[:] = 7, 8, 0
    graph = context.capture(work.stream, work)
    copy_in(work.stream, work.buffer, before)
    graph.launch(work.stream)
    copy_out(work.stream, after, work.buffer)
    assert work.result.tolist() == [0] * 4
    work.stream.synchronize()
    assert work.result.tolist() == after.tolist() == [8] * 4


@pytest.mark.parametrize("what", ["allocate", "wait", "raise"])
def test_what_cannot_be_recorded_is_refused_and_the_stream_is_usable_again(stub, context, what):
    work = Work(context)

    def action() -> None:
        work()
        if what == "allocate":
            context.device_buffer(4)
        elif what == "wait":
            work.stream.synchronize()
        else:
            raise ZeroDivisionError

    expected = ZeroDivisionError if what == "raise" else CudaError
    with pytest.raises(expected) as caught:
        context.capture(work.stream, action)
    if expected is CudaError:
        assert caught.value.reason == "capture"
        assert "nothing that waits or allocates" in str(caught.value)
    assert (stub.live("graphs"), stub.pushed()) == (0, 0)
    work.source[:] = 6
    work()
    work.stream.synchronize()
    assert work.result.tolist() == [6] * 4


def test_a_second_stream_must_come_back(context):
    work = Work(context, fork=True, join=False)
    with pytest.raises(CudaError, match="before all forked streams were joined") as caught:
        context.capture(work.stream, work)
    assert caught.value.reason == "capture"


def test_a_driver_without_graphs_is_too_old(context, monkeypatch):
    driver = context._owner.driver

    class Older:
        def __getattr__(self, name: str):
            if "Capture" in name:
                raise AttributeError(name)
            return getattr(driver.library, name)

    older = type(driver)(driver.cuda, Older(), driver.texts)
    monkeypatch.setattr(context._owner, "driver", older)
    work = Work(context)
    with pytest.raises(CudaError, match=r"13\.5 has no cuStreamBeginCapture") as caught:
        context.capture(work.stream, work)
    assert caught.value.reason == "driver_too_old"
