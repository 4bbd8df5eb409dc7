# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The camera kernel makes the very bits of the task's preprocess, and nothing but these.

The host shim runs it. Memory of the stub's device ends at a page that cannot be touched, and what
lies in a stream is done when somebody waits: a step beyond, or a wait that is missing, shows.
"""

from collections.abc import Sequence

import numpy as np
import pytest
from helpers_cuda_shim import HostCompiler
from helpers_task import make
from hypothesis import given
from hypothesis import strategies as st

from av_compress.data.images import ENCODINGS, RawImage
from av_compress.engines.cuda import (
    CudaContext,
    CudaError,
    DeviceBuffer,
    Stream,
    copy_in,
    copy_out,
)
from av_compress.engines.kernels.camera import CameraPreprocess
from av_compress.engines.kernels.compile import load_kernels
from av_compress.engines.kernels.encodings import READERS

MEAN, STD = [103.53, 116.28, 123.675], [57.375, 57.12, 58.395]
WIDTH, HEIGHT = 96, 64
BYTES = {"bgr8": 3, "rgb8": 3, "8UC3": 3, "bgra8": 4, "rgba8": 4}
PAIRS = ("yuv422", "uyvy", "yuv422_yuy2", "yuyv", "nv12")
# No element of an input has these bits.
UNTOUCHED = 0x5A


def task_for(resize=None, **changes):
    target = {"width": WIDTH, "height": HEIGHT, **changes}
    if target.get("dtype") != "uint8":
        target = {"mean": MEAN, "std": STD, **target}
    return make({"type": "decoded"}, input=target, resize=resize or {})


def raw_image(encoding: str, width: int, height: int, padding: int = 0, seed: int = 0) -> RawImage:
    """Noise of about the size; what an encoding cannot have is rounded up."""
    if encoding in PAIRS:
        width += width % 2
    if encoding == "nv12":
        height += height % 2
    if encoding.startswith("bayer"):
        width, height = max(width, 3), max(height, 3)
    step = width * BYTES.get(encoding, 2 if encoding in PAIRS[:4] else 1) + padding
    rows = height * 3 // 2 if encoding == "nv12" else height
    data = np.random.default_rng([seed, width, height]).integers(0, 256, rows * step, np.uint8)
    return RawImage(encoding, height, width, step, data)


class Bench:
    """A task's preprocess on the device, with an input for some frames."""

    def __init__(self, context: CudaContext, task, slots: int = 1, places: int = 1) -> None:
        self.context, self.task, self.places = context, task, places
        self.kernel = CameraPreprocess(task, context, slots, HostCompiler())
        self.stream: Stream = context.stream()
        self.target: DeviceBuffer = context.device_buffer(places * self.kernel.frame_bytes)
        copy_in(self.stream, self.target, np.full(self.target.nbytes, UNTOUCHED, np.uint8))
        self.stream.synchronize()

    def launch(self, raw: RawImage, place: int = 0, stream: Stream | None = None):
        return self.kernel.launch(raw, self.target, place, stream or self.stream)

    def bits(self, stream: Stream | None = None) -> np.ndarray:
        """The input as bytes, a row for each frame."""
        result = np.empty((self.places, self.kernel.frame_bytes), np.uint8)
        copy_out(stream or self.stream, result, self.target)
        return result

    def wanted(self, raw: RawImage) -> np.ndarray:
        (tensor,) = self.task.preprocess(raw.decode()).tensors.values()
        return np.frombuffer(tensor.tobytes(), np.uint8)

    def check(self, raws: Sequence[RawImage]) -> None:
        """Prepare one after the other, with nobody waiting in between, and compare."""
        for place, raw in enumerate(raws):
            assert self.launch(raw, place) == self.task.preprocess(raw.decode()).context
        for place, (have, raw) in enumerate(zip(self.bits(), raws)):
            np.testing.assert_array_equal(have, self.wanted(raw), err_msg=f"{place}: {raw}")


@pytest.mark.parametrize("interpolation", ["linear", "nearest"])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_encoding(context, encoding: str, interpolation: str):
    bench = Bench(context, task_for({"interpolation": interpolation}), places=6)
    # Down, up, the size itself, half of it, an odd one, and a narrow one.
    sizes = [(201, 133), (31, 17), (WIDTH, HEIGHT), (2 * WIDTH, 2 * HEIGHT), (97, 65), (5, 90)]
    bench.check([raw_image(encoding, *size, padding=3) for size in sizes])


