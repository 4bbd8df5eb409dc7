# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Memory, events, overlap and graphs on a real card. What the stub promises must hold there."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from helpers_gpu import ADD, LONG, SPIN

from av_compress.engines.cuda import (
    CudaContext,
    CudaError,
    copy_in,
    copy_out,
    elapsed_ns,
    find_device,
    list_devices,
)

pytestmark = pytest.mark.gpu
ONE = (1, 1, 1)


def spin(context: CudaContext, stream, cycles: int = LONG):
    """Keep a stream busy; return what the kernel writes to."""
    buffer = context.device_buffer(8)
    kernel = context.load(SPIN).kernel("spin")
    kernel.launch(stream, ONE, ONE, buffer, np.uint64(cycles))
    return buffer


def test_the_card_says_what_it_is(context):
    device = context.device
    assert device == list_devices()[0] == find_device(device.uuid)
    assert device.name
    major, minor = map(int, device.capability.split("."))
    assert (major, minor) >= (5, 0)
    assert 0 < context.free_bytes() <= device.total_bytes


@pytest.mark.parametrize("page_locked", [True, False])
@pytest.mark.parametrize("nbytes", [1, 4096, 1 << 24])
def test_what_is_copied_in_comes_out(context, nbytes: int, page_locked: bool):
    stream, buffer = context.stream(), context.device_buffer(nbytes)
    source = np.random.default_rng(nbytes).integers(0, 256, nbytes, np.uint8)
    there, back = source.copy(), np.zeros_like(source)
    if page_locked:
        there, back = (context.pinned((nbytes,), np.uint8) for _ in range(2))
        np.copyto(there, source)
    copy_in(stream, buffer, there)
    copy_out(stream, back, buffer)
    stream.synchronize()
    np.testing.assert_array_equal(back, source)


def test_parts_of_a_buffer_are_copied_where_they_belong(context):
    stream, buffer = context.stream(), context.device_buffer(12)
    copy_in(stream, buffer, np.zeros(12, np.uint8))
    copy_in(stream, buffer, np.arange(1, 5, dtype=np.uint8), offset=4)
    back = np.empty(12, np.uint8)
    copy_out(stream, back, buffer)
    stream.synchronize()
    assert back.tolist() == [0] * 4 + [1, 2, 3, 4] + [0] * 4


def test_more_memory_than_there_is_is_refused_with_the_figures(context):
    nbytes = context.device.total_bytes * 4
    with pytest.raises(CudaError, match=f"{nbytes} bytes are asked for") as caught:
        context.device_buffer(nbytes)
    assert caught.value.reason == "out_of_memory"
    # The context is not lost.
    assert not context.lost
    context.device_buffer(16).free()


def test_freed_memory_is_free_again(context):
    nbytes = context.free_bytes() // 4
    for _ in range(8):
        context.device_buffer(nbytes).free()


def test_page_locked_arrays_stay_readable_after_the_context_is_closed():
    pytest.importorskip("pycuda.driver", reason="PyCUDA is not installed")
    with CudaContext.open() as context:
        stream, buffer = context.stream(), context.device_buffer(4)
        array, back = (context.pinned((4,), np.uint8) for _ in range(2))
        array[:] = (1, 2, 3, 4)
        copy_in(stream, buffer, array)
        copy_out(stream, back, buffer)
    # Closing waits for what was under way.
    assert back.tolist() == [1, 2, 3, 4]


def test_another_thread_is_refused(context):
    said: list[str] = []

    def use() -> None:
        try:
            context.stream()
        except CudaError as error:
            said.append(error.reason)

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert said == ["wrong_thread"]


def test_events_come_in_their_order_and_measure_the_work_between(context):
    stream = context.stream()
    before, after = context.event(), context.event()
    before.record(stream)
    spun = spin(context, stream)
    after.record(stream)
    assert not after.done()
    with pytest.raises(CudaError, match="not ready"):
        elapsed_ns(before, after)
    after.synchronize()
    assert before.done()
    assert after.done()
    cycles = np.empty(1, np.uint64)
    copy_out(stream, cycles, spun)
    stream.synchronize()
    assert cycles[0] >= LONG
    # No card's clock is beyond 10 GHz.
    assert elapsed_ns(before, after) >= LONG / 10


def test_a_copy_runs_beside_a_kernel(context):
    computing, copying = context.stream(), context.stream()
    array, back = (context.pinned((1 << 20,), np.uint8) for _ in range(2))
    array[:] = 7
    buffer, copied, computed = context.device_buffer(1 << 20), context.event(), context.event()
    spin(context, computing)
    computed.record(computing)
    copy_in(copying, buffer, array)
    copy_out(copying, back, buffer)
    copied.record(copying)
    copied.synchronize()
    # Both copies are done, and the kernel that was launched before them is not.
    assert not computed.done()
    assert (back == 7).all()
    computed.synchronize()


def test_a_stream_waits_for_an_event_of_another(context):
    computing, copying = context.stream(), context.stream()
    number = spin(context, computing, LONG // 10)
    computed = context.event()
    computed.record(computing)
    copying.wait(computed)
    back = context.pinned((1,), np.uint64)
    copy_out(copying, back, number)
    copying.synchronize()
    assert back[0] >= LONG // 10


def test_a_graph_does_again_what_was_recorded(context):
    stream, buffer = context.stream(), context.device_buffer(4)
    kernel = context.load(ADD).kernel("add")
    start, back = context.pinned((1,), np.uint32), context.pinned((1,), np.uint32)
    start[0], back[0] = 40, 0

    def work() -> None:
        copy_in(stream, buffer, start)
        kernel.launch(stream, ONE, ONE, buffer, np.uint32(2))
        copy_out(stream, back, buffer)

    graph = context.capture(stream, work)
    stream.synchronize()
    # Recorded is not done.
    assert back[0] == 0
    for value in (40, 100):
        start[0] = value
        graph.launch(stream)
        stream.synchronize()
        assert back[0] == value + 2
    graph.free()


def test_a_recording_that_waits_is_refused_and_the_stream_serves_on(context):
    stream, buffer = context.stream(), context.device_buffer(4)
    with pytest.raises(CudaError):
        context.capture(stream, stream.synchronize)
    array, back = np.arange(4, dtype=np.uint8), np.empty(4, np.uint8)
    copy_in(stream, buffer, array)
    copy_out(stream, back, buffer)
    stream.synchronize()
    assert back.tolist() == [0, 1, 2, 3]


def test_kernels_that_are_none_are_refused(context):
    with pytest.raises(CudaError, match="kernels do not load on GPU 0"):
        context.load(b"no kernel")
    with pytest.raises(CudaError):
        context.load(ADD).kernel("subtract")
