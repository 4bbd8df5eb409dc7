# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""Bird's eye pictures: where points and boxes are drawn, pixel by pixel."""

from __future__ import annotations

import math

import numpy as np
import pytest
from helpers_metrics3d import CAR, PERSON, detections_3d, labels_3d
from hypothesis import given, settings
from hypothesis import strategies as st

from av_compress.data.kitti import CLASS_NAMES, KittiFolder
from av_compress.metrics.agreement3d import compare_frame_3d
from av_compress.report.bev import View, annotate_cloud, annotate_disagreement_3d, draw_cloud
from av_compress.report.pictures import AGREED, EXTRA, MISSED, class_color
from av_compress.tasks.base import Detections3D, PointCloud

NAMES = ("car", "person", "Fußgänger 行人")
# 60 m x 40 m at 10 pixels a metre; the sensor stands at column 200, row 400.
VIEW = View(ahead=40, behind=20, left=20, right=20, scale=10)
WHITE = (255, 255, 255)


def cloud(*points) -> PointCloud:
    return PointCloud(np.array(points, np.float32).reshape(-1, 4))


EMPTY = cloud()


def changed(picture, plain):
    """Return the rows and columns that differ."""
    return np.argwhere((picture != plain).any(axis=-1))


def near(pixels, column: float, row: float, reach: int = 2):
    """Return the pixels around a place."""
    c, r = round(column), round(row)
    return pixels[r - reach : r + reach + 1, c - reach : c + reach + 1].reshape(-1, 3)


def has(pixels, color) -> bool:
    return bool((pixels.reshape(-1, 3) == color).all(axis=1).any())


@pytest.mark.parametrize(
    ("x", "y", "column", "row"),
    [
        (10, 0, 200, 300),  # ahead is up
        (10, 5, 150, 300),  # left is left
        (-10.05, -5.05, 250, 500),
        (39.95, 19.95, 0, 0),  # the corners
        (-19.95, -19.95, 399, 599),
    ],
)
def test_a_point_is_drawn_where_it_is(x, y, column, row):
    plain = draw_cloud(EMPTY, VIEW)
    assert plain.shape == (600, 400, 3)
    places = changed(draw_cloud(cloud((x, y, 0, 0)), VIEW), plain)
    assert places.tolist() == [[row, column]]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(-60, 60), st.floats(-60, 60)), max_size=30))
def test_points_inside_are_drawn_and_others_are_not(places):
    points = np.array([(x, y, 0, 0) for x, y in places], np.float32).reshape(-1, 4)
    have = {tuple(place) for place in changed(draw_cloud(PointCloud(points), VIEW), _PLAIN)}
    inside = [(x, y) for x, y, _, _ in points.tolist() if -20 < x < 40 and -20 < y < 20]
    allowed = {
        (row, column)
        for x, y in inside
        for row in (math.floor((40 - x) * 10 + e) for e in (-1e-3, 1e-3))
        for column in (math.floor((20 - y) * 10 + e) for e in (-1e-3, 1e-3))
    }
    # The sensor's mark lies on top.
    assert have <= allowed
    for x, y in inside:
        row, column = (40 - x) * 10, (20 - y) * 10
        if math.hypot(row - 400, column - 200) > 10:
            assert any(abs(row - r - 0.5) < 0.6 and abs(column - c - 0.5) < 0.6 for r, c in have)


_PLAIN = draw_cloud(EMPTY, VIEW)


def test_the_higher_a_point_the_paler_and_on_top():
    ground = [(1.0 + 0.1 * index, 15, -1.7, 0) for index in range(50)]
    have = draw_cloud(cloud(*ground, (5, -5, 1.0, 0), (5, -5, -1.7, 0), (5, -7, -1.7, 0)), VIEW)
    high, low = have[350, 250].astype(int), have[350, 270].astype(int)
    assert (high > low + 50).all()


def test_points_that_lie_nowhere_are_left_out():
    bad = [(np.nan, 0, 0, 0), (5, np.inf, 0, 0), (5, 5, np.nan, 0), (-np.inf, 5, 0, 0)]
    np.testing.assert_array_equal(draw_cloud(cloud(*bad), VIEW), _PLAIN)


def test_rings_stand_at_their_distance():
    background = _PLAIN[5, 395]
    for metres in (10, 20):
        for angle in (0.4, 2.0, 2.8, 4.0):
            column = 200 - 10 * metres * math.sin(angle)
            row = 400 - 10 * metres * math.cos(angle)
            if 2 < column < 398 and 2 < row < 598:
                assert (near(_PLAIN, column, row, 1) != background).any()
    # Half way between two rings, away from the axes, there is nothing.
    column, row = 200 + 150 * math.sin(0.6), 400 - 150 * math.cos(0.6)
    assert (near(_PLAIN, column, row, 3) == background).all()


