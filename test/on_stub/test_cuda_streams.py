# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Streams, events and copies; what a missing wait does; and that frames allocate nothing."""

from __future__ import annotations

import numpy as np
import pytest

from av_compress.engines.cuda import CudaContext, CudaError, copy_in, copy_out, elapsed_ns, fill

FRAMES = 6
NBYTES = 32


def test_what_is_queued_happens_at_a_wait_and_not_before(stub, context):
    stream, buffer = context.stream(), context.device_buffer(4)
    source, result = context.pinned((4,), np.uint8), context.pinned((4,), np.uint8)
    source[:], result[:] = 1, 0
    copy_in(stream, buffer, source)
    copy_out(stream, result, buffer)
    assert result.tolist() == [0] * 4
    # Page-locked memory is read when the stream comes to it: who writes too early, loses.
    source[:] = 2
    stream.synchronize()
    assert result.tolist() == [2] * 4


def test_an_event_that_is_recorded_elsewhere_meanwhile_is_waited_for_where_it_was(context):
    one, other, event = context.stream(), context.stream(), context.event()
    first, second = context.device_buffer(4), context.device_buffer(4)
    source, result = context.pinned((4,), np.uint8), context.pinned((4,), np.uint8)
    source[:], result[:] = 5, 0
    copy_in(one, first, source)
    copy_out(one, result, first)
    event.record(one)
    other.wait(event)
    copy_in(other, second, source)
    event.record(other)
    event.synchronize()
    assert result.tolist() == [5] * 4


def test_memory_that_is_not_page_locked_is_copied_at_the_call(stub, context):
    stream, buffer = context.stream(), context.device_buffer(4)
    source, result = np.ones(4, np.uint8), np.zeros(4, np.uint8)
    copy_in(stream, buffer, source)
    source[:] = 2
    copy_out(stream, result, buffer)
    assert result.tolist() == [1] * 4
    assert stub.count("pageable copy") == 2
    assert stub.count("implicit synchronisation") == 1


def test_events_are_reached_in_their_order_and_measure(context):
    stream, buffer = context.stream(), context.device_buffer(1000)
    array = context.pinned((1000,), np.uint8)
    start, end = context.event(), context.event()
    start.record(stream)
    copy_in(stream, buffer, array)
    end.record(stream)
    with pytest.raises(CudaError, match="not ready"):
        elapsed_ns(start, end)
    assert not end.done()
    end.synchronize()
    assert end.done()
    # The stub's clock: a copy takes 1000 ns and a tenth of a nanosecond a byte.
    assert elapsed_ns(start, end) == 1100
    untimed = context.event(timing=False)
    untimed.record(stream)
    untimed.synchronize()
    with pytest.raises(CudaError, match="invalid resource handle"):
        elapsed_ns(start, untimed)


def test_polling_comes_to_an_end(context):
    stream, buffer, event = context.stream(), context.device_buffer(4), context.event()
    for _ in range(3):
        copy_in(stream, buffer, np.zeros(4, np.uint8))
    event.record(stream)
    answers = [event.done() for _ in range(5)]
    assert answers == [False] * 4 + [True]


def test_a_stream_waits_for_anothers_event_and_for_no_more(context):
    first, second = context.stream(), context.stream()
    buffer, event = context.device_buffer(4), context.event()
    one, two = context.pinned((4,), np.uint8), context.pinned((4,), np.uint8)
    result = context.pinned((4,), np.uint8)
    one[:], two[:] = 1, 2
    copy_in(first, buffer, one)
    event.record(first)
    copy_in(first, buffer, two)
    second.wait(event)
    copy_out(second, result, buffer)
    second.synchronize()
    assert result.tolist() == [1] * 4
    first.synchronize()


@pytest.mark.parametrize(
    ("source", "offset", "words"),
    [
        (np.zeros(17, np.uint8), 0, "17 bytes are copied to a device buffer of 16 at 0"),
        (np.zeros(4, np.float32), 4, "16 bytes are copied to a device buffer of 16 at 4"),
        (np.zeros(4, np.uint8), -1, "of 16 at -1"),
        (np.zeros((4, 4), np.uint8)[:, ::2], 0, "is not contiguous"),
    ],
)
def test_a_copy_that_does_not_fit_is_refused(stub, context, source, offset, words):
    stream, buffer = context.stream(), context.device_buffer(16)
    stub.clear()
    with pytest.raises(CudaError, match=words) as caught:
        copy_in(stream, buffer, source, offset)
    assert caught.value.reason == "argument"
    with pytest.raises(CudaError, match=words.replace(" to ", " from ")):
        copy_out(stream, source, buffer, offset)
    assert not any(name.startswith("cuMemcpy") for name in stub.called())


def test_the_beginning_of_a_buffer_is_filled_when_the_stream_comes_to_it(context):
    stream, buffer, result = context.stream(), context.device_buffer(8), np.empty(8, np.uint8)
    fill(stream, buffer, 255, 8)
    fill(stream, buffer, 0, 5)
    fill(stream, buffer, 9, 0)
    copy_out(stream, result, buffer)
    assert result.tolist() == [0] * 5 + [255] * 3
    with pytest.raises(CudaError, match="9 bytes are set of a device buffer of 8"):
        fill(stream, buffer, 0, 9)
    buffer.free()
    with pytest.raises(CudaError, match="was freed"):
        fill(stream, buffer, 0, 5)


