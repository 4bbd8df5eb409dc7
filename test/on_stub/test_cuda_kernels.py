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