@pytest.mark.parametrize(("extent", "step"), [(12, 5), (40, 10), (90, 20)])
def test_the_wider_the_view_the_fewer_the_rings(extent, step):
    view = View(ahead=extent, behind=extent, left=extent, right=extent, scale=400 / extent)
    plain = draw_cloud(EMPTY, view)
    # Along a diagonal nothing is written.
    along = np.arange(1, extent * 1.2, 0.02)
    ways = view.pixels(np.stack([along, along], axis=1) / math.sqrt(2)).astype(int)
    found = along[(plain[ways[:, 1], ways[:, 0]] != plain[5, 5]).any(axis=1)]
    found = found[found > 15 / view.scale]  # Not the sensor.
    rings = np.rint(found / step) * step
    assert set(rings) == set(range(step, int(extent * 1.2), step))
    assert np.abs(found - rings).max() < 2.5 / view.scale


def box_corners(x, y, length, width, yaw):
    """Return columns and rows of the front left, rear left, rear right, front right corner."""
    found = []
    for along, across in ((1, 1), (-1, 1), (-1, -1), (1, -1)):
        dx, dy = along * length / 2, across * width / 2
        px = x + dx * math.cos(yaw) - dy * math.sin(yaw)
        py = y + dx * math.sin(yaw) + dy * math.cos(yaw)
        found.append((200 - 10 * py, 400 - 10 * px))
    return found


@pytest.mark.parametrize("yaw", [0.0, 0.7, math.pi / 2, -2.5])
def test_a_box_is_drawn_in_the_colour_of_its_class_its_front_thick(yaw):
    found = detections_3d((15, -4, 0, 6, 3, 1.5, yaw, 0.87, 1))
    picture = annotate_cloud(EMPTY, found, NAMES, VIEW)
    around = box_corners(15, -4, 6, 3, yaw)
    for column, row in around:
        assert has(near(picture, column, row), class_color(1))
    inked = []
    for first in range(4):
        middle = np.mean([around[first], around[(first + 1) % 4]], axis=0)
        inked.append(int((near(picture, *middle, 4) == class_color(1)).all(axis=1).sum()))
    # From the front right corner to the front left one.
    assert inked.index(max(inked)) == 3
    assert inked[3] > 1.5 * sorted(inked)[2]
    assert not has(picture[:, :200], class_color(0))


@pytest.mark.parametrize("place", [(39.5, -19.0), (-19.5, -19.5), (0, -19.8), (39.8, 0)])
def test_a_score_at_the_edge_is_not_cut_off(place):
    """It has as many pixels as in the middle; the boxes themselves are cut alike."""

    def written(x, y):
        found = detections_3d((x, y, 0, 0.2, 0.2, 1, 0, 0.88, 0))
        picture = annotate_cloud(EMPTY, found, NAMES, VIEW)
        column, row = VIEW.pixels(np.array([[x, y]]))[0]
        picture[: 8 + 18, : 34 + 60] = _PLAIN[: 8 + 18, : 34 + 60]  # The legend.
        picture[max(0, int(row) - 4) : int(row) + 5, max(0, int(column) - 4) : int(column) + 5] = 0
        color = np.array(class_color(0))
        return (np.abs(picture.astype(int) - color).max(axis=-1) < 60).sum()

    whole = written(10, 5)
    assert whole > 40
    assert written(*place) > 0.7 * whole


def test_what_both_see_stands_out_from_the_points():
    """The highest points are pale, but farther from white boxes than from the background."""
    picture = draw_cloud(cloud(*[(5, y, 0, 0) for y in range(9)], (10, 0, 30, 0)), VIEW)
    highest = near(picture, 200, 300, 0)[0].astype(int)
    assert highest.mean() > 130
    assert (np.array(AGREED) - highest).min() > 50


def test_a_legend_names_the_classes_that_are_there():
    found = detections_3d((15, -4, 0, *CAR, 0, 0.9, 0), (25, 4, 0, *PERSON, 0, 0.8, 2))
    picture = annotate_cloud(EMPTY, found, NAMES, VIEW)
    assert tuple(picture[14, 14]) == class_color(0)
    assert tuple(picture[32, 14]) == class_color(2)
    assert not has(picture, class_color(1))
    picture = annotate_cloud(EMPTY, found, NAMES, VIEW, labels_3d((5, 5, 0, *CAR, 0, 1)))
    assert tuple(picture[50, 14]) == WHITE


def test_true_boxes_are_white_and_ignored_ones_are_not():
    truth = labels_3d((20, 5, 0, *CAR, 0, 0), (20, -5, 0, *CAR, 0, 0, 1))
    picture = annotate_cloud(EMPTY, Detections3D.empty(), NAMES, VIEW, truth)
    assert has(picture[150:250, 100:190], WHITE)
    assert not has(picture[150:250, 210:300], WHITE)
    assert len(changed(picture[150:250, 210:300], _PLAIN[150:250, 210:300])) > 50


