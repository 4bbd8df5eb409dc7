# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Where images land in the network's input, and that boxes find their way back."""

import cv2
import numpy as np
import pytest
from helpers_task import make
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from av_compress.tasks.base import ImageFrame
from av_compress.tasks.camera_detection.placement import letterbox, stretch

extents = st.integers(1, 5000)
sizes = st.tuples(extents, extents)
anchors = st.sampled_from(["center", "top_left"])
roundings = st.sampled_from(["round", "truncate"])
corners = st.lists(st.floats(0.0, 1.0), min_size=4, max_size=4)


@given(image=sizes, target=sizes, anchor=anchors, rounding=roundings)
def test_a_letterbox_lies_inside_and_keeps_the_aspect_ratio(image, target, anchor, rounding):
    place = letterbox(image, target, anchor, rounding)
    assert place.left >= 0
    assert place.top >= 0
    assert 1 <= place.width <= target[0] - place.left
    assert 1 <= place.height <= target[1] - place.top
    # One side is filled, the other is off the exact ratio by less than a pixel.
    assert place.width == target[0] or place.height == target[1]
    exact = min(target[0] / image[0], target[1] / image[1])
    slack = 0.5 if rounding == "round" else 1.0
    for have, extent in ((place.width, image[0]), (place.height, image[1])):
        assert have == 1 or abs(have - extent * exact) <= slack + 1e-6
    if anchor == "center":
        assert 0 <= target[0] - place.width - 2 * place.left <= 1
        assert 0 <= target[1] - place.height - 2 * place.top <= 1
    else:
        assert (place.left, place.top) == (0, 0)


@pytest.mark.parametrize(
    ("image", "anchor", "rounding", "want"),
    [
        ((640, 480), "center", "round", (0, 40, 320, 240)),
        ((480, 640), "center", "round", (40, 0, 240, 320)),
        ((640, 427), "top_left", "truncate", (0, 0, 320, 213)),
        ((640, 427), "center", "round", (0, 53, 320, 214)),
        ((320, 320), "center", "round", (0, 0, 320, 320)),
        ((10, 10), "center", "round", (0, 0, 320, 320)),
        ((5000, 1), "center", "truncate", (0, 159, 320, 1)),
    ],
)
def test_letterboxes_worked_by_hand(image, anchor, rounding, want):
    place = letterbox(image, (320, 320), anchor, rounding)
    assert (place.left, place.top, place.width, place.height) == want


def test_truncation_is_exact_where_floating_point_is_not():
    """In double precision 49 * (1 / 49) is below 1: truncated, the last row would be lost."""
    assert int(49 * (1 / 49)) == 0
    for extent in range(1, 400):
        place = letterbox((extent, extent), (1, 7), "center", "truncate")
        assert (place.width, place.height) == (1, 1)
        place = letterbox((extent, extent), (extent * 3, extent * 7), "center", "truncate")
        assert (place.width, place.height) == (extent * 3, extent * 3)


@given(image=sizes, target=sizes, anchor=anchors, rounding=roundings, corner=corners)
def test_boxes_come_back(image, target, anchor, rounding, corner):
    boxes = np.array([corner], np.float32) * np.array([*image, *image], np.float32)
    for place in (letterbox(image, target, anchor, rounding), stretch(image, target)):
        there = place.to_input(boxes)
        inside = np.array([place.left, place.top] * 2)
        assert (there >= inside - 1e-2).all()
        assert (there <= inside + [place.width, place.height] * 2 + 1e-2).all()
        # Half a float32 step in the input, seen through the scale, is all that may be lost.
        scale = max(image[0] / place.width, image[1] / place.height)
        tolerance = 2e-6 * (max(target) * scale + max(image))
        np.testing.assert_allclose(place.to_image(there), boxes, atol=tolerance)