@given(
    encoding=st.sampled_from(ENCODINGS),
    size=st.tuples(st.integers(1, 220), st.integers(1, 220)),
    padding=st.integers(0, 40),
    layout=st.sampled_from(["nchw", "nhwc"]),
    dtype=st.sampled_from(["float32", "float16", "uint8"]),
    color=st.sampled_from(["bgr", "rgb"]),
    resize=st.fixed_dictionaries(
        {
            "mode": st.sampled_from(["letterbox", "stretch"]),
            "anchor": st.sampled_from(["center", "top_left"]),
            "rounding": st.sampled_from(["round", "truncate"]),
            "interpolation": st.sampled_from(["linear", "nearest"]),
            "pad_value": st.integers(0, 255),
        }
    ),
)
def test_any_image_and_any_task(encoding, size, padding, layout, dtype, color, resize):
    task = task_for(resize, layout=layout, dtype=dtype, color=color)
    with CudaContext.open() as context:
        Bench(context, task).check([raw_image(encoding, *size, padding)])


@pytest.mark.parametrize("target", [(33, 7), (1, 1), (640, 384), (31, 257)])
@pytest.mark.parametrize("mode", ["letterbox", "stretch"])
def test_inputs_of_any_size(context, target, mode: str):
    task = task_for({"mode": mode}, width=target[0], height=target[1], color="rgb")
    bench = Bench(context, task, places=2)
    bench.check([raw_image("bgr8", 300, 200), raw_image("bayer_grbg8", 64, 99)])


@pytest.mark.parametrize("encoding", ["bgr8", "yuv422", "nv12", "bayer_rggb8"])
def test_a_cameras_own_size(context, encoding: str):
    task = task_for(width=640, height=640, dtype="float16")
    Bench(context, task).check([raw_image(encoding, 1920, 1080)])


# Multiples of 256 bytes in all: behind them the page ends.
@pytest.mark.parametrize("size", [(16, 32), (64, 128), (256, 256)])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_nothing_is_read_or_written_beyond(context, encoding: str, size):
    raw = raw_image(encoding, *size)
    assert raw.data.nbytes % 256 == 0
    for dtype in ("float32", "uint8"):
        bench = Bench(context, task_for(dtype=dtype), places=3)
        assert bench.target.nbytes % 256 == 0
        assert (WIDTH + HEIGHT) * 16 % 256 == 0
        bench.launch(raw, 2)
        bench.launch(raw, 0)
        bits = bench.bits()
        np.testing.assert_array_equal(bits[0], bench.wanted(raw))
        np.testing.assert_array_equal(bits[2], bits[0])
        assert set(bits[1]) == {UNTOUCHED}


def test_every_encoding_is_known():
    assert set(READERS) == set(ENCODINGS)


# ------------------------------------------------------------------ who waits, and for what


def test_frames_may_be_changed_once_launch_returns(context):
    bench, raw = Bench(context, task_for()), raw_image("bgr8", 50, 40)
    wanted = bench.wanted(raw)
    bench.launch(raw)
    raw.data[:] = 0
    np.testing.assert_array_equal(bench.bits()[0], wanted)


def test_one_slot_serves_frames_of_changing_size_and_encoding(context):
    bench = Bench(context, task_for(), places=5)
    kinds = [("bgr8", 50), ("mono8", 90), ("nv12", 50), ("bgr8", 51), ("bgr8", 50)]
    bench.check([raw_image(kind, width, 40, seed=i) for i, (kind, width) in enumerate(kinds)])


@pytest.mark.parametrize("slots", [1, 2, 4])
def test_more_frames_than_slots(context, slots: int):
    bench = Bench(context, task_for(), slots, places=9)
    bench.check([raw_image("rgb8", 50, 40, seed=i) for i in range(9)])


@pytest.mark.parametrize("slots", [1, 2, 3])
def test_as_many_frames_as_slots_are_under_way(context, slots: int):
    bench, raw = Bench(context, task_for(), slots), raw_image("bgr8", 50, 40)
    bench.launch(raw)
    bench.stream.synchronize()
    source, mark = context.device_buffer(1), context.pinned((1,), np.uint8)
    copy_in(bench.stream, source, np.array([7], np.uint8))
    copy_out(bench.stream, mark, source)
    for _ in range(slots):
        bench.launch(raw)
        assert mark[0] == 0, "somebody waited"
    bench.launch(raw)
    assert mark[0] == 7, "page-locked memory was overwritten before it was copied"


def test_a_slot_goes_from_one_stream_to_another(context):
    bench, other = Bench(context, task_for(), places=3), context.stream()
    raws = [raw_image("bgr8", 50, 40, seed=i) for i in range(3)]
    for place, raw in enumerate(raws):
        bench.launch(raw, place, other if place % 2 else bench.stream)
    other.synchronize()
    for have, raw in zip(bench.bits(), raws):
        np.testing.assert_array_equal(have, bench.wanted(raw))


def test_growing_waits_for_what_is_under_way(context):
    bench = Bench(context, task_for(), places=4)
    bench.check([raw_image("bgr8", 10 + 20 * i, 40, seed=i) for i in range(4)])


# ------------------------------------------------------------------ what is allocated


