# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""One thread owns a context; it is pushed where it is used, and gone when it is closed."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from av_compress.engines.cuda import CudaContext, CudaError, copy_in, copy_out


def test_nothing_is_pushed_but_while_it_is_used(stub, context):
    assert stub.pushed() == 0
    with context.active():
        assert stub.pushed() == 1
        with context.active():
            assert stub.pushed() == 1
        assert stub.pushed() == 1
        assert context.free_bytes() == context.device.total_bytes
    assert stub.pushed() == 0
    stub.clear()
    with context.active():
        stream, buffer = context.stream(), context.device_buffer(16)
        copy_in(stream, buffer, np.zeros(4, np.float32))
        stream.synchronize()
    assert stub.count("cuCtxPushCurrent") == stub.count("cuCtxPopCurrent") == 1


def test_what_fails_inside_leaves_nothing_pushed(stub, context):
    with pytest.raises(ZeroDivisionError), context.active():
        _ = 1 / 0
    stub.fail("cuStreamCreate", 1, times=1)
    with pytest.raises(CudaError):
        context.stream()
    assert stub.pushed() == 0


def test_another_thread_is_refused_and_both_are_named(context):
    stream = context.stream()
    buffer = context.device_buffer(4)
    array = np.zeros(4, np.uint8)
    uses = {
        "active": lambda: context.active().__enter__(),
        "free_bytes": context.free_bytes,
        "stream": context.stream,
        "synchronize": stream.synchronize,
        "copy_in": lambda: copy_in(stream, buffer, array),
        "copy_out": lambda: copy_out(stream, array, buffer),
        "free": buffer.free,
        "close": context.close,
    }
    with ThreadPoolExecutor(1, thread_name_prefix="callback") as pool:
        for name, use in uses.items():
            error = pool.submit(use).exception()
            assert isinstance(error, CudaError), name
            assert error.reason == "wrong_thread"
            assert "'MainThread'" in str(error)
            assert "'callback_0'" in str(error)


def test_the_driver_hears_only_of_the_owning_thread(stub):
    with ThreadPoolExecutor(1) as pool:
        context = pool.submit(CudaContext.open).result()
        buffer = pool.submit(context.device_buffer, 64).result()
        with pytest.raises(CudaError):
            buffer.free()
        owner = pool.submit(threading.get_native_id).result()
        pool.submit(context.close).result()
    for name in ("cuCtxPushCurrent", "cuMemAlloc", "cuMemFree", "cuDevicePrimaryCtxRelease"):
        assert stub.count(name) == stub.count(name, owner) > 0, name
    assert stub.count("cuMemAlloc", threading.get_native_id()) == 0


def test_closing_frees_everything_and_twice_is_once(stub):
    context = CudaContext.open()
    stream, event = context.stream(), context.event()
    buffer, pinned = context.device_buffer(100), context.pinned((3, 2), np.float16)
    pinned[:] = 7
    assert stub.all_live() == {
        "device": 1, "pinned": 1, "streams": 1, "events": 1, "contexts": 1,
    }  # fmt: skip
    context.close()
    assert stub.all_live() == {}
    assert stub.pushed() == 0
    context.close()
    assert stub.count("cuDevicePrimaryCtxRelease") == 1
    # Page-locked memory has become ordinary memory, and not a hole.
    assert pinned.tolist() == [[7, 7]] * 3
    buffer.free()
    for use in (stream.synchronize, lambda: event.record(stream), context.stream):
        with pytest.raises(CudaError, match="is closed") as caught:
            use()
        assert caught.value.reason == "closed"


def test_closing_waits_for_what_is_under_way(stub):
    context = CudaContext.open()
    stream, buffer = context.stream(), context.device_buffer(4)
    source, result = context.pinned((4,), np.uint8), context.pinned((4,), np.uint8)
    source[:] = 5
    copy_in(stream, buffer, source)
    copy_out(stream, result, buffer)
    context.close()
    assert result.tolist() == [5] * 4


