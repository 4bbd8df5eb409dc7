# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Annotated images: where boxes and labels are drawn, pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
from helpers_report import CLASSES, detections, frame_record

from av_compress.report.pictures import annotate, annotate_disagreement, class_color
from av_compress.tasks.base import Detections2D, ImageFrame

GREY = 90


def image(width: int = 960, height: int = 540) -> np.ndarray:
    return np.full((height, width, 3), GREY, np.uint8)


def has_color(pixels, color, tolerance: int = 0) -> bool:
    distance = np.abs(pixels.astype(int) - np.array(color))
    return bool((distance.max(axis=-1) <= tolerance).any())


def test_a_box_is_drawn_where_it_is_in_the_colour_of_its_class():
    picture = annotate(ImageFrame(image()), detections((100, 200, 300, 400, 0.5, 1)), CLASSES)
    for x, y in ((100, 300), (300, 300), (200, 400), (100, 400), (300, 200)):
        assert tuple(picture[y, x]) == class_color(1)
    assert tuple(picture[300, 200]) == (GREY, GREY, GREY)
    changed = np.argwhere((picture != GREY).any(axis=-1))
    # The label stands right above the box, nothing is drawn elsewhere.
    assert changed[:, 0].min() >= 175
    assert changed.max(axis=0).tolist() == [401, 301]


def test_the_image_itself_stays_as_it_is():
    pixels = image()
    pixels.setflags(write=False)
    picture = annotate(ImageFrame(pixels), detections((10, 60, 50, 90, 0.5, 0)), CLASSES)
    assert (pixels == GREY).all()
    assert picture.flags.writeable
    assert picture.flags.c_contiguous


def test_colours_of_an_rgb_frame_come_out_as_bgr():
    pixels = image()
    pixels[..., 0] = 200
    picture = annotate(ImageFrame(pixels, "rgb"), Detections2D.empty(), CLASSES)
    assert picture[5, 5].tolist() == [GREY, GREY, 200]


def test_padded_rows_are_read_right():
    padded = np.zeros((540, 1000, 3), np.uint8)
    padded[:, :960] = GREY
    picture = annotate(ImageFrame(padded[:, :960]), Detections2D.empty(), CLASSES)
    assert picture.shape == (540, 960, 3)
    assert (picture == GREY).all()


@pytest.mark.parametrize(
    "box",
    [(0, 0, 959, 539), (940, 0, 959, 20), (0, 530, 5, 539), (955, 535, 959, 539), (5, 5, 5, 5)],
)
def test_labels_stay_inside_the_image(box):
    picture = annotate(ImageFrame(image()), detections((*box, 0.5, 0)), CLASSES)
    # A label of "car 0.50" is about 65 x 17 pixels, letters and all.
    label = (picture == np.array(class_color(0))).all(axis=-1)
    assert label.sum() > 500
    assert has_color(picture, (0, 0, 0), 60)


@pytest.mark.parametrize("width", [96, 320, 960, 3840])
def test_labels_grow_with_the_image(width):
    height = width * 9 // 16
    box = (0.3 * width, 0.5 * height, 0.6 * width, 0.8 * height, 0.87, 0)
    picture = annotate(ImageFrame(image(width, height)), detections(box), CLASSES)
    rows = np.argwhere((picture != GREY).any(axis=-1))[:, 0]
    assert 0.01 * width <= 0.5 * height - rows.min() <= 0.1 * max(width, 200)


def test_the_best_detection_stands_on_top():
    rows = ((100, 100, 200, 200, 0.9, 0), (100, 100, 200, 200, 0.5, 1))
    picture = annotate(ImageFrame(image()), detections(*rows), CLASSES)
    assert tuple(picture[150, 100]) == class_color(0)


def test_classes_have_colours_of_their_own():
    colors = np.array([class_color(label) for label in range(20)])
    distances = np.abs(colors[:, None] - colors[None]).sum(axis=-1)
    assert distances[~np.eye(20, dtype=bool)].min() >= 20
    assert colors.max(axis=1).min() == 255


def test_letters_stand_out_from_every_class_colour():
    for label in range(30):
        picture = annotate(
            ImageFrame(image()), detections((100, 200, 300, 400, 0.5, label)), ["car"] * 30
        )
        tag = picture[185:199, 102:170].reshape(-1, 3) @ np.array([0.114, 0.587, 0.299])
        assert tag.max() - tag.min() > 70


def test_names_beyond_ascii_do_not_stop_it():
    picture = annotate(ImageFrame(image()), detections((100, 200, 300, 400, 0.5, 3)), CLASSES)
    assert (picture != GREY).any()


RED, ORANGE, PALE = (29, 49, 255), (0, 165, 255), (225, 225, 225)


def test_a_disagreement_shows_each_models_boxes_in_its_own_picture():
    # Frame 10: the car matches, the person is missed, a third class is extra.
    before, after = annotate_disagreement(image(160, 120), frame_record(10, True), CLASSES, 640)
    assert before.shape == after.shape == (480, 640, 3)
    # The missed person: 70 20 90 60 at four times the size.
    assert tuple(before[160, 280]) == RED
    assert not has_color(after, RED)
    # The false alarm: 100 70 140 110.
    assert tuple(after[360, 400]) == ORANGE
    assert not has_color(before, ORANGE)
    # The car that both see: 10 10 60 50, and a pixel further in the candidate's.
    assert tuple(before[150, 40]) == PALE
    assert tuple(after[150, 44]) == PALE


def test_a_large_image_is_made_smaller():
    record = frame_record(1, True)
    before, after = annotate_disagreement(image(1920, 1080), record, CLASSES, 640)
    assert before.shape == after.shape == (360, 640, 3)
    assert not has_color(before, RED)
    assert not has_color(after, ORANGE)


def test_a_frame_that_was_not_compared_is_refused():
    with pytest.raises(ValueError, match="/camera#3 was not compared"):
        annotate_disagreement(image(), frame_record(3, False), CLASSES, 640)