@settings(max_examples=60, deadline=None)
@given(
    image=st.tuples(st.integers(8, 700), st.integers(8, 700)),
    mode=st.sampled_from(["letterbox", "stretch"]),
    anchor=anchors,
    rounding=roundings,
    corner=corners,
)
def test_the_pixels_lie_where_the_boxes_say(image, mode, anchor, rounding, corner):
    """A box painted into an image is where the placement puts it, to within half a pixel."""
    width, height = image
    x1, x2 = sorted((int(corner[0] * (width - 1)), int(corner[1] * (width - 1))))
    y1, y2 = sorted((int(corner[2] * (height - 1)), int(corner[3] * (height - 1))))
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[y1 : y2 + 1, x1 : x2 + 1] = 255
    task = make(
        {"type": "decoded"},
        width=160,
        height=96,
        resize={
            "mode": mode,
            "anchor": anchor,
            "rounding": rounding,
            "pad_value": 0,
            "interpolation": "area",
        },
    )
    prepared = task.preprocess(ImageFrame(pixels))
    plane = prepared.tensors["images"][0, 0].astype(np.float64)
    place = prepared.context
    # Shrinking by area keeps the mass, and its centre to within half a pixel of the input.
    scale_x, scale_y = place.width / width, place.height / height
    assume(scale_x <= 1 and scale_y <= 1)
    mass = plane.sum() / 255
    np.testing.assert_allclose(
        mass, (x2 + 1 - x1) * (y2 + 1 - y1) * scale_x * scale_y, rtol=0.1, atol=1.0
    )
    assume(mass >= 4.0)
    rows, columns = np.indices(plane.shape) + 0.5
    center = np.array([(columns * plane).sum(), (rows * plane).sum()] * 2) / plane.sum()
    back = place.to_image(center[None].astype(np.float32))[0, :2]
    half = np.array([0.51 / scale_x, 0.51 / scale_y])
    assert (np.abs(back - [(x1 + x2 + 1) / 2, (y1 + y2 + 1) / 2]) <= half).all()


@settings(max_examples=100, deadline=None)
@given(image=st.tuples(st.integers(2, 900), st.integers(2, 900)), anchor=anchors, corner=corners)
def test_detections_are_in_original_pixels_and_inside(image, anchor, corner):
    """Through the whole task: boxes of the input come out in the image, clipped to it."""
    task = make({"type": "decoded"}, resize={"anchor": anchor}, width=320, height=192)
    pixels = np.zeros((image[1], image[0], 3), np.uint8)
    context = task.preprocess(ImageFrame(pixels)).context
    x1, x2 = sorted((corner[0] * 1.4 - 0.2, corner[1] * 1.4 - 0.2))
    y1, y2 = sorted((corner[2] * 1.4 - 0.2, corner[3] * 1.4 - 0.2))
    box = np.array([[x1, y1, x2, y2]]) * [*image, *image]
    rows = np.zeros((1, 1, 6), np.float32)
    rows[0, 0, :4] = context.to_input(box.astype(np.float32))
    rows[0, 0, 4] = 0.9
    result = task.postprocess({"d": rows}, context)
    clipped = np.clip(box, 0, [*image, *image])
    if len(result):
        np.testing.assert_allclose(result.boxes, clipped, atol=1e-3 * max(image))
        assert (result.boxes >= 0).all()
        assert (result.boxes <= [*image, *image]).all()
    else:
        assert min(clipped[0, 2] - clipped[0, 0], clipped[0, 3] - clipped[0, 1]) < 0.1


def test_placements_match_opencv_resize():
    """OpenCV maps pixel edges onto pixel edges; a step edge in the middle stays in the middle."""
    ramp = np.tile(np.arange(200, dtype=np.uint8), (50, 1))
    small = cv2.resize(ramp, (100, 25), interpolation=cv2.INTER_LINEAR)
    place = stretch((200, 50), (100, 25))
    edges = place.to_image(np.array([[10, 10, 11, 11]], np.float32))[0]
    # Column 10 of the small image covers columns 20 and 21, whose mean is 20.5.
    np.testing.assert_array_equal(edges, [20, 20, 22, 22])
    assert abs(float(small[10, 10]) - 20.5) <= 0.5
