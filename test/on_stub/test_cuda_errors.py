# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""What the driver refuses is said with what to do."""

import numpy as np
import pytest

from av_compress.engines.cuda import CudaContext, CudaError, copy_in
from av_compress.errors import AvCompressError, EngineError


def test_out_of_memory_says_how_much_was_asked_and_is_free(stub):
    stub.set_memory(1 << 20)
    with CudaContext.open() as context:
        context.device_buffer(1 << 19)
        with pytest.raises(CudaError) as caught:
            context.device_buffer(600_000)
        # Nothing is broken: what fits is still given.
        context.device_buffer(1 << 18)
    message = str(caught.value)
    assert "GPU 0 (Stub 0) has not enough memory: 600000 bytes are asked for" in message
    assert "524288 of the device's 1048576 are free" in message
    assert "use a smaller model" in message
    assert (caught.value.reason, caught.value.code) == ("out_of_memory", 2)
    assert isinstance(caught.value, EngineError)
    assert isinstance(caught.value, AvCompressError)


def test_memory_that_cannot_be_locked(stub, context):
    stub.fail("cuMemHostRegister", 2)
    with pytest.raises(CudaError, match="enough memory that can be page-locked") as caught:
        context.pinned((10,), np.uint8)
    assert caught.value.reason == "out_of_memory"


@pytest.mark.parametrize("nbytes", [0, -5])
def test_a_buffer_of_no_bytes(context, nbytes):
    with pytest.raises(CudaError, match=f"a device buffer of {nbytes} bytes"):
        context.device_buffer(nbytes)


@pytest.mark.parametrize("code", [700, 719, 702, 214, 999])
def test_a_context_that_is_lost_asks_for_a_new_process(stub, code, capfd):
    context = CudaContext.open()
    stream, buffer = context.stream(), context.device_buffer(4)
    array = context.pinned((4,), np.uint8)
    copy_in(stream, buffer, array)
    stub.lose(code)
    with pytest.raises(CudaError, match="restart the process") as caught:
        stream.synchronize()
    assert (caught.value.reason, caught.value.code) == ("context_lost", code)
    assert context.lost
    # Nothing can be freed any more: it is left alone, and nothing complains.
    context.close()
    assert context.closed
    assert stub.count("cuMemFree") == 0
    del stream, buffer, context
    assert capfd.readouterr().err == ""
    array[:] = 1
    stub.reset()


def test_a_context_that_is_lost_cannot_be_opened_again(stub):
    stub.lose(700)
    with pytest.raises(CudaError) as caught:
        CudaContext.open()
    assert caught.value.reason == "context_lost"


def test_a_context_is_lost_while_it_closes(stub, capfd):
    context = CudaContext.open()
    context.device_buffer(4)
    stub.fail("cuCtxSynchronize", 719)
    context.close()
    assert (context.closed, context.lost) == (True, True)
    assert capfd.readouterr().err == ""
    stub.reset()


def test_freed_memory_that_is_used_faults(stub):
    """The stub's own strictness, beside what our classes already refuse."""
    context = CudaContext.open()
    stream, buffer = context.stream(), context.device_buffer(4)
    address, cuda = buffer.address, context._owner.driver.cuda
    buffer.free()
    with pytest.raises(CudaError, match="invalid argument"), context.active():
        cuda.memcpy_htod_async(address, np.zeros(4, np.uint8), stream.raw)
    context.close()


@pytest.mark.parametrize(
    ("code", "reason", "advice"),
    [
        (34, "no_driver", "install NVIDIA's driver"),
        (100, "no_device", "nvidia-smi"),
        (803, "driver_too_old", "update NVIDIA's driver"),
        (3, "other", "initialization error"),
    ],
)
def test_what_can_go_wrong_at_the_start(stub, code, reason, advice):
    stub.fail("cuInit", code)
    with pytest.raises(CudaError, match=advice) as caught:
        CudaContext.open()
    assert caught.value.reason == reason


def test_a_launch_that_asks_too_much(stub, context):
    from helpers_cuda_shim import build_image
    from helpers_cuda_stub import TEST

    kernel = context.load(build_image(TEST / "cuda_shim" / "example.cu")).kernel("places")
    stub.fail("cuLaunchKernel", 701, times=1)
    with pytest.raises(CudaError, match="more threads, registers or memory") as caught:
        kernel.launch(
            context.stream(), (1, 1, 1), (1, 1, 1), context.device_buffer(4), np.uint8(1)
        )
    assert caught.value.reason == "launch"
