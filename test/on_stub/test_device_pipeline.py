# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Frames that stay on the device are served with the very results of those that do not.

Stand-in for TensorRT, kernels by the host shim, real PyCUDA, stub of the driver.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers_cuda_stub import Stub
from helpers_serving import build_demo_bundle, put_demo_detector
from helpers_trt_stub import install

import av_compress.engines.kernels.compile as kernels_compile
import av_compress.engines.kernels.stages as kernels_stages
from av_compress.cli.main import main
from av_compress.data.demo.drive import Drive, write_dataset
from av_compress.data.images import RawImage, read_image
from av_compress.engines.bundle import load_bundle
from av_compress.engines.device_pipeline import DevicePipeline
from av_compress.engines.kernels.compilers import NoCompilerError
from av_compress.engines.kernels.survivors import Room
from av_compress.errors import EngineError, FrameError, UsageError
from av_compress.tasks.base import ImageFrame

STEPS = {"preprocess", "h2d", "execute", "d2h", "postprocess"}


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """Return a folder with images and bundles of the demo detector, for one and for three."""
    folder = tmp_path_factory.mktemp("device")
    put_demo_detector(folder)
    write_dataset([Drive(970, 2.0, 4.0)], folder / "images")
    for batch in (1, 3):
        build_demo_bundle(
            folder, f"bundle{batch}", emitters=["tensorrt"], optimize={"max_batch": batch}
        )
    return folder


def raws(world: Path) -> list[RawImage]:
    made = []
    for index, path in enumerate(sorted((world / "images").glob("*.png"))):
        pixels = read_image(path)
        height, width = pixels.shape[:2]
        made.append(RawImage("bgr8", height, width, 3 * width, pixels, index, "camera", path.name))
    return made


def opened(world: Path, monkeypatch, batch: int = 1, **options):
    install(monkeypatch, "10.3")
    bundle = world / f"bundle{batch}"
    command = ["compile", str(bundle), "--backend", "tensorrt", "--batch", f"1,{batch},{batch}"]
    assert main(command if batch > 1 else command[:-2]) == 0
    return load_bundle(bundle).open_pipeline("tensorrt", batched=batch > 1, **options)


def same(ours, theirs) -> None:
    for name in ("boxes", "scores", "labels"):
        np.testing.assert_array_equal(
            getattr(ours.result, name), getattr(theirs.result, name), err_msg=name
        )


@pytest.fixture(params=["whole", "survivors", "overflow"])
def outputs(request, monkeypatch) -> str:
    """Let outputs come back whole, as survivors, or as survivors for which there is no room."""
    never, always = 1 << 30, 0
    monkeypatch.setattr(kernels_stages, "_WORTH_IT", never if request.param == "whole" else always)
    room = Room(1, 1) if request.param == "overflow" else Room()
    monkeypatch.setattr(kernels_stages, "Room", lambda: room)
    return request.param


def test_one_by_one(stub: Stub, world: Path, monkeypatch, outputs: str):
    device, host = (opened(world, monkeypatch, preprocess=where) for where in ("device", "host"))
    assert isinstance(device, DevicePipeline)
    assert device.takes_raw
    assert not host.takes_raw
    assert ("choice of candidates" in device.description) == (outputs != "whole")
    found = 0
    for raw in raws(world):
        ours, theirs = device.process(raw), host.process(raw.decode())
        same(ours, theirs)
        assert set(ours.spans) == STEPS
        found += len(ours.result)
    assert found > 10
    # Frames that come decoded go the usual way.
    same(device.process(raws(world)[0].decode()), host.process(raws(world)[0].decode()))
    device.close()
    host.close()


def test_in_batches(stub: Stub, world: Path, monkeypatch, outputs: str):
    device, host = (
        opened(world, monkeypatch, 3, preprocess=where) for where in ("device", "host")
    )
    frames = raws(world)
    assert device.limit == 3
    # Seven frames are two whole batches and a part of one.
    for count in (1, 2, 3, 7):
        ours = device.process_all(frames[:count])
        theirs = host.process_all([raw.decode() for raw in frames[:count]])
        assert len(ours) == count
        for one, other in zip(ours, theirs):
            same(one, other)
    device.close()
    host.close()


def test_what_the_kernel_does_not_take_goes_the_usual_way(stub: Stub, world: Path, monkeypatch):
    device = opened(world, monkeypatch, 3, preprocess="device")
    first, second = raws(world)[:2]
    mixed = device.process_all([first, second.decode()])
    for one, raw in zip(mixed, (first, second)):
        same(one, device.process(raw))
    broken = ImageFrame(np.zeros((0, 0, 3), np.uint8), key="none")
    ours, failure = device.process_all([first, broken])
    same(ours, device.process(first))
    assert isinstance(failure, FrameError)
    with pytest.raises(FrameError, match="no pixels"):
        device.process(broken)
    device.close()


def test_a_frame_allocates_nothing_on_the_device(stub: Stub, world: Path, monkeypatch):
    device = opened(world, monkeypatch)
    frames = raws(world)
    device.process(frames[0])
    stub.clear()
    for raw in frames:
        device.process(raw)
    called = stub.called()
    made = [n for n in called if any(word in n for word in ("Alloc", "Create", "Register"))]
    assert made == []
    for name in ("implicit synchronisation", "pageable copy", "legacy stream"):
        assert stub.count(name) == 0
    assert stub.count("cuStreamSynchronize") == stub.count("cuCtxSynchronize") == 0
    # The image goes to the device, and nothing of it comes back but outputs.
    assert stub.count("cuMemcpyHtoDAsync") == len(frames)
    device.close()


def test_without_a_compiler_the_host_prepares_and_it_is_told(stub: Stub, world: Path, monkeypatch):
    def none(device):
        raise NoCompilerError("no compiler: install one")

    monkeypatch.setattr(kernels_compile, "find_compiler", none)
    pipeline = opened(world, monkeypatch)
    assert not isinstance(pipeline, DevicePipeline)
    assert "preprocess on the host: no compiler: install one" in pipeline.description
    assert len(pipeline.process(raws(world)[0].decode()).result) > 0
    pipeline.close()
    with pytest.raises(EngineError, match="install one"):
        opened(world, monkeypatch, preprocess="device")


def test_onnxruntime_has_no_device_of_ours(world: Path):
    with pytest.raises(UsageError, match="goes with a plan"):
        load_bundle(world / "bundle1").open_pipeline(preprocess="device")
