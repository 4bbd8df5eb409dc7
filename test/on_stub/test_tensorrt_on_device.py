# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Frames that are prepared on the device, and outputs of which a part is taken.

Stand-in for TensorRT, real PyCUDA, stub of the driver: nothing here was on a GPU.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from helpers_cuda_stub import Stub
from test_tensorrt_engine import MODEL, Backend, expected, images
from test_trt_stand_in_building import dynamic

from av_compress.engines.cuda import DeviceBuffer, Stream, copy_in, copy_out
from av_compress.engines.tensorrt.engine import TensorRTEngine
from av_compress.errors import EngineError


class Copies:
    """Fills an input from page-locked memory, and takes the start of an output."""

    def __init__(self, engine: TensorRTEngine, inputs: str, outputs: str, taken: int) -> None:
        cuda = engine.cuda
        size = int(np.prod(engine.inputs[0].shape))
        self.names = (inputs, outputs)
        self.source = cuda.pinned((size,), np.float32)
        self.taken = cuda.pinned((taken,), np.float32)

    def fill(self, inputs: Mapping[str, DeviceBuffer], stream: Stream) -> None:
        copy_in(stream, inputs[self.names[0]], self.source)

    def take(self, outputs: Mapping[str, DeviceBuffer], stream: Stream) -> None:
        copy_out(stream, self.taken, outputs[self.names[1]])


@pytest.mark.parametrize("graph", [True, False])
def test_inputs_may_be_made_on_the_device(stub: Stub, graph: bool):
    engine = Backend("10.3").open(graph=graph)
    copies = Copies(engine, "x", "y", 7)
    for image in images(4):
        copies.source[...] = image.reshape(-1)
        engine.submit_on_device(copies.fill, 1)
        outputs = engine.collect().outputs
        np.testing.assert_array_equal(outputs["y"], expected(MODEL, image))
    engine.close()


@pytest.mark.parametrize("version", ["8.6", "10.3", "11.4", "rtx-1.7"])
def test_a_part_of_the_outputs_is_taken_and_the_whole_can_be_had(stub: Stub, version: str):
    engine = Backend(version).open()
    copies = Copies(engine, "x", "y", 7)
    with pytest.raises(EngineError, match="no longer on the device"):
        engine.whole()
    for image in images(4):
        copies.source[...] = image.reshape(-1)
        engine.submit_on_device(copies.fill, 1, copies.take)
        result = engine.collect()
        assert result.outputs == {}
        assert min(result.timing.h2d_ns, result.timing.execute_ns, result.timing.d2h_ns) >= 0
        wanted = expected(MODEL, image)
        np.testing.assert_array_equal(copies.taken, wanted.reshape(-1)[:7])
        np.testing.assert_array_equal(engine.whole()["y"], wanted)
        # Both ways may follow each other.
        np.testing.assert_array_equal(engine.run({"x": image}).outputs["y"], wanted)
    engine.close()


def test_what_the_next_frame_overwrites_is_not_given_out(stub: Stub):
    engine = Backend("10.3").open(slots=1)
    first, second = images(2)
    engine.run({"x": first})
    engine.submit({"x": second})
    with pytest.raises(EngineError, match="no longer on the device"):
        engine.whole()
    engine.collect()
    np.testing.assert_array_equal(engine.whole()["y"], expected(MODEL, second))
    engine.close()


def test_no_allocation_and_one_wait_for_a_frame(stub: Stub):
    engine = Backend("10.3").open()
    copies = Copies(engine, "x", "y", 7)
    stub.clear()
    for _ in range(5):
        engine.submit_on_device(copies.fill, 1, copies.take)
        engine.collect()
    assert not [name for name in stub.called() if "Alloc" in name or "Create" in name]
    assert stub.count("cuEventSynchronize") == 5
    for name in ("implicit synchronisation", "pageable copy", "legacy stream"):
        assert stub.count(name) == 0
    engine.close()


def test_batches_are_held_to_the_plan(stub: Stub):
    backend = Backend("10.3")
    model = dynamic()
    engine = backend.open(backend.compile(model, batch=(1, 2, 4)))
    (name,) = (spec.name for spec in engine.inputs)
    source = engine.cuda.pinned((4, 8), np.float32)
    source[...] = np.random.default_rng(5).normal(size=(4, 8))

    def fill(inputs: Mapping[str, DeviceBuffer], stream: Stream) -> None:
        copy_in(stream, inputs[name], source)

    for batch in (3, 1, 4):
        engine.submit_on_device(fill, batch)
        (output,) = engine.collect().outputs.values()
        np.testing.assert_array_equal(output, expected(model, np.array(source[:batch])))
    for batch in (0, 5):
        with pytest.raises(EngineError, match=f"a batch of {batch}; the plan was compiled for 1"):
            engine.submit_on_device(fill, batch)
    engine.close()
    fixed = backend.open()
    with pytest.raises(EngineError, match="a batch of 2; the plan was compiled for 1 to 1"):
        fixed.submit_on_device(lambda *_: None, 2)
    fixed.close()
