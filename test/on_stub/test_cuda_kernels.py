# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Kernels are loaded and launched; the host shim runs their bodies over the grid."""

import numpy as np
import pytest
from helpers_cuda_shim import build_image
from helpers_cuda_stub import TEST
from hypothesis import given
from hypothesis import strategies as st

from av_compress.engines.cuda import CudaContext, CudaError, copy_in, copy_out

EXAMPLE = TEST / "cuda_shim" / "example.cu"


@pytest.fixture
def module(context):
    return context.load(build_image(EXAMPLE))


def launched(context, module, array: np.ndarray, factor: float, block: int = 64) -> np.ndarray:
    stream, values = context.stream(), context.device_buffer(array.nbytes)
    offsets = context.device_buffer(array.nbytes)
    copy_in(stream, values, array)
    copy_in(stream, offsets, np.arange(array.size, dtype=np.float32))
    blocks = -(-array.size // block)
    module.kernel("scale").launch(
        stream,
        (blocks, 1, 1),
        (block, 1, 1),
        values,
        np.int32(array.size),
        np.float32(factor),
        offsets,
    )
    result = np.empty_like(array)
    copy_out(stream, result, values)
    return result


def test_a_kernel_computes(context, module):
    array = np.random.default_rng(1).normal(size=1000).astype(np.float32)
    expected = array * np.float32(2.5) + np.arange(1000, dtype=np.float32)
    assert np.array_equal(launched(context, module, array, 2.5), expected)


@given(st.tuples(*[st.integers(1, 4)] * 3), st.tuples(*[st.integers(1, 5)] * 3))
def test_every_thread_of_the_grid_runs_once_at_its_place(grid, block):
    with CudaContext.open() as context:
        module, stream = context.load(build_image(EXAMPLE)), context.stream()
        count = int(np.prod(grid) * np.prod(block))
        buffer = context.device_buffer(4 * count)
        module.kernel("places").launch(stream, grid, block, buffer, np.uint8(3))
        result = np.empty(count, np.uint32)
        copy_out(stream, result, buffer)
    blocks, threads = np.divmod(np.arange(count), np.prod(block))
    assert np.array_equal(result, 3 + blocks * 1000 + threads)


def test_a_launch_allocates_nothing(stub, context, module):
    stream, buffer = context.stream(), context.device_buffer(16)
    kernel = module.kernel("places")
    stub.clear()
    with context.active():
        for _ in range(5):
            kernel.launch(stream, (1, 1, 1), (4, 1, 1), buffer, np.uint8(0))
    counts = stub.called()
    assert counts.pop("cuLaunchKernel") == counts.pop("cuFuncSetBlockShape") == 5
    assert counts == {"cuCtxPushCurrent": 1, "cuCtxPopCurrent": 1}


def test_a_kernel_is_part_of_a_graph(context, module):
    stream, buffer = context.stream(), context.device_buffer(16)
    kernel, result = module.kernel("places"), context.pinned((4,), np.uint32)
    graph = context.capture(
        stream, lambda: kernel.launch(stream, (1, 1, 1), (4, 1, 1), buffer, np.uint8(9))
    )
    graph.launch(stream)
    copy_out(stream, result, buffer)
    stream.synchronize()
    assert result.tolist() == [9, 10, 11, 12]


@pytest.mark.parametrize("argument", [1, 1.0, "a", np.zeros(3), None, np.bool_(True)])
def test_an_argument_without_a_type_of_c_is_refused(context, module, argument):
    stream, buffer = context.stream(), context.device_buffer(16)
    with pytest.raises(CudaError, match="argument 1 of the kernel places is a") as caught:
        module.kernel("places").launch(stream, (1, 1, 1), (4, 1, 1), buffer, argument)
    assert caught.value.reason == "argument"


@pytest.mark.parametrize(("grid", "block"), [((0, 1, 1), (1, 1, 1)), ((1, 1, 1), (1025, 1, 1))])
def test_a_grid_that_no_device_has_is_refused(context, module, grid, block):
    stream, buffer = context.stream(), context.device_buffer(16)
    with pytest.raises(CudaError, match="cuLaunchKernel failed: invalid argument"):
        module.kernel("places").launch(stream, grid, block, buffer, np.uint8(0))


def test_a_kernel_that_is_not_there(context, module):
    with pytest.raises(CudaError, match="named symbol not found") as caught:
        module.kernel("nothing")
    assert caught.value.reason == "image"


def test_an_image_for_another_machine_names_the_device(stub, context):
    image = bytearray(build_image(EXAMPLE))
    image[18:20] = (190).to_bytes(2, "little")  # EM_CUDA
    with pytest.raises(CudaError, match=r"GPU 0 \(Stub 0, compute capability 8\.9\)") as caught:
        context.load(bytes(image))
    assert caught.value.reason == "image"
    with pytest.raises(CudaError, match="device kernel image is invalid"):
        context.load(b"no image")


def test_a_module_that_was_freed_is_not_launched(stub, context, module):
    kernel, stream, buffer = module.kernel("places"), context.stream(), context.device_buffer(16)
    module.free()
    assert stub.live("modules") == 0
    with pytest.raises(CudaError, match="this Kernel was freed"):
        kernel.launch(stream, (1, 1, 1), (4, 1, 1), buffer, np.uint8(0))


def test_a_freed_buffer_is_not_given_to_a_kernel(context, module):
    kernel, stream, buffer = module.kernel("places"), context.stream(), context.device_buffer(16)
    buffer.free()
    with pytest.raises(CudaError, match="this DeviceBuffer was freed"):
        kernel.launch(stream, (1, 1, 1), (4, 1, 1), buffer, np.uint8(0))


# ------------------------------------------------------------------ how the shim runs a block

SEED = "AV_COMPRESS_SHIM_SEED"


@pytest.fixture(params=[None, 1, 2, 3])
def seed(request, monkeypatch) -> int | None:
    if request.param is not None:
        monkeypatch.setenv(SEED, str(request.param))
    return request.param


def changed(context, kernel, array: np.ndarray, blocks: int, *rest) -> np.ndarray:
    """Launch a kernel whose blocks of 64 threads change an array in place."""
    stream, buffer, result = context.stream(), context.device_buffer(array.nbytes), array.copy()
    copy_in(stream, buffer, array)
    kernel.launch(stream, (blocks, 1, 1), (64, 1, 1), buffer, *rest)
    copy_out(stream, result, buffer)
    return result


def test_threads_of_a_block_wait_for_each_other(context, module, seed):
    array = np.arange(192, dtype=np.int32)
    expected = array.reshape(3, 64)[:, ::-1].ravel()
    found = changed(context, module.kernel("reverse"), array, 3)
    assert found.tolist() == expected.tolist()


def test_a_wait_that_is_missing_shows(context, module, seed):
    array = np.arange(1, 65, dtype=np.int32)
    found = changed(context, module.kernel("reverse_at_once"), array, 1)
    assert found.tolist() != array[::-1].tolist()


def test_threads_that_have_ended_are_not_waited_for(context, module, seed):
    array = np.arange(64, dtype=np.int32)
    found = changed(context, module.kernel("reverse_part"), array, 1, np.uint32(40))
    assert found.tolist() == [*range(39, -1, -1), *range(40, 64)]


def order_of_arrival(context, module, name: str) -> list[int]:
    out = context.device_buffer(4 * 128)
    total = changed(context, module.kernel(name), np.zeros(1, np.int32), 2, out)
    found, stream = np.empty(128, np.int32), context.stream()
    copy_out(stream, found, out)
    assert total[0] == 128 or name != "arrivals"
    return found.tolist()


def test_atomic_operations_lose_nothing(context, module, seed):
    assert sorted(order_of_arrival(context, module, "arrivals")) == list(range(128))
    values = np.random.default_rng(1).permutation(1000)[:128].astype(np.int32)
    stream, buffer = context.stream(), context.device_buffer(values.nbytes)
    copy_in(stream, buffer, values)
    stream.synchronize()
    least = changed(context, module.kernel("smallest"), np.full(1, 9999, np.int32), 2, buffer)
    assert least[0] == values.min()


def test_seeds_are_orders(context, module, monkeypatch):
    orders = [order_of_arrival(context, module, "arrivals")]
    assert orders[0] == list(range(127, -1, -1))
    for seed in (1, 2):
        monkeypatch.setenv(SEED, str(seed))
        orders.append(order_of_arrival(context, module, "arrivals"))
        assert order_of_arrival(context, module, "arrivals") == orders[-1]
    assert len({tuple(order) for order in orders}) == 3


def test_shuffled_threads_come_between_operations_that_belong_together(
    context, module, monkeypatch
):
    assert len(set(order_of_arrival(context, module, "hasty_arrivals"))) == 128
    monkeypatch.setenv(SEED, "1")
    assert len(set(order_of_arrival(context, module, "hasty_arrivals"))) < 128