def test_closing_in_use_is_refused(context):
    with context.active(), pytest.raises(CudaError, match="closed while it is in use"):
        context.close()


def test_what_is_freed_is_not_used_again(stub, context):
    buffer, stream = context.device_buffer(64), context.stream()
    free = context.free_bytes()
    buffer.free()
    buffer.free()
    assert context.free_bytes() == free + 256
    assert stub.count("cuMemFree") == 1
    with pytest.raises(CudaError, match="this DeviceBuffer was freed and is used again"):
        copy_in(stream, buffer, np.zeros(4, np.uint8))
    event = context.event()
    event.free()
    stream.free()
    assert (stub.live("events"), stub.live("streams")) == (0, 0)
    with pytest.raises(CudaError, match="this Event was freed"):
        event.synchronize()


def test_two_contexts_of_one_device_are_apart(stub):
    with CudaContext.open() as first, CudaContext.open() as second:
        buffer = first.device_buffer(64)
        second.device_buffer(64)
        assert stub.live("contexts") == 2
        with first.active(), second.active():
            assert stub.pushed() == 1  # PyCUDA keeps one on the driver's stack.
            buffer.free()
        second.close()
        assert (stub.live("contexts"), stub.live("device")) == (1, 0)
        first.device_buffer(64)


def test_what_nobody_closed_is_closed_when_it_is_collected(stub):
    kept = [CudaContext.open()]
    kept[0].stream()
    kept[0].device_buffer(64)
    with pytest.warns(ResourceWarning, match=r"GPU 0 \(Stub 0\) was not closed"):
        kept.clear()  # What it made knows it, and it does not know that: there is no cycle.
    assert stub.all_live() == {}


def test_what_a_thread_left_behind_is_left_to_the_process(stub, capfd):
    kept = []
    thread = threading.Thread(target=lambda: kept.append(CudaContext.open()))
    thread.start()
    thread.join()
    with pytest.warns(ResourceWarning, match="was not closed"):
        kept.clear()
    assert stub.count("cuDevicePrimaryCtxRelease") == 0
    assert capfd.readouterr().err == ""
    stub.reset()


def test_a_callback_of_a_ros_executor_hands_work_to_the_owner(stub):
    rclpy = pytest.importorskip("rclpy", reason="rclpy is not installed (extra: ros)")
    from rclpy.callback_groups import ReentrantCallbackGroup
    from rclpy.executors import MultiThreadedExecutor

    rclpy.init()
    node = rclpy.create_node("cuda_on_stub")
    executor = MultiThreadedExecutor(3)
    executor.add_node(node)
    worker = ThreadPoolExecutor(1, thread_name_prefix="engine")
    context = worker.submit(CudaContext.open).result()
    stream = worker.submit(context.stream).result()
    buffer = worker.submit(context.device_buffer, 4).result()
    results, refused = [], []
    enough = threading.Event()

    def run(value: int) -> list[int]:
        array = np.full(4, value, np.uint8)
        with context.active():
            copy_in(stream, buffer, array)
            array[:] = 0
            copy_out(stream, array, buffer)
            stream.synchronize()
        return array.tolist()

    def callback() -> None:
        try:
            stream.synchronize()
        except CudaError as error:
            refused.append(error.reason)
        results.append(worker.submit(run, 9).result())
        if len(results) >= 8:
            enough.set()

    group = ReentrantCallbackGroup()
    for _ in range(3):
        node.create_timer(0.001, callback, callback_group=group)
    spinning = threading.Thread(target=executor.spin)
    spinning.start()
    assert enough.wait(60)
    executor.shutdown()
    spinning.join()
    worker.submit(context.close).result()
    worker.shutdown()
    node.destroy_node()
    rclpy.try_shutdown()
    assert set(refused) == {"wrong_thread"}
    assert all(result == [9] * 4 for result in results)