def test_a_frame_allocates_nothing(stub, context):
    slots = 3
    bench = Bench(context, task_for(), slots)
    bench.launch(raw_image("bgr8", 120, 90))
    stub.clear()
    # None of them is larger, in bytes.
    for encoding, width in [("bgr8", 120), ("bgr8", 60), ("mono8", 240), ("nv12", 200)] * 5:
        bench.launch(raw_image(encoding, width, 90))
    called = stub.called()
    assert called["cuLaunchKernel"] == called["cuMemcpyHtoDAsync"] == 20
    assert not [name for name in called if any(w in name for w in ("Alloc", "Create", "Register"))]
    assert not [name for name in called if "Free" in name or "Destroy" in name]
    for name in ("implicit synchronisation", "pageable copy", "legacy stream"):
        assert stub.count(name) == 0
    assert stub.count("cuCtxPushCurrent") == 20
    stub.clear()
    bench.launch(raw_image("bgr8", 121, 90))
    assert stub.count("cuMemAlloc") == stub.count("cuMemHostRegister") == slots


def test_memory_that_is_left_behind_is_no_more_than_what_is_in_use(stub, context):
    bench = Bench(context, task_for())
    stub.clear()
    for width in range(100, 900):
        bench.launch(raw_image("mono8", width, 10))
    assert stub.count("cuMemHostRegister") == 5  # 100, 200, 400, 800, 1600
    bench.stream.synchronize()


def test_it_frees_what_it_made(stub, context):
    before = stub.all_live()
    kernel = CameraPreprocess(task_for(), context, 2, HostCompiler())
    stream, target = context.stream(), context.device_buffer(kernel.frame_bytes)
    kernel.launch(raw_image("bgr8", 50, 40), target, 0, stream)
    kernel.free()
    target.free()
    stream.free()
    after = stub.all_live()
    assert after.pop("pinned") > 0
    assert after == before


@pytest.mark.parametrize("function", ["cuMemAlloc", "cuMemHostRegister"])
def test_an_image_for_which_there_is_no_memory_leaves_the_rest_in_order(stub, context, function):
    bench, small = Bench(context, task_for(), slots=2), raw_image("bgr8", 50, 40)
    bench.launch(small)
    bench.stream.synchronize()
    live = stub.live("device")
    stub.fail(function, 2, after=1)
    with pytest.raises(CudaError) as caught:
        bench.launch(raw_image("bgr8", 500, 400))
    assert caught.value.reason == "out_of_memory"
    stub.fail(function, 0)
    assert stub.live("device") == live
    for raw in (small, raw_image("bgr8", 500, 400), small):
        bench.launch(raw)
        np.testing.assert_array_equal(bench.bits()[0], bench.wanted(raw))


# ------------------------------------------------------------------ what is refused


@pytest.mark.parametrize("interpolation", ["area", "cubic"])
def test_other_interpolations_are_left_to_the_task(context, interpolation: str):
    bench, raw = (
        Bench(context, task_for({"interpolation": interpolation})),
        raw_image("bgr8", 9, 9),
    )
    assert not bench.kernel.takes(raw)
    with pytest.raises(CudaError, match=f"'{interpolation}' is not prepared on the device"):
        bench.launch(raw)


def test_an_image_beyond_measure_is_left_to_the_task(context):
    bench = Bench(context, task_for())
    sizes = [(1 << 14, 1 << 14), (1 << 14, (1 << 14) + 1)]
    raws = [RawImage("mono8", h, w, w, np.zeros(w * h, np.uint8)) for w, h in sizes]
    assert [bench.kernel.takes(raw) for raw in raws] == [True, False]


@pytest.mark.parametrize("place", [-1, 2, 1 << 40])
def test_a_place_that_the_input_does_not_have(context, place: int):
    bench, raw = Bench(context, task_for(), places=2), raw_image("bgr8", 9, 9)
    with pytest.raises(CudaError, match=f"place {place} of frames of 73728 bytes .* of 147456"):
        bench.launch(raw, place)


def test_a_freed_input_is_not_written(context):
    bench, raw = Bench(context, task_for()), raw_image("bgr8", 50, 40)
    bench.target.free()
    with pytest.raises(CudaError, match="this DeviceBuffer was freed"):
        bench.launch(raw)
    bench.target = context.device_buffer(bench.kernel.frame_bytes)
    bench.check([raw])


def test_kernels_are_compiled_once(context, tmp_path, monkeypatch):
    calls = []

    class Counting(HostCompiler):
        def compile(self, source, arch: str) -> bytes:
            calls.append((source.path.name, arch))
            return super().compile(source, arch)

    monkeypatch.setenv("AV_COMPRESS_CACHE", str(tmp_path))
    for _ in range(2):
        load_kernels(context, "camera_detection", Counting()).kernel("prepare_camera")
    assert calls == [("camera_detection.cu", "sm_89")]
