# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Pixels to tensors, against arithmetic in double precision."""

import threading

import cv2
import numpy as np
import pytest
from helpers_task import make
from hypothesis import given, settings
from hypothesis import strategies as st

from av_compress.errors import FrameError
from av_compress.tasks.base import ImageFrame
from av_compress.tasks.camera_detection.preprocess import Preprocessor

MEAN, STD = [103.53, 116.28, 123.675], [57.375, 57.12, 58.395]
INTERPOLATIONS = {
    "linear": cv2.INTER_LINEAR,
    "area": cv2.INTER_AREA,
    "nearest": cv2.INTER_NEAREST,
    "cubic": cv2.INTER_CUBIC,
}


def task_for(resize=None, **changes):
    target = {"width": 96, "height": 64, **changes}
    return make({"type": "decoded"}, input=target, resize=resize or {})


def image(width, height, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@settings(max_examples=150, deadline=None)
@given(
    size=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    layout=st.sampled_from(["nchw", "nhwc"]),
    dtype=st.sampled_from(["float32", "float16", "uint8"]),
    color=st.sampled_from(["bgr", "rgb"]),
    frame_color=st.sampled_from(["bgr", "rgb"]),
    mode=st.sampled_from(["letterbox", "stretch"]),
    anchor=st.sampled_from(["center", "top_left"]),
    interpolation=st.sampled_from(sorted(INTERPOLATIONS)),
    pad_value=st.integers(0, 255),
)
def test_every_element_is_pixel_minus_mean_over_std(
    size, layout, dtype, color, frame_color, mode, anchor, interpolation, pad_value
):
    normal = {} if dtype == "uint8" else {"mean": MEAN, "std": STD}
    resize = {
        "mode": mode,
        "anchor": anchor,
        "interpolation": interpolation,
        "pad_value": pad_value,
    }
    task = task_for(resize, layout=layout, dtype=dtype, color=color, **normal)
    pixels = image(*size)
    prepared = task.preprocess(ImageFrame(pixels, color=frame_color))
    place = prepared.context

    canvas = np.full((64, 96, 3), pad_value, np.uint8)
    resized = cv2.resize(
        pixels, (place.width, place.height), interpolation=INTERPOLATIONS[interpolation]
    )
    if color != frame_color:
        resized = resized[..., ::-1]
    canvas[place.top : place.top + place.height, place.left : place.left + place.width] = resized
    want = (canvas - np.array(normal.get("mean", 0.0))) / np.array(normal.get("std", 1.0))
    want = want.astype(dtype)[None]
    if layout == "nchw":
        want = want.transpose(0, 3, 1, 2)

    tensor = prepared.tensors["images"]
    assert tensor.dtype == np.dtype(dtype)
    assert tensor.flags["C_CONTIGUOUS"]
    # To the last bit: the table is computed in double precision and rounded once.
    np.testing.assert_array_equal(tensor, want)


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
@pytest.mark.parametrize("color", ["bgr", "rgb"])
def test_the_table_says_what_each_pixel_value_becomes(dtype, color):
    normal = {} if dtype == "uint8" else {"mean": MEAN, "std": STD}
    settings = task_for({"pad_value": 7}, dtype=dtype, color=color, **normal).settings
    preprocessor = Preprocessor(settings.input, settings.resize)
    want = (np.arange(256.0)[:, None] - normal.get("mean", [0] * 3)) / normal.get("std", [1] * 3)
    assert preprocessor.values.dtype == preprocessor.padding.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(preprocessor.values, want.astype(dtype))
    np.testing.assert_array_equal(preprocessor.padding, want[7].astype(dtype))


def strided(pixels, kind):
    height, width, _ = pixels.shape
    if kind == "padded rows":
        holder = np.zeros((height, width * 3 + 7), np.uint8)
        view = holder[:, : width * 3].reshape(height, width, 3)
        view = np.lib.stride_tricks.as_strided(holder, (height, width, 3), (width * 3 + 7, 3, 1))
        view[...] = pixels
        return view
    if kind == "cropped":
        holder = np.zeros((height + 4, width + 6, 3), np.uint8)
        holder[2:-2, 3:-3] = pixels
        return holder[2:-2, 3:-3]
    if kind == "flipped":
        return np.ascontiguousarray(pixels[::-1, ::-1])[::-1, ::-1]
    if kind == "channels reversed":
        return np.ascontiguousarray(pixels[..., ::-1])[..., ::-1]
    if kind == "column-major":
        return np.asfortranarray(pixels)
    return np.frombuffer(pixels.tobytes(), np.uint8).reshape(pixels.shape)


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("size", [(96, 64), (130, 50)])
@pytest.mark.parametrize("color", ["bgr", "rgb"])
@pytest.mark.parametrize(
    "kind",
    ["padded rows", "cropped", "flipped", "channels reversed", "column-major", "read-only"],
)
def test_frames_may_have_any_strides_and_be_read_only(layout, size, color, kind):
    task = task_for(layout=layout, mean=MEAN, std=STD)
    pixels = image(*size)
    view = strided(pixels, kind)
    view.flags.writeable = False
    np.testing.assert_array_equal(view, pixels)
    have = task.preprocess(ImageFrame(view, color=color)).tensors["images"]
    want = task.preprocess(ImageFrame(pixels, color=color)).tensors["images"]
    np.testing.assert_array_equal(have, want)
    np.testing.assert_array_equal(view, pixels)


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_tensors_do_not_alias_the_frame_or_each_other(layout, dtype):
    task = task_for(layout=layout, dtype=dtype)
    pixels = image(96, 64)
    first = task.preprocess(ImageFrame(pixels)).tensors["images"]
    kept = first.copy()
    second = task.preprocess(ImageFrame(image(96, 64, seed=1))).tensors["images"]
    pixels[...] = 0
    np.testing.assert_array_equal(first, kept)
    assert not np.shares_memory(first, second)


def test_one_task_serves_many_threads():
    task = task_for(mean=MEAN, std=STD)
    frames = [ImageFrame(image(50 + 7 * index, 40, seed=index)) for index in range(8)]
    want = [task.preprocess(frame).tensors["images"] for frame in frames]
    wrong = []

    def work(index):
        for _ in range(20):
            have = task.preprocess(frames[index]).tensors["images"]
            if not np.array_equal(have, want[index]):
                wrong.append(index)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(frames))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        (np.zeros((0, 10, 3), np.uint8), ["front/7", "no pixels", "10x0"]),
        (np.zeros((10, 0, 3), np.uint8), ["no pixels", "0x10"]),
        (np.zeros((10, 10), np.uint8), ["uint8 [10, 10]", "wanted uint8 [height, width, 3]"]),
        (np.zeros((10, 10, 4), np.uint8), ["[10, 10, 4]"]),
        (np.zeros((10, 10, 3), np.float32), ["float32"]),
    ],
)
def test_unusable_frames_are_refused(pixels, words):
    with pytest.raises(FrameError) as caught:
        task_for().preprocess(ImageFrame(pixels, key="front/7"))
    for word in words:
        assert word in str(caught.value)


def test_an_unknown_channel_order_is_refused():
    with pytest.raises(FrameError, match=r"'yuv'.*'bgr' or 'rgb'"):
        task_for().preprocess(ImageFrame(image(9, 9), color="yuv"))