def test_copies_to_places_within_a_buffer(context):
    stream, buffer = context.stream(), context.device_buffer(16)
    for place in range(4):
        copy_in(stream, buffer, np.full(4, place, np.uint8), 4 * place)
    copy_in(stream, buffer, np.zeros(0, np.uint8))
    result = np.zeros(8, np.uint8)
    copy_out(stream, result, buffer, 4)
    assert result.tolist() == [1] * 4 + [2] * 4
    result.flags.writeable = False
    with pytest.raises(CudaError, match="read-only"):
        copy_out(stream, result, buffer)


class DoubleBuffered:
    """Frames through two slots and three streams: in, execute (here a copy), out."""

    def __init__(self, context: CudaContext, without: str = "") -> None:
        self.context, self.without = context, without
        self.into, self.execute, self.out = (context.stream() for _ in range(3))
        self.input = [context.device_buffer(NBYTES) for _ in range(2)]
        self.output = [context.device_buffer(NBYTES) for _ in range(2)]
        self.sent = [context.pinned((NBYTES,), np.uint8) for _ in range(2)]
        self.got = [context.pinned((NBYTES,), np.uint8) for _ in range(2)]
        self.arrived, self.executed, self.left = (
            [context.event() for _ in range(2)] for _ in range(3)
        )

    def submit(self, frame: np.ndarray, slot: int) -> None:
        with self.context.active():
            if self.without != "host":
                self.arrived[slot].synchronize()  # The slot's earlier bytes have been read.
            self.sent[slot][:] = frame
            self.wait(self.into, self.executed[slot], "input")
            copy_in(self.into, self.input[slot], self.sent[slot])
            self.arrived[slot].record(self.into)
            self.wait(self.execute, self.arrived[slot], "arrived")
            self.wait(self.execute, self.left[slot], "output")
            self.run(slot)
            self.executed[slot].record(self.execute)
            self.wait(self.out, self.executed[slot], "executed")
            copy_out(self.out, self.got[slot], self.output[slot])
            self.left[slot].record(self.out)

    def wait(self, stream, event, name: str) -> None:
        if self.without != name:
            stream.wait(event)

    def run(self, slot: int) -> None:
        cuda = self.context._owner.driver.cuda
        source, target = self.input[slot].address, self.output[slot].address
        cuda.memcpy_dtod_async(target, source, NBYTES, self.execute.raw)

    def take(self, slot: int) -> np.ndarray:
        if self.without != "result":
            self.left[slot].synchronize()
        return self.got[slot].copy()


def frames() -> list[np.ndarray]:
    return list(np.random.default_rng(1).integers(0, 256, (FRAMES, NBYTES), dtype=np.uint8))


def passed(double: DoubleBuffered) -> list[np.ndarray]:
    """Keep one frame under way while the next is sent."""
    results = []
    for number, frame in enumerate(frames()):
        double.submit(frame, number % 2)
        if number:
            results.append(double.take((number - 1) % 2))
    return [*results, double.take((FRAMES - 1) % 2)]


def right(results: list[np.ndarray]) -> bool:
    return bool(np.array_equal(results, frames()))


def test_two_slots_give_every_frame_its_own_bytes(context):
    assert right(passed(DoubleBuffered(context)))


@pytest.mark.parametrize("without", ["arrived", "executed", "result"])
def test_a_wait_that_is_missing_gives_wrong_bytes(context, without):
    """The proof that the stub is strict: what needs a wait fails without it."""
    assert not right(passed(DoubleBuffered(context, without)))


@pytest.mark.parametrize("without", ["", "host"])
def test_a_slot_that_is_filled_too_early_gives_wrong_bytes(context, without):
    double = DoubleBuffered(context, without)
    first, second, third = frames()[:3]
    double.submit(first, 0)
    double.submit(second, 1)
    if not without:
        # What take() waits for, before the slot is filled again.
        got = [double.take(0), double.take(1)]
        double.submit(third, 0)
        assert np.array_equal([*got, double.take(0)], [first, second, third])
        return
    double.submit(third, 0)
    assert not np.array_equal(double.take(0), first)


def test_a_frame_allocates_nothing_and_waits_for_nothing_by_the_way(stub, context):
    double = DoubleBuffered(context)
    passed(double)
    stub.clear()
    assert right(passed(double))
    called = stub.called()
    allowed = {
        "cuCtxPushCurrent", "cuCtxPopCurrent", "cuEventSynchronize", "cuEventRecord",
        "cuStreamWaitEvent", "cuMemcpyHtoDAsync", "cuMemcpyDtoHAsync", "cuMemcpyDtoDAsync",
    }  # fmt: skip
    assert set(called) <= allowed
    assert called["cuMemcpyHtoDAsync"] == called["cuMemcpyDtoHAsync"] == FRAMES
    # Once to send, once to take.
    assert called["cuCtxPushCurrent"] == 2 * FRAMES