def test_the_best_detection_stands_on_top():
    rows = ((15, 0, 0, 6, 3, 1, 0, 0.9, 0), (15, 0, 0, 6, 3, 1, 0, 0.5, 1))
    picture = annotate_cloud(EMPTY, detections_3d(*rows), NAMES, VIEW)
    assert tuple(picture[250, 185]) == class_color(0)


def test_a_disagreement_shows_each_models_boxes_in_its_own_picture():
    reference = detections_3d((20, 5, 0, *CAR, 0, 0.9, 0), (30, -5, 0, *CAR, 0, 0.6, 0))
    candidate = detections_3d((20, 5.1, 0, *CAR, 0, 0.9, 0), (-10, 0, 0, *PERSON, 0, 0.6, 1))
    agreement = compare_frame_3d(reference, candidate)
    before, after = annotate_disagreement_3d(EMPTY, (reference, candidate), agreement, NAMES, VIEW)
    assert before.shape == after.shape == (600, 400, 3)
    scene = (slice(50, None), slice(None))
    assert has(before[60:140, 200:300], MISSED)
    assert not has(after[scene], MISSED)
    assert has(after[480:520, 180:220], EXTRA)
    assert not has(before[scene], EXTRA)
    for picture in (before, after):
        assert has(picture[170:230, 120:180], AGREED)
        assert tuple(picture[14, 14]) == AGREED
    assert (tuple(before[32, 14]), tuple(after[32, 14])) == (MISSED, EXTRA)


def test_pictures_do_not_share_what_is_drawn():
    annotate_cloud(EMPTY, detections_3d((15, 0, 0, *CAR, 0, 0.9, 0)), NAMES, VIEW)
    np.testing.assert_array_equal(draw_cloud(EMPTY, VIEW), _PLAIN)


@pytest.mark.parametrize(
    "box",
    [
        (500, 0, 0, *CAR, 0),
        (np.nan, 0, 0, *CAR, 0),
        (5, 5, 0, np.inf, 2, 1, 0),
        (1e30, 0, 0, *CAR, 0),
        (40, 0, 0, *CAR, 0),
        (5, 5, 0, 0, 0, 0, 0),
    ],
)
def test_boxes_outside_or_nowhere_do_not_stop_it(box):
    found = detections_3d((*box, 0.9, 0))
    picture = annotate_cloud(EMPTY, found, NAMES, VIEW)
    assert picture.shape == (600, 400, 3)
    assert annotate_cloud(EMPTY, found, NAMES).shape[2] == 3
    annotate_disagreement_3d(
        EMPTY, (found, Detections3D.empty()), compare_frame_3d(found, Detections3D.empty()), NAMES
    )


def test_a_view_shows_the_sensor_nearly_all_points_and_all_boxes():
    rng = np.random.default_rng(0)
    points = cloud(*rng.uniform((10, -8, -1, 0), (50, 12, 1, 1), (1000, 4)), (5000, 0, 0, 0))
    view = View.around(points, [np.array([[60, -30, 0, *CAR, 0]])], 800)
    assert (view.ahead, view.behind, view.left, view.right) == (65, 0, 15, 35)
    assert view.size == (round(50 * 800 / 65), 800)
    tight = View.around(EMPTY)
    assert (tight.ahead, tight.behind, tight.left, tight.right) == (10, 10, 10, 10)
    far = View.around(cloud((400, -300, 0, 0)))
    assert (far.ahead, far.behind, far.left, far.right) == (60, 0, 0, 60)
    boxes = np.array([[85, 300, 0, *CAR, 0], [2, 0, 0, *CAR, 0]])
    farther = View.around(cloud((400, -300, 0, 0)), [boxes])
    assert (farther.ahead, farther.behind, farther.left, farther.right) == (90, 0, 100, 60)


def test_a_view_of_a_range():
    view = View.of_range((0, -40, -3), (70, 40, 1), 800)
    assert (view.ahead, view.behind, view.left, view.right) == (70, 0, 40, 40)
    assert view.size == (800, 700)
    np.testing.assert_allclose(view.pixels(np.array([[70, 40], [0, -40]])), [[0, 0], [800, 700]])


@pytest.mark.shared_data
def test_real_labels_lie_on_what_is_drawn(shared_data):
    root = shared_data / "lidar" / "kitti"
    if not root.is_dir():
        pytest.skip(f"KITTI frames are absent: {root}")
    source = KittiFolder(root, "camera")
    seen, labels = source.read(0), source.labels(0)
    view = View.of_range((0, -20), (50, 20))
    picture, plain = draw_cloud(seen, view), draw_cloud(EMPTY, view)
    touched = (picture != plain).any(axis=-1)
    inside = 0
    for box in labels.boxes:
        column, row = view.pixels(box[None, :2].astype(float))[0]
        reach = round(2.2 * view.scale)
        c, r = round(column), round(row)
        inside += touched[max(0, r - reach) : r + reach, max(0, c - reach) : c + reach].any()
    assert inside == len(labels)
    assert annotate_cloud(seen, Detections3D.empty(), CLASS_NAMES, view, labels).shape == (
        960,
        768,
        3,
    )
